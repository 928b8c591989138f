package chaos

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"
	"go.uber.org/goleak"

	"catbird/internal/app"
	"catbird/internal/config"
	"catbird/internal/obs"
)

// This test program is the server, too, so that what runs in chaos has the race
// detector where the tests have it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := serve(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func serve(args []string) error {
	var c config.Config
	parser, err := kong.New(&c)
	if err != nil {
		return err
	}
	if _, err := parser.Parse(args); err != nil {
		return err
	}
	if err := c.Complete(); err != nil {
		return err
	}
	if err := c.Check(); err != nil {
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

// program returns this program.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}
