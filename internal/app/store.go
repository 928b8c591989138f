package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"catbird/internal/config"
	"catbird/persistence"
	"catbird/persistence/postgres"
	"catbird/persistence/sqlite"
)

// Store is a database that can be brought up to date.
type Store interface {
	persistence.Store
	// Prepare migrates. It may be called again after it failed.
	Prepare(ctx context.Context) error
}

var (
	_ Store = (*postgres.Store)(nil)
	_ Store = (*sqlite.Store)(nil)
)

// embeddedFile is what the embedded database is known by.
const embeddedFile = "catbird.db"

// OpenStore opens the database that cfg names, for the nodes of one process to
// share. It needs no PostgreSQL that answers; the embedded database is taken for
// this process. The caller closes it, after its nodes.
func OpenStore(ctx context.Context, cfg *config.Config, log *slog.Logger) (Store, error) {
	if cfg.Embedded() {
		s, err := sqlite.Open(ctx, sqlite.Config{Dir: cfg.Database.DataDir, Logger: log})
		if err != nil {
			return nil, fmt.Errorf("DATA_DIR: %w", err)
		}
		return s, nil
	}
	s, err := postgres.Open(ctx, postgres.Config{
		URL: cfg.Database.URL.Reveal(), MaxConnections: cfg.Database.MaxConnections, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	return s, nil
}

// Migrate brings the database that cfg names up to date, and goes on trying
// while it cannot be reached, until ctx ends.
func Migrate(ctx context.Context, cfg *config.Config, log *slog.Logger) (err error) {
	s, err := OpenStore(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return prepare(ctx, s, log.With("component", "app"))
}

// OpenExisting opens the database that cfg names as it is: nothing is created
// or migrated. The caller closes it.
func OpenExisting(ctx context.Context, cfg *config.Config, log *slog.Logger) (persistence.Store, error) {
	if cfg.Embedded() {
		if _, err := os.Stat(filepath.Join(cfg.Database.DataDir, embeddedFile)); err != nil {
			return nil, fmt.Errorf("there is no database of ours in %s: %w", cfg.Database.DataDir, err)
		}
	}
	s, err := OpenStore(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if db, ok := s.(*postgres.Store); ok {
		if err := db.Look(ctx); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}
