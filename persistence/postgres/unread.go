package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// foldSQL counts, in conversations that are locked, our application messages
// beyond what each active member is counted up to.
//
// Members and messages are laid in one line from the newest seq down; running
// sums over it give each member the messages beyond its own place, in all and
// by itself. So the cost is one sort of members and uncounted messages, however
// the members' places differ.
const foldSQL = `
WITH conv AS MATERIALIZED (
	SELECT c.* FROM unnest($1::text[]) u (id)
	CROSS JOIN LATERAL (
		SELECT c.id, c.ctid AS at, c.catbird_seq AS seq FROM conversations c
		WHERE c.id = u.id AND c.catbird_seq > coalesce(c.catbird_folded_seq, 0) OFFSET 0
	) c
), mem AS MATERIALIZED (
	SELECT conv.id, conv.seq, m.did, m.counted FROM conv
	CROSS JOIN LATERAL (
		SELECT m.member_did AS did, coalesce(m.catbird_counted_seq, (
			SELECT max(g.seq) FROM messages g
			WHERE g.convo_id = conv.id AND g.catbird_v IS NOT NULL AND g.created_at <= m.joined_at), 0) AS counted
		FROM members m WHERE m.convo_id = conv.id AND m.left_at IS NULL OFFSET 0
	) m WHERE m.counted < conv.seq
), low AS MATERIALIZED (
	SELECT id, seq, min(counted) AS counted FROM mem GROUP BY id, seq
), line AS (
	SELECT id, seq, counted AS place, did, 0 AS message FROM mem
	UNION ALL
	SELECT low.id, low.seq, g.seq, g.sender_did, 1 FROM low
	CROSS JOIN LATERAL (
		SELECT g.seq, g.sender_did FROM messages g
		WHERE g.convo_id = low.id AND g.catbird_v IS NOT NULL AND g.message_type = 'app' AND g.seq > low.counted AND g.seq <= low.seq
		OFFSET 0
	) g
), sums AS MATERIALIZED (
	SELECT id, seq, did, message,
		sum(message) OVER (PARTITION BY id ORDER BY place DESC, message ROWS UNBOUNDED PRECEDING) AS total,
		sum(message) OVER (PARTITION BY id, did ORDER BY place DESC, message ROWS UNBOUNDED PRECEDING) AS own
	FROM line
), counted AS (
	UPDATE members m SET unread_count = coalesce(m.unread_count, 0) + sums.total - sums.own, catbird_counted_seq = sums.seq
	FROM sums WHERE sums.message = 0 AND m.convo_id = sums.id AND m.member_did = sums.did
)
UPDATE conversations c SET catbird_folded_seq = conv.seq FROM conv WHERE c.ctid = conv.at`

func queueFold(b *pgx.Batch, convos []string) *pgx.QueuedQuery { return b.Queue(foldSQL, convos) }

// Fold counts what unread counts do not hold yet.
func (s *Store) Fold(ctx context.Context, convos []string) error {
	if _, err := s.prepared(); err != nil {
		return err
	}
	if len(convos) == 0 {
		return nil
	}
	return s.flight(ctx, s.journal, "count unread messages", changes, func(b *pgx.Batch) {
		b.Queue(lockSQL, convos)
		queueFold(b, convos)
	})
}

// resetSQL sets a member's place to what it has read, unless it stands beyond,
// and counts anew. Ours count up to the place, and after it with the next fold;
// those of the old server were counted when they were written.
const resetSQL = `
UPDATE members m SET
	catbird_counted_seq = k.counted,
	unread_count = (
		SELECT count(*) FROM messages g WHERE g.convo_id = $1 AND g.catbird_v IS NOT NULL AND g.message_type = 'app'
			AND g.seq > k.read AND g.seq <= k.counted AND g.sender_did IS DISTINCT FROM $2
	) + (
		SELECT count(*) FROM messages g WHERE g.convo_id = $1 AND g.catbird_v IS NULL AND g.message_type = 'app'
			AND coalesce(g.seq, 0) > k.read AND g.sender_did IS DISTINCT FROM $2
	)
FROM (
	SELECT r.read, greatest(r.read, coalesce(m.catbird_counted_seq, 0)) AS counted
	FROM (SELECT least($3::bigint, ` + currentSeq + `) AS read FROM conversations c WHERE c.id = $1 OFFSET 0) r
	CROSS JOIN members m WHERE m.convo_id = $1 AND m.member_did = $2
	OFFSET 0
) k
WHERE m.convo_id = $1 AND m.member_did = $2 AND m.left_at IS NULL`

// ResetUnread makes what the caller has not read the messages after seq.
func (s *Store) ResetUnread(ctx context.Context, convo, caller string, seq int64) error {
	if _, err := s.prepared(); err != nil {
		return err
	}
	return s.flight(ctx, s.main, "reset unread messages", changes, func(b *pgx.Batch) {
		b.Queue(lockSQL, []string{convo})
		b.Queue(resetSQL, convo, caller, seq)
	})
}
