package sqlite

import (
	"context"

	"catbird/conversation"
	"catbird/persistence"
)

// Append stores each unit whose conversation is still at the unit's base.
//
// A unit is looked at as a whole before anything of it is written, so nothing
// has to be taken back. Should the database refuse a row all the same (a log
// that somebody else has written to), the units are done again, each under a
// savepoint of its own.
func (s *Store) Append(ctx context.Context, units []*conversation.Unit) ([]persistence.AppendOutcome, error) {
	if len(units) == 0 {
		return nil, nil
	}
	out, err := s.appendAll(ctx, units, appendUnit)
	if err != nil && refusedRow(err) {
		s.log.Warn("the database refused a row, storing each unit alone", "units", len(units), "error", err)
		out, err = s.appendAll(ctx, units, s.appendAlone)
	}
	return out, err
}

type appender func(*conn, *conversation.Unit) (persistence.AppendOutcome, error)

func (s *Store) appendAll(ctx context.Context, units []*conversation.Unit, one appender) ([]persistence.AppendOutcome, error) {
	out := make([]persistence.AppendOutcome, len(units))
	err := s.write(ctx, "append", func(c *conn) (err error) {
		for i, u := range units {
			if out[i], err = one(c, u); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func appendUnit(c *conn, u *conversation.Unit) (persistence.AppendOutcome, error) {
	if ok, err := atBase(c, u); err != nil || !ok {
		return persistence.Conflict, err
	}
	if ok, err := unused(c, u); err != nil || !ok {
		return persistence.Conflict, err
	}
	if ok, err := keyPackagesFree(c, u.KeyPackages); err != nil || !ok {
		return persistence.KeyPackageGone, err
	}
	return persistence.Appended, apply(c, u)
}

func (s *Store) appendAlone(c *conn, u *conversation.Unit) (persistence.AppendOutcome, error) {
	if _, err := c.exec("SAVEPOINT unit"); err != nil {
		return 0, err
	}
	outcome, err := appendUnit(c, u)
	if err != nil && refusedRow(err) {
		s.log.Error("the database refused a unit", "convo", u.Convo, "error", err)
		outcome = persistence.Failed
		_, err = c.exec("ROLLBACK TO unit")
	}
	if err != nil {
		return 0, err
	}
	_, err = c.exec("RELEASE unit")
	return outcome, err
}

// atBase reports whether a unit's conversation is what the unit was built on.
func atBase(c *conn, u *conversation.Unit) (bool, error) {
	var at conversation.Version
	found, err := c.row(`SELECT current_epoch, catbird_seq, catbird_fence FROM conversations WHERE id = ?1`, u.Convo).
		found(&at.Epoch, &at.Seq, &at.Fence)
	return found && at == u.Base, err
}

// unused reports whether none of a unit's changes has happened: neither their
// ids nor their keys are there.
func unused(c *conn, u *conversation.Unit) (bool, error) {
	var used bool
	var err error
	if len(u.IDs) == 1 {
		err = c.row(`SELECT EXISTS (SELECT 1 FROM messages WHERE id = ?1) OR EXISTS (SELECT 1 FROM catbird_requests WHERE id = ?1)`,
			u.IDs[0]).scan(&used)
	} else {
		err = c.row(`
			SELECT EXISTS (SELECT 1 FROM messages WHERE id IN (SELECT value FROM json_each(?1)))
				OR EXISTS (SELECT 1 FROM catbird_requests WHERE id IN (SELECT value FROM json_each(?1)))`,
			jsonList(u.IDs)).scan(&used)
	}
	if err != nil || used {
		return false, err
	}
	for i := range u.Records {
		r := &u.Records[i]
		e, err := byKey(c, u.Convo, persistence.Ref{Caller: r.Caller, Endpoint: r.Endpoint, Key: r.Key})
		if err != nil || e != nil {
			return false, err
		}
	}
	return true, nil
}
