// Command model runs the models of docs/model with the model checker spin: each
// as it is built, which must hold, and with one safeguard taken out at a time,
// which must be missed. It prints a line for each run and exits with 1 when one
// is not as it should be, and with 2 when it cannot run them. Spin and a C
// compiler are installed by apt where that is possible; elsewhere it says so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"syscall"
	"time"

	"catbird/internal/tools/apt"
)

func main() { os.Exit(command(os.Args[1:])) }

const usage = `usage: model [-long] [-trail] [pattern ...]

Patterns choose runs by their names, as in 'claim*' or '*NOFENCE'; none: all.
`

func command(args []string) int {
	flags := flag.NewFlagSet("model", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	dir := flags.String("dir", "docs/model", "folder of the models")
	long := flags.Bool("long", false, "run the larger, exhaustive runs too: up to 9 GB, and minutes each")
	trail := flags.Bool("trail", false, "print, step by step, how what is chosen goes wrong")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	chosen, err := choose(flags.Args(), *long)
	if err != nil {
		fmt.Fprintln(os.Stderr, "model:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := provide(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "model:", err)
		return 2
	}
	c := checker{models: *dir, compiler: compiler()}
	if *trail {
		c.trail = os.Stdout
	}
	return c.all(ctx, os.Stdout, chosen)
}

// choose returns the runs whose names match a pattern, or all that belong to
// the short set, with long to the long one too.
func choose(patterns []string, long bool) ([]run, error) {
	var out []run
	for _, r := range runs() {
		if len(patterns) == 0 && r.long && !long {
			continue
		}
		ok := len(patterns) == 0
		for _, p := range patterns {
			matched, err := path.Match(p, r.name)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", p, err)
			}
			ok = ok || matched
		}
		if ok {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no run has such a name")
	}
	return out, nil
}

func compiler() string {
	if cc := os.Getenv("CC"); cc != "" {
		return cc
	}
	return "gcc"
}

// provide sees to it that spin and a C compiler are there.
func provide(ctx context.Context) error {
	var missing []string
	if _, err := exec.LookPath("spin"); err != nil {
		missing = append(missing, "spin")
	}
	if _, err := exec.LookPath(compiler()); err != nil {
		missing = append(missing, "gcc", "libc6-dev")
	}
	return apt.Ensure(ctx, os.Stderr, missing, errors.New("spin and a C compiler are needed (apt-get install spin gcc libc6-dev)"))
}

// all runs what is chosen, one after another, and returns the exit code.
func (c *checker) all(ctx context.Context, out io.Writer, chosen []run) int {
	wrong := 0
	for _, r := range chosen {
		began := time.Now()
		res, err := c.check(ctx, r)
		if ctx.Err() != nil {
			return 2
		}
		if err != nil {
			fmt.Fprintf(out, "%-6s %-28s %v\n", "WRONG", r.name, err)
			wrong++
			continue
		}
		verdict := "ok"
		if why := r.judge(res); why != "" {
			verdict = "WRONG"
			wrong++
			res.found += " (" + why + ")"
		}
		fmt.Fprintf(out, "%-6s %-28s %-20s %11d states %6.1fs %6d MB  %s\n",
			verdict, r.name, res.found, res.states, time.Since(began).Seconds(), res.megabytes, r.defines())
	}
	if wrong > 0 {
		fmt.Fprintf(out, "%d of %d runs are not as they should be\n", wrong, len(chosen))
		return 1
	}
	return 0
}
