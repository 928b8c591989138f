package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"catbird/persistence"
)

// housekeepingLock is held by the node that is at it.
const housekeepingLock = 0x63617462697265 // "catbire", the next to the migrations'

// defaultBatch is how many rows of a kind one round deletes at most.
const defaultBatch = 500

// sweepFactor is how many conversations a round looks at for each row that it
// may delete.
const sweepFactor = 10

// Housekeep deletes one batch of each kind of what has ended, and goes on
// through the conversations where the last round stopped: for messages that a
// crash left uncounted, and old commits. The lock belongs to a connection, so a
// node that dies lets go of it.
func (s *Store) Housekeep(ctx context.Context, r persistence.Retention, batch int) (removed persistence.Removed, err error) {
	st, err := s.prepared()
	if err != nil {
		return persistence.Removed{}, err
	}
	if batch <= 0 {
		batch = defaultBatch
	}
	conn, err := s.main.acquire(ctx)
	if err != nil {
		return persistence.Removed{}, fmt.Errorf("keep house: %w", err)
	}
	defer func() { s.main.done(conn, err) }()
	locked := false
	err = fly(ctx, conn.Conn(), "keep house", changes, func(b *pgx.Batch) {
		b.Queue("SELECT pg_try_advisory_lock($1)", int64(housekeepingLock)).QueryRow(func(row pgx.Row) error { return row.Scan(&locked) })
	})
	if err != nil || !locked {
		return persistence.Removed{Busy: err == nil}, err
	}
	defer unlock(ctx, conn)
	h := &round{ctx: ctx, s: s, st: st, conn: conn.Conn(), retention: r, batch: batch}
	err = h.run()
	return h.removed, err
}

// unlock gives the lock back, with the connection if need be.
func unlock(ctx context.Context, conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", int64(housekeepingLock)); err != nil {
		_ = conn.Conn().Close(ctx)
	}
}

// round is one round of housekeeping.
type round struct {
	ctx       context.Context
	s         *Store
	st        *statements
	conn      *pgx.Conn
	retention persistence.Retention
	batch     int
	removed   persistence.Removed
}

