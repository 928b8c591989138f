// Command chaos lets a cluster of server processes go through faults while
// clients use it, and exits with 1 when it did not keep its word.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"catbird/internal/chaos"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

type flags struct {
	Seconds  int           `env:"CHAOS_SECONDS" default:"120" help:"How long faults go on, in seconds; the last round is played to its end. 0: until every kind of fault has come once."`
	Seed     string        `env:"CHAOS_SEED" help:"What the faults are drawn from; none: a new one, which is printed."`
	Dir      string        `env:"CHAOS_DIR" help:"Folder of the report; none: a new one in the folder for temporary files."`
	Only     []chaos.Kind  `env:"CHAOS_ONLY" help:"Only these kinds of faults, with commas between; none: all that the machine has means for."`
	Planned  bool          `env:"CHAOS_PLANNED" help:"Only planned changes, which are to fail no request: rolling restart, scale out and in, flags, drain."`
	Lease    time.Duration `env:"CHAOS_LEASE" default:"2s" help:"LEASE_TTL of the nodes."`
	Topics   int           `default:"24" help:"Conversations."`
	Clients  int           `default:"16" help:"Clients at work at once."`
	Pace     time.Duration `default:"60ms" help:"What a client pauses between two requests, on average."`
	Program  string        `env:"CHAOS_PROGRAM" help:"The server; none: it is built."`
	Loopback bool          `help:"Leave all nodes on the loopback, even where they can have networks of their own: relays before their internal ports stand for them."`
}

func run(args []string, out, errOut io.Writer) int {
	var f flags
	parser, err := kong.New(&f, kong.Name("chaos"), kong.Writers(out, errOut), kong.Description("Lets a cluster go through faults while clients use it, and judges it."))
	if err == nil {
		_, err = parser.Parse(args)
	}
	var opt chaos.Options
	if err == nil {
		opt, err = f.options(out)
	}
	if err != nil {
		fmt.Fprintln(errOut, "chaos:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	verdict, err := f.play(ctx, opt)
	if err != nil {
		fmt.Fprintln(errOut, "chaos:", err)
		return 2
	}
	fmt.Fprintf(out, "\n%s\nreport in %s\n", verdict, opt.Dir)
	if !verdict.OK() {
		fmt.Fprintf(out, "once more: make chaos CHAOS_SEED=%d\n", opt.Seed)
		return 1
	}
	return 0
}

func (f *flags) play(ctx context.Context, opt chaos.Options) (chaos.Verdict, error) {
	if f.Planned {
		return chaos.Plan(ctx, opt)
	}
	return chaos.Run(ctx, opt)
}

func (f *flags) options(out io.Writer) (chaos.Options, error) {
	opt := chaos.Options{
		Seed: rand.Uint64() >> 32, For: time.Duration(f.Seconds) * time.Second, Kinds: f.Only, Lease: f.Lease,
		Topics: f.Topics, Clients: f.Clients, Pace: f.Pace, Loopback: f.Loopback, Program: f.Program, Dir: f.Dir, Log: out,
	}
	if f.Seed != "" {
		if _, err := fmt.Sscan(f.Seed, &opt.Seed); err != nil {
			return opt, fmt.Errorf("CHAOS_SEED: %q is no number", f.Seed)
		}
	}
	for _, k := range f.Only {
		if !slices.Contains(chaos.Kinds, k) {
			return opt, fmt.Errorf("CHAOS_ONLY: %q is no kind of fault; there are %v", k, chaos.Kinds)
		}
	}
	if f.Seconds < 0 || f.Topics < 1 || f.Clients < 1 || f.Pace <= 0 {
		return opt, errors.New("seconds, topics, clients and pace must be positive")
	}
	if opt.Dir == "" {
		opt.Dir = filepath.Join(os.TempDir(), fmt.Sprintf("catbird-chaos-%s-%d", time.Now().UTC().Format("20060102-150405"), opt.Seed))
	}
	return opt, nil
}
