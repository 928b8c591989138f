package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"catbird/internal/app"
	"catbird/internal/config"
	"catbird/internal/ctl"
	"catbird/operator"
	"catbird/persistence"
)

// errFound says that a check found something; it was printed.
var errFound = errors.New("something was found")

type checkCmd struct {
	Database config.Secret `name:"database" env:"DATABASE_URL" help:"postgresql://… or the folder of an embedded database that no node has open; none: ask the node."`
	Since    string        `name:"since" help:"Look only at what was written so long ago or later, such as 48h or 7d; none: everything."`
}

// Run looks through the data.
func (c *checkCmd) Run(ctx context.Context, t *tool) error {
	back, err := operator.ParseSince(c.Since)
	if err != nil {
		return fmt.Errorf("--since: %w", err)
	}
	var found persistence.Integrity
	if c.Database != "" {
		err = withDatabase(ctx, t.within(checkTimeout), c.Database, func(ctx context.Context, db database) (err error) {
			found, err = db.Integrity(ctx, operator.Since(time.Now(), back))
			return err
		})
	} else {
		found, err = c.askNode(ctx, t)
	}
	if err != nil {
		return err
	}
	if err := write(t, found, ctl.Integrity); err != nil {
		return err
	}
	if !found.Clean() {
		return errFound
	}
	return nil
}

func (c *checkCmd) askNode(ctx context.Context, t *tool) (persistence.Integrity, error) {
	node, err := t.node(ctx, t.within(checkTimeout))
	if err != nil {
		return persistence.Integrity{}, err
	}
	return node.Integrity(ctx, c.Since)
}

// database is what the tool asks of one.
type database interface {
	Overview(ctx context.Context, convo string) (persistence.Overview, error)
	Integrity(ctx context.Context, since time.Time) (persistence.Integrity, error)
}

// withDatabase opens the database that where names, as it is, for f, which has
// that long.
func withDatabase(ctx context.Context, limit time.Duration, where config.Secret, f func(context.Context, database) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cfg := config.Default()
	if strings.Contains(where.Reveal(), "://") {
		cfg.Database.URL, cfg.Database.MaxConnections = where, 4
	} else {
		cfg.Database.DataDir = where.Reveal()
	}
	if err := cfg.Complete(); err != nil {
		return err
	}
	if err := cfg.Check(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := app.OpenExisting(ctx, &cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return f(ctx, db)
}
