// Command catbird-load puts load on a running cluster of Catbird, measures what
// clients see of it, and checks that everything acknowledged is there. It exits
// with 0; with 1 when something was wrong or the run could not be made; with 2
// when it was not told something it can use.
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
	"golang.org/x/term"

	"catbird/internal/config"
	"catbird/internal/load"
	"catbird/internal/obs"
)

const (
	exitOK    = 0
	exitWrong = 1
	exitUsage = 2
)

const description = `Load generator of Catbird: creates conversations on a running cluster, lets clients work on them, and reads everything back.

Exits with 0; with 1 when something was wrong or the run could not be made; with 2 when it was not told something it can use. ` +
	`Ctrl-C ends the load early, with a report; a second one ends it at once.`

// streams are what the tool is connected to.
type streams struct {
	out, err io.Writer
	// columns returns how wide the terminal is that err goes to, 0 if it goes to
	// none.
	columns func() int
}

func main() {
	os.Exit(run(os.Args[1:], streams{out: os.Stdout, err: os.Stderr, columns: columnsOf(os.Stderr)}, os.Exit))
}

func columnsOf(f *os.File) func() int {
	const usual = 80
	fd := int(f.Fd())
	if !term.IsTerminal(fd) || os.Getenv("TERM") == "dumb" {
		return func() int { return 0 }
	}
	return func() int {
		if w, _, err := term.GetSize(fd); err == nil && w > 0 {
			return w
		}
		return usual
	}
}

// run does what args say and returns the exit code. exit ends the process, for
// --help and for a second interrupt.
func run(args []string, s streams, exit func(int)) int {
	if err := config.ForgetEmpty(); err != nil {
		return fail(s, exitUsage, err)
	}
	var c cli
	parser, err := kong.New(&c,
		kong.Name("catbird-load"), kong.Description(description),
		kong.Vars{"version": obs.Version(), "mix": load.DefaultMix().String()},
		kong.ValueFormatter(config.Help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(s.out, s.err), kong.Exit(exit),
	)
	if err != nil {
		return fail(s, exitWrong, err)
	}
	if _, err := parser.Parse(args); err != nil {
		return fail(s, exitUsage, err)
	}
	show := newShow(s, c.Quiet)
	engine, err := c.engine(show.progress)
	if err != nil {
		return fail(s, exitUsage, err)
	}
	files, err := c.create()
	if err != nil {
		return fail(s, exitUsage, err)
	}
	report, err := drive(engine, show, exit)
	show.end()
	if report != nil {
		err = errors.Join(err, report.Write(s.out), files.write(report))
	}
	if err = errors.Join(err, files.close()); err != nil {
		return fail(s, exitWrong, err)
	}
	if c.MaxFailed != nil && uint64(report.Total.Failed) > *c.MaxFailed {
		return fail(s, exitWrong, fmt.Errorf("%d operations failed, which is more than --max-failed=%d", report.Total.Failed, *c.MaxFailed))
	}
	if !report.OK() {
		return exitWrong
	}
	return exitOK
}

// drive runs the engine. The first interrupt ends the load early, the second one
// the process.
func drive(engine *load.Engine, show *show, exit func(int)) (*load.Report, error) {
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
					exit(exitWrong)
					return
				}
				show.say("received %v: the load ends, and what it did is read back; once more ends that too", sig)
				engine.Stop()
			}
		}
	}()
	defer func() {
		signal.Stop(signals)
		close(done)
		<-ended
	}()
	return engine.Run(context.Background())
}

func fail(s streams, code int, err error) int {
	fmt.Fprintln(s.err, "catbird-load: error:", strings.ReplaceAll(err.Error(), "\n", "; "))
	return code
}
