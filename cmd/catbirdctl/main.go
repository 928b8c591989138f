// Command catbirdctl is the operator's tool: it looks through the data of a
// database, and asks, watches and steers running nodes through their operator
// API, and tries out a deployment through its clients' port. It exits with 0, with
// 1 when a check or a try found something, with 2 when it could not do what it was
// asked for, and with 3 when no answer came from a node.
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
	exitOK          = 0
	exitFound       = 1
	exitFailure     = 2
	exitUnreachable = 3
)

// The defaults of --timeout.
const (
	answerTimeout = time.Minute
	checkTimeout  = 10 * time.Minute // it looks at every row
)

type cli struct {
	Nodes      nodesCmd      `cmd:"" help:"List the nodes of the cluster: state, health, actors, partitions."`
	Ring       ringCmd       `cmd:"" help:"Show how the partitions are spread, and whether all nodes agree."`
	Owner      ownerCmd      `cmd:"" help:"Show who should hold one conversation, and who does: ring, lease, claim."`
	Watch      watchCmd      `cmd:"" help:"Watch the cluster, a look each second; plain lines where there is no terminal."`
	Convo      convoCmd      `cmd:"" help:"Show one conversation: members, epochs, counts; never a ciphertext."`
	Actors     actorsCmd     `cmd:"" help:"List a node's actors."`
	Flags      flagsCmd      `cmd:"" help:"Show or change a node's flags."`
	Drain      drainCmd      `cmd:"" help:"Make a node leave, without ending its process."`
	Check      checkCmd      `cmd:"" help:"Look through the data for duplicate or missing epochs, gaps in the sequence, and conversations that disagree with their log. Exits with 1 when anything is found."`
	Smoke      smokeCmd      `cmd:"" help:"Use a deployment through its clients' port: health, one conversation through its whole life, every endpoint. Exits with 1 when a step fails."`
	Completion completionCmd `cmd:"" help:"Print what makes a shell complete this tool's words."`

	JSON    bool             `name:"json" help:"Print JSON instead of tables."`
	Node    []string         `name:"node" env:"CATBIRD_NODE" default:"http://127.0.0.1:8081" placeholder:"URL" help:"The operator API of a node (its internal port); of several, with commas between or given again, the first that answers is asked."`
	Secret  config.Secret    `name:"secret" env:"CLUSTER_SECRET" help:"The cluster's secret, where one is set."`
	Timeout time.Duration    `name:"timeout" placeholder:"DURATION" help:"How long to wait for an answer; none: 1m, and 10m for check."`
	Version kong.VersionFlag `name:"version" help:"Print the version."`
}

// streams are what the tool is connected to.
type streams struct {
	out, err io.Writer
	// tty names the terminal that keys are read from.
	tty string
}

// tool is what the commands work with.
type tool struct {
	streams
	json    bool
	timeout time.Duration // 0: the command's own
	// node returns a client of the first node that answers, which waits for an
	// answer that long.
	node func(ctx context.Context, wait time.Duration) (*ctl.Client, error)
}

func main() {
	os.Exit(run(os.Args[1:], streams{out: os.Stdout, err: os.Stderr, tty: "/dev/tty"}, os.Exit))
}

// run does what args say and returns the exit code. exit ends the process, for
// --help.
func run(args []string, s streams, exit func(int)) int {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("catbirdctl"),
		kong.Description("The operator's tool of Catbird. Exits with 0; with 1 when check or smoke found something; with 2 when it could not do what it was asked for; with 3 when no answer came from a node."),
		kong.Vars{"version": obs.Version()},
		kong.ValueFormatter(config.Help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.Writers(s.out, s.err), kong.Exit(exit),
	)
	if err != nil {
		return fail(s.err, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	transport := newTransport()
	defer transport.CloseIdleConnections()
	t := &tool{streams: s}
	t.node = func(ctx context.Context, wait time.Duration) (*ctl.Client, error) {
		return ctl.Choose(ctx, c.Node, c.Secret.Reveal(), clientOf(transport, wait))
	}
	if len(args) > 0 && args[0] == completeWord {
		return complete(ctx, parser, t, args[1:])
	}
	command, err := parser.Parse(args)
	if err != nil {
		return fail(s.err, err)
	}
	t.json, t.timeout = c.JSON, c.Timeout
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(t, parser)
	err = command.Run()
	if errors.Is(err, errFound) {
		return exitFound
	}
	if err != nil {
		return fail(s.err, err)
	}
	return exitOK
}

// within returns how long to wait for an answer.
func (t *tool) within(usual time.Duration) time.Duration {
	if t.timeout > 0 {
		return t.timeout
	}
	return usual
}

func fail(w io.Writer, err error) int {
	fmt.Fprintln(w, "catbirdctl: error:", strings.ReplaceAll(err.Error(), "\n", "; "))
	var none *ctl.UnreachableError
	if errors.As(err, &none) {
		return exitUnreachable
	}
	return exitFailure
}

// write prints v as JSON or as its table.
func write[T any](t *tool, v T, table func(io.Writer, T) error) error {
	if t.json {
		return ctl.JSON(t.out, v)
	}
	return table(t.out, v)
}

// ask asks a node and prints what it said.
func ask[T any](ctx context.Context, t *tool, question func(*ctl.Client) (T, error), table func(io.Writer, T) error) error {
	node, err := t.node(ctx, t.within(answerTimeout))
	if err != nil {
		return err
	}
	v, err := question(node)
	if err != nil {
		return err
	}
	return write(t, v, table)
}
