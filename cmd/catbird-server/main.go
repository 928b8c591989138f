// Command catbird-server is a node of Catbird, the delivery service for
// end-to-end encrypted group chat. It reads flags and the variables behind
// them, and exits with 0 after an orderly stop, 1 after a failure and 2 when it
// was not told something it can use.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"catbird/internal/config"
	"catbird/internal/obs"
)

const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

type cli struct {
	Serve   serveCmd         `cmd:"" default:"withargs" help:"Run a node. This is what is done when no command is given."`
	Dev     devCmd           `cmd:"" help:"Run a cluster in one process, with everything embedded; replay recorded groups on it while nodes stop and die, and keep it up to be tried out."`
	Migrate migrateCmd       `cmd:"" help:"Bring the database up to date, and exit."`
	Print   versionCmd       `cmd:"" name:"version" help:"Print the version."`
	Version kong.VersionFlag `name:"version" help:"Print the version."`
}

// streams are where a command writes.
type streams struct{ out, err io.Writer }

func main() { os.Exit(run(os.Args[1:], streams{os.Stdout, os.Stderr}, os.Exit)) }

// run does what args say and returns the exit code. exit ends the process, for
// --help and for a second interrupt.
func run(args []string, s streams, exit func(int)) int {
	if err := config.ForgetEmpty(); err != nil {
		return fail(s, exitUsage, err)
	}
	var c cli
	parser, err := kong.New(&c,
		kong.Name("catbird-server"),
		kong.Description("Delivery service for end-to-end encrypted group chat (MLS). Every flag can be set by the variable named behind it."),
		kong.Vars{"version": obs.Version()},
		kong.ValueFormatter(config.Help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.Writers(s.out, s.err), kong.Exit(exit),
	)
	if err != nil {
		return fail(s, exitFailure, err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		return fail(s, exitUsage, err)
	}
	ctx, stop := untilSignal(exit)
	defer stop()
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(s)
	if err := command.Run(); err != nil {
		var usage *usageError
		if errors.As(err, &usage) {
			return fail(s, exitUsage, err)
		}
		return fail(s, exitFailure, err)
	}
	return exitOK
}

// usageError is an error that the user can do something about.
type usageError struct{ error }

// Unwrap returns the cause.
func (e *usageError) Unwrap() error { return e.error }

func fail(s streams, code int, err error) int {
	fmt.Fprintln(s.err, "catbird-server: error:", strings.ReplaceAll(err.Error(), "\n", "; "))
	return code
}

// untilSignal returns a context that ends with the first SIGTERM or interrupt;
// the second one ends the process at once. stop undoes it.
func untilSignal(exit func(int)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 1; ; n++ {
			select {
			case <-done:
				return
			case sig := <-signals:
				if n > 1 {
					exit(exitFailure)
					return
				}
				cancel(fmt.Errorf("received %v", sig))
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		<-ended
		cancel(nil)
	}
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(s streams) error {
	_, err := fmt.Fprintln(s.out, obs.Version())
	return err
}
