package sqlite

import (
	"context"
	"database/sql"
	"time"

	"catbird/persistence"
)

// StartSession inserts s with counter 0.
func (s *Store) StartSession(ctx context.Context, session persistence.Session) error {
	return s.writeUrgent(ctx, "start session", func(c *conn) error {
		_, err := c.exec(`INSERT INTO catbird_sessions (id, node, address, ttl_ms, started_at) VALUES (?1, ?2, ?3, ?4, ?5)`,
			session.ID, session.Node, session.Address, session.TTL.Milliseconds(), micros(time.Now()))
		return err
	})
}

// RenewSession adds one to the counter. There is one connection that writes;
// renewals take it before everybody else who waits.
func (s *Store) RenewSession(ctx context.Context, id string) error {
	return s.writeUrgent(ctx, "renew session", func(c *conn) error {
		n, err := c.exec(`UPDATE catbird_sessions SET counter = counter + 1 WHERE id = ?1 AND ended = 0`, id)
		if err == nil && n == 0 {
			err = persistence.ErrSessionOver
		}
		return err
	})
}

// LiveSessions returns every session that has not ended.
func (s *Store) LiveSessions(ctx context.Context) ([]persistence.Session, error) {
	var out []persistence.Session
	err := s.query(ctx, "list sessions", func(c *conn) error {
		return c.each(func(rows *sql.Rows) error {
			var one persistence.Session
			var ttl int64
			if err := rows.Scan(&one.ID, &one.Node, &one.Address, &ttl, &one.Counter); err != nil {
				return err
			}
			one.TTL = time.Duration(ttl) * time.Millisecond
			out = append(out, one)
			return nil
		}, `SELECT id, node, address, ttl_ms, counter FROM catbird_sessions WHERE ended = 0 ORDER BY id`)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// EndStalled ends a session whose counter is still seen.
func (s *Store) EndStalled(ctx context.Context, id string, seen int64) (ended bool, err error) {
	err = s.writeUrgent(ctx, "end stalled session", func(c *conn) error {
		n, err := c.exec(`UPDATE catbird_sessions SET ended = 1, ended_at = ?3 WHERE id = ?1 AND counter = ?2 AND ended = 0`,
			id, seen, micros(time.Now()))
		ended = n > 0
		return err
	})
	return ended && err == nil, err
}

// EndSession ends one's own session; one that is over or unknown stays so.
func (s *Store) EndSession(ctx context.Context, id string) error {
	return s.writeUrgent(ctx, "end session", func(c *conn) error {
		_, err := c.exec(`UPDATE catbird_sessions SET ended = 1, ended_at = ?2 WHERE id = ?1 AND ended = 0`, id, micros(time.Now()))
		return err
	})
}

// Want asks the holder's session to let go of a conversation. Wanting twice is
// wanting once.
func (s *Store) Want(ctx context.Context, holderSession, convo string) error {
	return s.write(ctx, "want conversation", func(c *conn) error {
		_, err := c.exec(`INSERT INTO catbird_wants (session, convo_id, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING`,
			holderSession, convo, micros(time.Now()))
		return err
	})
}

// Wanted returns and deletes what others want of session. Mostly that is
// nothing, and no transaction is needed to see it.
func (s *Store) Wanted(ctx context.Context, session string) ([]string, error) {
	var out []string
	list := func(c *conn) error {
		out = nil
		return c.each(func(rows *sql.Rows) error {
			var convo string
			if err := rows.Scan(&convo); err != nil {
				return err
			}
			out = append(out, convo)
			return nil
		}, `SELECT convo_id FROM catbird_wants WHERE session = ?1 ORDER BY convo_id`, session)
	}
	if err := s.query(ctx, "look for wants", list); err != nil || len(out) == 0 {
		return nil, err
	}
	err := s.write(ctx, "take wants", func(c *conn) error {
		if err := list(c); err != nil {
			return err
		}
		_, err := c.exec(`DELETE FROM catbird_wants WHERE session = ?1`, session)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
