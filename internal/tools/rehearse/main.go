// Command rehearse goes through a rollout as Kubernetes does it, with server
// processes on this machine, and exits with 1 when a request failed.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/alecthomas/kong"

	"catbird/internal/rehearsal"
)

func main() { os.Exit(run()) }

func run() int {
	var cli struct {
		Plan    *os.File      `arg:"" help:"What is done to the pods, as charts/test/cmd/rehearsal prints it; -: standard input."`
		Lag     time.Duration `default:"1500ms" help:"How long what stands before the pods takes to hear that one is ready, or goes."`
		Clients int           `default:"8" help:"Clients at work at once."`
	}
	kong.Parse(&cli, kong.Name("rehearse"), kong.Description("Rehearses a rollout as Kubernetes does it, without Kubernetes."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	report, err := rehearse(ctx, cli.Plan, rehearsal.Options{Lag: cli.Lag, Clients: cli.Clients, Log: os.Stderr})
	if err == nil {
		err = report.Write(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rehearse:", err)
		return 2
	}
	if !report.OK() {
		return 1
	}
	return 0
}

func rehearse(ctx context.Context, plan io.Reader, o rehearsal.Options) (report *rehearsal.Report, err error) {
	if o.Plan, err = rehearsal.ReadPlan(plan); err != nil {
		return nil, err
	}
	return rehearsal.Run(ctx, o)
}
