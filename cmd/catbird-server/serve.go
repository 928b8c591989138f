package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"catbird/internal/app"
	"catbird/internal/config"
	"catbird/internal/obs"
)

type serveCmd struct {
	config.Config `embed:""`
}

// Run serves until ctx ends, and stops in order.
func (c *serveCmd) Run(ctx context.Context, s streams) error {
	if err := prepare(&c.Config); err != nil {
		return err
	}
	log, err := newLogger(s, c.Log)
	if err != nil {
		return err
	}
	node, err := app.New(ctx, app.Options{Config: c.Config, Logger: log})
	if err != nil {
		return err
	}
	return node.Run(ctx)
}

// prepare completes and checks what the user has set.
func prepare(c *config.Config) error {
	if err := c.Complete(); err != nil {
		return &usageError{err}
	}
	if err := c.Check(); err != nil {
		return &usageError{err}
	}
	return nil
}

func newLogger(s streams, c config.Log) (*slog.Logger, error) {
	levels, err := obs.ParseLevels(c.Level)
	if err != nil {
		return nil, &usageError{fmt.Errorf("LOG_LEVEL: %w", err)}
	}
	return obs.NewLogger(s.err, levels, c.Format), nil
}

type migrateCmd struct {
	config.Database `embed:"" group:"Database"`
	config.Log      `embed:"" group:"Logs"`
	Timeout         time.Duration `name:"timeout" default:"10m" help:"How long to go on trying while the database cannot be reached, and to migrate."`
}

// Run migrates and returns.
func (c *migrateCmd) Run(ctx context.Context, s streams) error {
	all := config.Default()
	all.Database, all.Log = c.Database, c.Log
	if err := prepare(&all); err != nil {
		return err
	}
	log, err := newLogger(s, c.Log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	return app.Migrate(ctx, &all, log)
}
