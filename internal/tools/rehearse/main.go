// Command rehearse goes through what Kubernetes does to a chart's pods, with server
// processes on this machine, and exits with 1 when a request failed.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"catbird/internal/rehearsal"
)

func main() { os.Exit(run()) }

type options struct {
	Plans   []string          `arg:"" type:"existingfile" help:"What is done to the pods, as charts/test/cmd/rehearsal prints it. After the first one's steps the cluster is upgraded to the next one, and so on."`
	Lag     time.Duration     `default:"1500ms" help:"How long what stands before the pods takes to hear that one is ready, or goes."`
	Clients int               `default:"8" help:"Clients at work at once."`
	Images  map[string]string `name:"image" placeholder:"IMAGE=PROGRAM" help:"The server to run for an image; without one it is built from here."`
}

func run() int {
	var cli options
	kong.Parse(&cli, kong.Name("rehearse"), kong.Description("Rehearses what Kubernetes does to a chart's pods, without Kubernetes."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	report, err := rehearse(ctx, cli)
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

func rehearse(ctx context.Context, cli options) (*rehearsal.Report, error) {
	o := rehearsal.Options{Lag: cli.Lag, Clients: cli.Clients, Programs: cli.Images, Log: os.Stderr}
	for i, file := range cli.Plans {
		plan, err := read(file)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			o.Plan, o.Steps = plan, rehearsal.Steps(plan)
			continue
		}
		o.Steps = append(o.Steps, rehearsal.Upgrade("upgrade to "+filepath.Base(file), plan))
	}
	return rehearsal.Run(ctx, o)
}

func read(file string) (rehearsal.Plan, error) {
	f, err := os.Open(file)
	if err != nil {
		return rehearsal.Plan{}, err
	}
	defer f.Close()
	plan, err := rehearsal.ReadPlan(f)
	if err != nil {
		return plan, fmt.Errorf("%s: %w", file, err)
	}
	return plan, nil
}
