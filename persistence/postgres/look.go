package postgres

import (
	"context"
	"errors"
)

// ErrNotMigrated says that the tables lack what this version adds to them.
var ErrNotMigrated = errors.New("the database was not brought up to date: run catbird-server migrate")

// Look makes the store ready as [Store.Prepare] does, but changes nothing: a
// database that was not migrated is ErrNotMigrated.
func (s *Store) Look(ctx context.Context) error {
	sch, err := s.inspect(ctx)
	if err != nil {
		return err
	}
	if !sch.has("messages", "catbird_v") || !sch.has("conversations", "catbird_trimmed_seq") {
		return ErrNotMigrated
	}
	s.statements.Store(newStatements(sch))
	return nil
}
