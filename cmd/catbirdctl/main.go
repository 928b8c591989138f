// Command catbirdctl is the operator's tool: it looks through the data of a
// database, and asks and steers running nodes through their operator API. It
// exits with 0, with 1 when a check found something, and with 2 when it could
// not do what it was asked for.
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
	"time"

	"github.com/alecthomas/kong"

	"catbird/internal/config"
	"catbird/internal/ctl"
	"catbird/internal/obs"
)

const (
	exitOK      = 0
	exitFound   = 1
	exitFailure = 2
)

type cli struct {
	Check  checkCmd  `cmd:"" help:"Look through the data for duplicate or missing epochs, gaps in the sequence, and conversations that disagree with their log. Exits with 1 when anything is found."`
	Convo  convoCmd  `cmd:"" help:"Show one conversation: members, epochs, counts; never a ciphertext."`
	Flags  flagsCmd  `cmd:"" help:"Show or change a running node's flags."`
	Actors actorsCmd `cmd:"" help:"List a running node's actors."`
	Drain  drainCmd  `cmd:"" help:"Make a running node leave, without ending its process."`

	JSON    bool             `name:"json" help:"Print JSON instead of tables."`
	Node    string           `name:"node" env:"CATBIRD_NODE" default:"http://127.0.0.1:8081" help:"The operator API of a node (its internal port)."`
	Secret  config.Secret    `name:"secret" env:"CLUSTER_SECRET" help:"The cluster's secret, where one is set."`
	Timeout time.Duration    `name:"timeout" default:"10m" help:"How long to wait for an answer."`
	Version kong.VersionFlag `name:"version" help:"Print the version."`
}

// tool is what the commands work with.
type tool struct {
	out  io.Writer
	json bool
	node func() (*ctl.Client, error)
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, os.Exit)) }

// run does what args say and returns the exit code. exit ends the process, for
// --help.
func run(args []string, stdout, stderr io.Writer, exit func(int)) int {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("catbirdctl"),
		kong.Description("The operator's tool of Catbird."),
		kong.Vars{"version": obs.Version()},
		kong.ValueFormatter(config.Help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.Writers(stdout, stderr), kong.Exit(exit),
	)
	if err != nil {
		return fail(stderr, err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		return fail(stderr, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	transport := newTransport()
	defer transport.CloseIdleConnections()
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(&tool{out: stdout, json: c.JSON, node: func() (*ctl.Client, error) {
		return ctl.NewClient(c.Node, c.Secret.Reveal(), clientOf(transport))
	}})
	err = command.Run()
	if errors.Is(err, errFound) {
		return exitFound
	}
	if err != nil {
		return fail(stderr, err)
	}
	return exitOK
}

func fail(w io.Writer, err error) int {
	fmt.Fprintln(w, "catbirdctl: error:", strings.ReplaceAll(err.Error(), "\n", "; "))
	return exitFailure
}

// write prints v as JSON or as its table.
func write[T any](t *tool, v T, table func(io.Writer, T) error) error {
	if t.json {
		return ctl.JSON(t.out, v)
	}
	return table(t.out, v)
}
