package apptest

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"catbird/internal/app"
	"catbird/internal/config"
	"catbird/internal/obs"
)

// Serve runs a node until SIGTERM, as the server's program does, with settings
// from the environment. A test's program that calls it is a server too, so that
// processes have the race detector where the tests have it.
func Serve() error {
	c, err := config.FromEnvironment()
	if err != nil {
		return err
	}
	levels, err := obs.ParseLevels(c.Log.Level)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	node, err := app.New(ctx, app.Options{Config: c, Logger: obs.NewLogger(os.Stderr, levels, c.Log.Format)})
	if err != nil {
		return err
	}
	return node.Run(ctx)
}
