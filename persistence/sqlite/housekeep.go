package sqlite

import (
	"context"
	"database/sql"
	"time"

	"catbird/persistence"
)

// Housekeep deletes one small batch of each kind of what has ended, each kind
// in a transaction of its own so that others get their turn between. A second
// caller at the same time is told Busy.
//
// What was used up is kept as long as a request may be repeated: a client that
// publishes the same key package again, not having heard the answer, must not
// bring it back to life.
func (s *Store) Housekeep(ctx context.Context, r persistence.Retention, batch int) (persistence.Removed, error) {
	if !s.housekeeping.TryLock() {
		return persistence.Removed{Busy: true}, nil
	}
	defer s.housekeeping.Unlock()
	batch = max(batch, 1)
	now := time.Now()
	before := func(kept time.Duration) int64 { return micros(now.Add(-kept)) }

	var out persistence.Removed
	steps := []struct {
		doing string
		count *int64
		do    func(*conn) (int64, error)
	}{
		// Counted first: messages are not deleted before that.
		{"fold what was left uncounted", &out.Folded, func(c *conn) (int64, error) { return foldLeft(c, batch) }},
		{"delete expired messages", &out.Messages, func(c *conn) (int64, error) { return trim(c, expiredMessages, micros(now), batch) }},
		{"delete old commits", &out.Commits, func(c *conn) (int64, error) {
			if r.Commits == 0 {
				return 0, nil
			}
			return trim(c, oldCommits, before(r.Commits), batch)
		}},
		{"delete key packages", &out.KeyPackages, deleting(deleteKeyPackages, micros(now), before(r.Requests), batch)},
		{"delete welcomes", &out.Welcomes, deleting(deleteWelcomes, before(r.Welcomes), batch)},
		{"delete records", &out.Requests, deleting(deleteRequests, before(r.Requests), batch)},
		{"delete ended sessions", &out.Sessions, deleting(deleteSessions, before(r.Sessions), batch)},
		{"delete wants", &out.Wants, deleting(deleteWants, batch)},
	}
	for _, step := range steps {
		err := s.write(ctx, step.doing, func(c *conn) (err error) {
			*step.count, err = step.do(c)
			return err
		})
		if err != nil {
			return persistence.Removed{}, err
		}
		out.More = out.More || *step.count >= int64(batch)
	}
	return out, nil
}

const (
	expiredMessages = `DELETE FROM messages WHERE catbird_no IN (
			SELECT m.catbird_no FROM messages m JOIN conversations c ON c.id = m.convo_id
			WHERE m.expires_at <= ?1 AND m.message_type = 'app' AND coalesce(m.seq, 0) <= c.catbird_folded_seq
			ORDER BY m.expires_at LIMIT ?2)
		RETURNING convo_id, coalesce(seq, 0)`
	oldCommits = `DELETE FROM messages WHERE catbird_no IN (
			SELECT catbird_no FROM messages WHERE created_at <= ?1 AND message_type = 'commit' ORDER BY created_at LIMIT ?2)
		RETURNING convo_id, coalesce(seq, 0)`
	deleteKeyPackages = `DELETE FROM catbird_key_packages WHERE id IN (
			SELECT id FROM catbird_key_packages WHERE expires_at <= ?1
			UNION ALL SELECT id FROM catbird_key_packages WHERE consumed <> 0 AND consumed_at <= ?2 LIMIT ?3)`
	deleteWelcomes = `DELETE FROM welcome_messages WHERE id IN (
			SELECT id FROM welcome_messages WHERE consumed <> 0 AND consumed_at <= ?1 LIMIT ?2)`
	deleteRequests = `DELETE FROM catbird_requests WHERE id IN (
			SELECT id FROM catbird_requests WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2)`
	deleteSessions = `DELETE FROM catbird_sessions WHERE id IN (
			SELECT id FROM catbird_sessions WHERE ended = 1 AND ended_at <= ?1 LIMIT ?2)`
	deleteWants = `DELETE FROM catbird_wants WHERE (session, convo_id) IN (
			SELECT w.session, w.convo_id FROM catbird_wants w
			WHERE NOT EXISTS (SELECT 1 FROM catbird_sessions s WHERE s.id = w.session AND s.ended = 0) LIMIT ?1)`
)

func deleting(text string, args ...any) func(*conn) (int64, error) {
	return func(c *conn) (int64, error) { return c.exec(text, args...) }
}

// foldLeft folds conversations that nobody serves: what a living session holds
// it folds itself.
func foldLeft(c *conn, batch int) (int64, error) {
	var convos []string
	err := c.each(func(rows *sql.Rows) error {
		var convo string
		err := rows.Scan(&convo)
		convos = append(convos, convo)
		return err
	}, `SELECT c.id FROM conversations c WHERE c.catbird_folded_seq < c.catbird_seq
			AND NOT EXISTS (SELECT 1 FROM catbird_sessions s WHERE s.id = c.catbird_claim AND s.ended = 0)
		LIMIT ?1`, batch)
	if err != nil {
		return 0, err
	}
	for _, convo := range convos {
		if _, err := fold(c, convo); err != nil {
			return 0, err
		}
	}
	return int64(len(convos)), nil
}

// trim deletes rows of logs and notes in each conversation up to where that
// was done: gaps up to there are no fault.
func trim(c *conn, text string, until int64, batch int) (int64, error) {
	trimmed := map[string]int64{}
	n := int64(0)
	err := c.each(func(rows *sql.Rows) error {
		var convo string
		var seq int64
		err := rows.Scan(&convo, &seq)
		trimmed[convo] = max(trimmed[convo], seq)
		n++
		return err
	}, text, until, batch)
	if err != nil {
		return 0, err
	}
	for convo, seq := range trimmed {
		_, err := c.exec(`UPDATE conversations SET catbird_trimmed_seq = max(catbird_trimmed_seq, ?2) WHERE id = ?1`, convo, seq)
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}
