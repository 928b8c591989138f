package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"catbird/internal/broken"
	"catbird/persistence"
)

// claimSQL claims what may be claimed, and brings the row up to its log.
// Conversations that hold none of our rows have nothing to fold.
const claimSQL = `
UPDATE conversations c SET
	catbird_claim = $2,
	catbird_fence = coalesce(c.catbird_fence, 0) + 1,
	current_epoch = l.epoch,
	catbird_seq = l.seq,
	catbird_folded_seq = CASE WHEN c.catbird_folded_seq IS NULL AND l.marked IS NULL THEN l.seq ELSE c.catbird_folded_seq END
FROM (
	SELECT c.ctid AS at, ` + currentEpoch + ` AS epoch, ` + currentSeq + ` AS seq, ` + maxMarkedSeq + ` AS marked
	FROM unnest($1::text[]) u (id)
	CROSS JOIN LATERAL (SELECT c.ctid, c.* FROM conversations c WHERE c.id = u.id OFFSET 0) c
) l
WHERE c.ctid = l.at
	AND (SELECT NOT s.ended FROM catbird_sessions s WHERE s.id = $2)
	AND (c.catbird_claim IS NULL OR c.catbird_claim = $2
		OR (SELECT NOT s.ended FROM catbird_sessions s WHERE s.id = c.catbird_claim) IS NOT TRUE)
RETURNING c.id`

const sessionLiveSQL = `SELECT EXISTS (SELECT FROM catbird_sessions s WHERE s.id = $1 AND NOT s.ended)`

// Claim claims each of ids for session and loads it, all in one transaction.
func (s *Store) Claim(ctx context.Context, session string, ids []string) ([]persistence.Claimed, error) {
	if _, err := s.prepared(); err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var live bool
	var granted map[string]bool
	var found map[string]*loaded
	err := s.flight(ctx, s.journal, "claim", changes, func(b *pgx.Batch) {
		granted = make(map[string]bool, len(ids))
		b.Queue(lockSQL, ids)
		b.Queue(claimStatement(), ids, session).Query(each(func(rows pgx.Rows) error {
			var id string
			err := rows.Scan(&id)
			granted[id] = true
			return err
		}))
		found = queueLoad(b, stateByRowSQL, ids)
		b.Queue(sessionLiveSQL, session).QueryRow(func(row pgx.Row) error { return row.Scan(&live) })
	})
	if err != nil {
		return nil, err
	}
	if !live {
		return nil, persistence.ErrSessionOver
	}
	out := make([]persistence.Claimed, len(ids))
	for i, id := range ids {
		out[i] = claimed(id, found[id], granted[id])
	}
	return out, nil
}

func claimed(id string, l *loaded, granted bool) persistence.Claimed {
	c := persistence.Claimed{Convo: id}
	switch {
	case l == nil:
		c.Outcome = persistence.ClaimNotFound
	case !granted:
		c.Outcome, c.Holder = persistence.ClaimHeld, l.holder
	default:
		l.finish()
		c.Outcome, c.State, c.Fence, c.Unfolded = persistence.ClaimGranted, l.state, l.row.Fence, l.row.Seq > l.folded
	}
	return c
}

const releaseSQL = `
UPDATE conversations c SET catbird_claim = NULL
FROM (
	SELECT c.at FROM unnest($1::text[], $2::bigint[]) r (id, fence)
	CROSS JOIN LATERAL (
		SELECT c.ctid AS at FROM conversations c WHERE c.id = r.id AND c.catbird_claim = $3 AND c.catbird_fence = r.fence OFFSET 0
	) c
) r
WHERE c.ctid = r.at`

// Release lets go of those of claims that session still holds with that fence.
func (s *Store) Release(ctx context.Context, session string, claims []persistence.Claim) error {
	if _, err := s.prepared(); err != nil {
		return err
	}
	if len(claims) == 0 {
		return nil
	}
	ids, fences := make([]string, len(claims)), make([]int64, len(claims))
	for i, c := range claims {
		ids[i], fences[i] = c.Convo, c.Fence
	}
	return s.flight(ctx, s.journal, "release", changes, func(b *pgx.Batch) {
		b.Queue(lockSQL, ids)
		b.Queue(releaseStatement(), ids, fences, session)
	})
}

func claimStatement() string {
	if broken.Is(broken.ReloadKeepsFence) {
		return strings.Replace(claimSQL, "coalesce(c.catbird_fence, 0) + 1",
			"coalesce(c.catbird_fence, 0) + CASE WHEN c.catbird_claim = $2 THEN 0 ELSE 1 END", 1)
	}
	return claimSQL
}

func releaseStatement() string {
	if broken.Is(broken.ReleaseWithoutFence) {
		return strings.Replace(releaseSQL, "c.catbird_fence = r.fence", "r.fence IS NOT NULL", 1)
	}
	return releaseSQL
}