func (h *round) run() error {
	for _, step := range []func() error{h.messages, h.small, h.sweep} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (h *round) fly(doing string, build func(*pgx.Batch)) error {
	return fly(h.ctx, h.conn, doing, changes, build)
}

// full notes that a batch was full.
func (h *round) full(n int64) {
	if n >= int64(h.batch) {
		h.removed.More = true
	}
}

const (
	expiredSQL = `
SELECT m.id, m.convo_id, m.catbird_v IS NOT NULL
		AND m.seq > (SELECT coalesce(c.catbird_folded_seq, 0) FROM conversations c WHERE c.id = m.convo_id)
FROM messages m WHERE m.expires_at IS NOT NULL AND m.message_type = 'app' AND m.expires_at <= now()
ORDER BY m.expires_at LIMIT $1`

	// trimSQL deletes messages that are counted, and notes up to where, so that
	// the hole they leave is known to be none. It finds them by id: the index on
	// their end would lead it through all that have ended.
	trimSQL = `
WITH gone AS (
	DELETE FROM messages m WHERE m.id = ANY($1::text[]) AND m.convo_id = ANY($2::text[]) AND {due}
	RETURNING m.convo_id, coalesce(m.seq, 0) AS seq
), top AS (
	SELECT convo_id, max(seq) AS seq FROM gone GROUP BY convo_id
), noted AS (
	UPDATE conversations c SET catbird_trimmed_seq = greatest(c.catbird_trimmed_seq, top.seq)
	FROM top WHERE c.id = top.convo_id AND c.id = ANY($2::text[])
)
SELECT count(*) FROM gone`
)

var (
	trimExpiredSQL = fill(trimSQL, "due", `m.message_type = 'app' AND coalesce(m.expires_at, 'infinity') <= now() AND (m.catbird_v IS NULL
		OR coalesce(m.seq <= (SELECT coalesce(c.catbird_folded_seq, 0) FROM conversations c WHERE c.id = m.convo_id), true))`)
	trimCommitsSQL = fill(trimSQL, "due", `m.message_type = 'commit' AND m.created_at <= now() - make_interval(secs => $3)
		AND m.epoch < (SELECT `+newestCommit+` FROM conversations c WHERE c.id = m.convo_id)`)
)

// messages deletes expired messages, after counting those that are not.
func (h *round) messages() error {
	var ids, uncounted []string
	var convos map[string]bool
	err := h.fly("find expired messages", func(b *pgx.Batch) {
		ids, uncounted, convos = nil, nil, map[string]bool{}
		behind := map[string]bool{}
		b.Queue(expiredSQL, h.batch).Query(each(func(rows pgx.Rows) error {
			var id, convo string
			var unfolded *bool
			if err := rows.Scan(&id, &convo, &unfolded); err != nil {
				return err
			}
			ids, convos[convo] = append(ids, id), true
			if unfolded != nil && *unfolded && !behind[convo] {
				behind[convo] = true
				uncounted = append(uncounted, convo)
			}
			return nil
		}))
	})
	if err != nil || len(ids) == 0 {
		return err
	}
	if err := h.fold(uncounted); err != nil {
		return err
	}
	n, err := h.trim(trimExpiredSQL, ids, convos)
	h.removed.Messages = n
	h.full(n)
	return err
}

// trim deletes rows of the log under the locks of their conversations.
func (h *round) trim(sql string, ids []string, convos map[string]bool, more ...any) (n int64, err error) {
	locked := make([]string, 0, len(convos))
	for id := range convos {
		locked = append(locked, id)
	}
	err = h.fly("delete old messages", func(b *pgx.Batch) {
		b.Queue(lockSQL, locked)
		b.Queue(sql, append([]any{ids, locked}, more...)...).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	})
	return n, err
}

func (h *round) fold(convos []string) error {
	if len(convos) == 0 {
		return nil
	}
	var n int64
	err := h.fly("count unread messages", func(b *pgx.Batch) {
		b.Queue(lockSQL, convos)
		queueFold(b, convos).Exec(func(tag pgconn.CommandTag) error {
			n = tag.RowsAffected()
			return nil
		})
	})
	if err == nil {
		h.removed.Folded += n
	}
	return err
}

const (
	purgeRequestsSQL = `DELETE FROM catbird_requests WHERE id IN (SELECT id FROM catbird_requests
	WHERE created_at <= now() - make_interval(secs => $1) ORDER BY created_at LIMIT $2)`
	purgeSessionsSQL = `DELETE FROM catbird_sessions WHERE id IN (SELECT id FROM catbird_sessions
	WHERE ended AND ended_at <= now() - make_interval(secs => $1) LIMIT $2)`
	purgeWantsSQL = `DELETE FROM catbird_wants WHERE (session, convo_id) IN (SELECT w.session, w.convo_id FROM catbird_wants w
	WHERE (SELECT NOT s.ended FROM catbird_sessions s WHERE s.id = w.session) IS NOT TRUE LIMIT $1)`
)

// small deletes what is neither locked nor counted.
func (h *round) small() error {
	for _, kind := range []struct {
		doing string
		sql   string
		args  []any
		count *int64
	}{
		{"delete key packages", h.st.purgeKeyPackages, []any{h.batch}, &h.removed.KeyPackages},
		{"delete welcomes", h.st.purgeWelcomes, []any{h.retention.Welcomes.Seconds(), h.batch}, &h.removed.Welcomes},
		{"delete records of requests", purgeRequestsSQL, []any{h.retention.Requests.Seconds(), h.batch}, &h.removed.Requests},
		{"delete sessions", purgeSessionsSQL, []any{h.retention.Sessions.Seconds(), h.batch}, &h.removed.Sessions},
		{"delete wants", purgeWantsSQL, []any{h.batch}, &h.removed.Wants},
	} {
		err := h.fly(kind.doing, func(b *pgx.Batch) {
			b.Queue(kind.sql, kind.args...).Exec(func(tag pgconn.CommandTag) error {
				*kind.count = tag.RowsAffected()
				return nil
			})
		})
		if err != nil {
			return err
		}
		h.full(*kind.count)
	}
	return nil
}

// sweepSQL goes through conversations by id.
const sweepSQL = `
SELECT c.id, coalesce(c.catbird_seq, 0) > coalesce(c.catbird_folded_seq, 0) AND {has_marked}
FROM conversations c WHERE c.id > $1 ORDER BY c.id LIMIT $2`

var sweepText = fill(sweepSQL, "has_marked", maxMarkedSeq+` > coalesce(c.catbird_folded_seq, 0)`)

// newestCommit is the epoch of the newest commit of c.
const newestCommit = `greatest(` + maxOurEpoch + `, ` + maxOldEpoch + `)`

// oldCommitsSQL looks at the oldest commits of each conversation.
const oldCommitsSQL = `
SELECT g.id, c.id FROM unnest($1::text[]) u (id)
CROSS JOIN LATERAL (SELECT c.id, ` + newestCommit + ` AS newest FROM conversations c WHERE c.id = u.id OFFSET 0) c
CROSS JOIN LATERAL (
	(SELECT m.id, m.epoch, m.created_at FROM messages m
		WHERE m.convo_id = c.id AND m.catbird_v IS NOT NULL AND m.message_type = 'commit' ORDER BY m.epoch LIMIT $3)
	UNION ALL
	(SELECT m.id, m.epoch, m.created_at FROM messages m
		WHERE m.convo_id = c.id AND m.catbird_v IS NULL AND m.message_type = 'commit' ORDER BY m.epoch, m.created_at, m.id LIMIT $3)
) g
WHERE g.epoch < c.newest AND g.created_at <= now() - make_interval(secs => $2) LIMIT $3`

// sweep looks at the next conversations.
func (h *round) sweep() error {
	h.s.sweepMu.Lock()
	from := h.s.sweepAt
	h.s.sweepMu.Unlock()
	limit := h.batch * sweepFactor
	var ids, unfolded []string
	err := h.fly("go through conversations", func(b *pgx.Batch) {
		ids, unfolded = nil, nil
		b.Queue(sweepText, from, limit).Query(each(func(rows pgx.Rows) error {
			var id string
			var behind *bool
			err := rows.Scan(&id, &behind)
			ids = append(ids, id)
			if behind != nil && *behind {
				unfolded = append(unfolded, id)
			}
			return err
		}))
	})
	if err != nil {
		return err
	}
	for len(unfolded) > 0 {
		n := min(len(unfolded), h.batch)
		if err := h.fold(unfolded[:n]); err != nil {
			return err
		}
		unfolded = unfolded[n:]
	}
	done, err := h.commits(ids)
	if err != nil {
		return err
	}
	next := ""
	switch {
	case !done:
		next = from
	case len(ids) == limit:
		next = ids[len(ids)-1]
	}
	h.s.sweepMu.Lock()
	h.s.sweepAt = next
	h.s.sweepMu.Unlock()
	return nil
}

// commits deletes commits that are older than their retention, never the
// newest of a conversation. done is false when more are left.
func (h *round) commits(convos []string) (done bool, err error) {
	if h.retention.Commits <= 0 || len(convos) == 0 {
		return true, nil
	}
	var ids []string
	var of map[string]bool
	err = h.fly("find old commits", func(b *pgx.Batch) {
		ids, of = nil, map[string]bool{}
		b.Queue(oldCommitsSQL, convos, h.retention.Commits.Seconds(), h.batch).Query(each(func(rows pgx.Rows) error {
			var id, convo string
			err := rows.Scan(&id, &convo)
			ids, of[convo] = append(ids, id), true
			return err
		}))
	})
	if err != nil || len(ids) == 0 {
		return true, err
	}
	n, err := h.trim(trimCommitsSQL, ids, of, h.retention.Commits.Seconds())
	h.removed.Commits = n
	h.full(n)
	return len(ids) < h.batch, err
}
