// Command soak runs a cluster at the highest load that the machine carries and
// says whether what it uses levels off. It exits with 1 when something grows, or
// when the cluster did not keep its word.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/alecthomas/kong"

	"catbird/internal/bench"
)

func main() { os.Exit(run()) }

func run() int {
	var cli struct {
		Seconds  int `env:"SOAK_SECONDS" default:"600" help:"How long the load goes on."`
		Clients  int `default:"64" help:"Clients at work at once."`
		Touched  int `default:"200000" help:"Conversations that are touched once each."`
		ActorMax int `default:"20000" help:"How many of them the node may keep in memory."`
	}
	kong.Parse(&cli, kong.Name("soak"), kong.Description("Looks at what a cluster uses under long load."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	report, err := bench.Soak(ctx, bench.SoakOptions{
		For: time.Duration(cli.Seconds) * time.Second, Clients: cli.Clients, Touched: cli.Touched, ActorMax: cli.ActorMax, Log: os.Stderr,
	})
	if err == nil {
		err = bench.PrintSoak(os.Stdout, report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 2
	}
	if !report.OK() {
		return 1
	}
	return 0
}
