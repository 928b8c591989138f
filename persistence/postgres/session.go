package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"catbird/persistence"
)

// All of sessions runs on the one connection that nothing else uses.

// StartSession inserts s with counter 0.
func (s *Store) StartSession(ctx context.Context, ses persistence.Session) error {
	if _, err := s.prepared(); err != nil {
		return err
	}
	return s.flight(ctx, s.session, "start a session", changes, func(b *pgx.Batch) {
		b.Queue(`INSERT INTO catbird_sessions (id, node, address, ttl_ms) VALUES ($1, $2, $3, $4)`,
			ses.ID, ses.Node, ses.Address, ses.TTL.Milliseconds())
	})
}

// RenewSession adds one to the counter of a session that has not ended.
func (s *Store) RenewSession(ctx context.Context, id string) error {
	if _, err := s.prepared(); err != nil {
		return err
	}
	return s.one(ctx, s.session, "renew the session", changes,
		`UPDATE catbird_sessions SET counter = counter + 1 WHERE id = $1 AND NOT ended RETURNING counter`,
		[]any{id}, func(row pgx.Row) error {
			var counter int64
			return overIfNone(row.Scan(&counter))
		})
}

func overIfNone(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return persistence.ErrSessionOver
	}
	return err
}

// LiveSessions returns every session that has not ended.
func (s *Store) LiveSessions(ctx context.Context) ([]persistence.Session, error) {
	if _, err := s.prepared(); err != nil {
		return nil, err
	}
	var out []persistence.Session
	err := s.many(ctx, s.session, "list the sessions",
		`SELECT id, node, address, ttl_ms, counter FROM catbird_sessions WHERE NOT ended ORDER BY id`, nil,
		func() { out = nil }, func(rows pgx.Rows) error {
			var ses persistence.Session
			var ttl int64
			if err := rows.Scan(&ses.ID, &ses.Node, &ses.Address, &ttl, &ses.Counter); err != nil {
				return err
			}
			ses.TTL = time.Duration(ttl) * time.Millisecond
			out = append(out, ses)
			return nil
		})
	return out, err
}

const endSessionSQL = `UPDATE catbird_sessions SET ended = true, ended_at = now() WHERE id = $1 AND NOT ended`

// EndStalled ends a session whose counter is still seen.
func (s *Store) EndStalled(ctx context.Context, id string, seen int64) (ended bool, err error) {
	if _, err := s.prepared(); err != nil {
		return false, err
	}
	err = s.many(ctx, s.session, "end a stalled session", endSessionSQL+` AND counter = $2 RETURNING id`, []any{id, seen},
		func() { ended = false }, func(rows pgx.Rows) error {
			ended = true
			return nil
		})
	return ended && err == nil, err
}

// EndSession ends one's own session, which frees whatever it still claims.
func (s *Store) EndSession(ctx context.Context, id string) error {
	if _, err := s.prepared(); err != nil {
		return err
	}
	return s.flight(ctx, s.session, "end the session", changes, func(b *pgx.Batch) { b.Queue(endSessionSQL, id) })
}

// Want asks the holder's session to let go of a conversation.
func (s *Store) Want(ctx context.Context, holderSession, convo string) error {
	if _, err := s.prepared(); err != nil {
		return err
	}
	return s.flight(ctx, s.session, "want a conversation", changes, func(b *pgx.Batch) {
		b.Queue(`INSERT INTO catbird_wants (session, convo_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, holderSession, convo)
	})
}

// Wanted returns and deletes what others want of session. A reply that is lost
// loses what it named: whoever still wants it says so again.
func (s *Store) Wanted(ctx context.Context, session string) ([]string, error) {
	if _, err := s.prepared(); err != nil {
		return nil, err
	}
	var out []string
	err := s.many(ctx, s.session, "read what is wanted",
		`DELETE FROM catbird_wants WHERE session = $1 RETURNING convo_id`, []any{session},
		func() { out = nil }, func(rows pgx.Rows) error {
			var id string
			err := rows.Scan(&id)
			out = append(out, id)
			return err
		})
	return out, err
}
