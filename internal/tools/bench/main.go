// Command bench measures Catbird and prints each figure as a ratio, the bar it
// is held to, and whether it was reached. It exits with 1 when one was missed.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"time"

	"github.com/alecthomas/kong"

	"catbird/internal/bench"
)

func main() { os.Exit(run()) }

func run() int {
	var cli struct {
		Rounds  int           `default:"3" help:"Rounds of each side."`
		For     time.Duration `default:"4s" help:"Length of one round."`
		Profile string        `help:"Write a CPU profile of this process to the file."`
		Actors  int           `default:"1000000" help:"Conversations in memory for P7."`
		Figures []string      `arg:"" optional:"" help:"Figures to measure, such as P1 P4; none: all."`
	}
	kong.Parse(&cli, kong.Description("Measures Catbird against bars, both sides of each ratio in one run."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if cli.Profile != "" {
		f, err := os.Create(cli.Profile)
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 2
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 2
		}
		defer pprof.StopCPUProfile()
	}
	o := bench.Options{
		Effort: bench.Effort{Rounds: cli.Rounds, For: cli.For}, Only: cli.Figures, Actors: cli.Actors, Log: os.Stderr,
	}
	rows, err := bench.Node(ctx, o)
	if err == nil {
		var more []bench.Row
		more, err = bench.Cluster(ctx, o)
		rows = append(rows, more...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	if !bench.Print(os.Stdout, rows) {
		return 1
	}
	return 0
}
