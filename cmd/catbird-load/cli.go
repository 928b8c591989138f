package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/load"
)

type cli struct {
	URLs []string `arg:"" name:"url" help:"The nodes, or load balancers before them; requests go to them in turn."`

	Duration time.Duration `name:"duration" short:"d" required:"" help:"For how long operations are begun."`
	Rate     float64       `name:"rate" placeholder:"N" help:"Operations due each second, evenly spaced, whatever becomes of those before (open loop: latency counts from when an operation was due). Without it, each client begins the next when the last has ended (closed loop)."`
	Clients  int           `name:"clients" placeholder:"N" help:"Operations under way at once, at most; if not given, 16 in a closed loop, 256 in an open one."`

	Conversations int          `name:"conversations" default:"100" help:"Conversations that are created for the run."`
	Members       int          `name:"members" default:"5" help:"Members of each, the creator included. Adding and leaving keeps them between half and twice as many."`
	Mix           string       `name:"mix" default:"${mix}" help:"Operations and their weights. There are also getCommits and getConvos."`
	Payload       load.Payload `name:"payload" default:"random" help:"What messages and commits are: random bytes, or mls, recorded ones with the header of their group and epoch."`
	Size          int          `name:"size" placeholder:"BYTES" help:"Bytes of a random message or commit; if not given, 1024."`
	Seed          uint64       `name:"seed" default:"1" help:"Decides the sequence of operations."`

	Timeout        time.Duration `name:"timeout" default:"30s" help:"Bounds an operation with its repetitions."`
	AttemptTimeout time.Duration `name:"attempt-timeout" default:"10s" help:"Bounds one request."`
	Attempts       int           `name:"attempts" default:"6" help:"How often a request is made at most, always with the same idempotency key; 1: never repeated."`
	VerifyTimeout  time.Duration `name:"verify-timeout" default:"2m" help:"Bounds the reading back in the end."`

	MaxFailed *uint64 `name:"max-failed" placeholder:"N" help:"Exit with 1 when more operations than that failed; if not given, failures alone are no reason."`

	Secret   config.Secret `name:"jwt-secret" env:"JWT_SECRET" xor:"tokens" help:"Makes tokens for people who are made up; the servers' JWT_SECRET."`
	Audience string        `name:"audience" env:"SERVICE_DID" help:"Whom such tokens are for; the servers' SERVICE_DID."`
	Tokens   string        `name:"tokens" xor:"tokens" placeholder:"FILE" help:"Service tokens, one JWT a line, of the people who take part; for servers that take a token more than once."`

	JSON   string `name:"json" placeholder:"FILE" help:"Where the report goes as JSON."`
	HTML   string `name:"html" placeholder:"FILE" help:"Where it goes as a page with plots."`
	Events string `name:"events" placeholder:"FILE" help:"What to mark in the plots: JSON lines {\"time\":…,\"text\":…}; the file may grow, or appear, while the load runs."`
	Quiet  bool   `name:"quiet" short:"q" help:"Show no progress."`

	Version kong.VersionFlag `name:"version" help:"Print the version."`
}

// flags are the names of settings in the words of the command line.
var flags = map[string]string{
	"Duration": "--duration", "Rate": "--rate", "Clients": "--clients", "Conversations": "--conversations", "Members": "--members",
	"Mix": "--mix", "Payload": "--payload", "MessageBytes": "--size", "Timeout": "--timeout", "VerifyTimeout": "--verify-timeout",
	"AttemptTimeout": "--attempt-timeout", "Attempts": "--attempts", "People": "--tokens",
}

// engine returns what will do what the flags say. Its errors are about the
// flags.
func (c *cli) engine(progress func(load.Progress)) (*load.Engine, error) {
	mix, err := load.ParseMix(c.Mix)
	if err != nil {
		return nil, fmt.Errorf("--mix: %w", err)
	}
	cfg := load.Config{
		BaseURLs: c.URLs, Conversations: c.Conversations, Members: c.Members, Mix: mix, Payload: c.Payload, MessageBytes: c.Size,
		Clients: c.Clients, Rate: c.Rate, Duration: c.Duration, Seed: c.Seed, Timeout: c.Timeout, AttemptTimeout: c.AttemptTimeout,
		Attempts: c.Attempts, VerifyTimeout: c.VerifyTimeout, EventsFile: c.Events, Progress: progress,
	}
	if err := c.identify(&cfg); err != nil {
		return nil, err
	}
	engine, err := load.New(cfg)
	var bad *load.ConfigError
	if errors.As(err, &bad) && flags[bad.Field] != "" {
		return nil, fmt.Errorf("%s: %s", flags[bad.Field], bad.Reason)
	}
	return engine, err
}

// identify says who takes part, and with which tokens.
func (c *cli) identify(cfg *load.Config) error {
	if c.Tokens == "" {
		if c.Secret == "" {
			return errors.New("no tokens: give --jwt-secret (or JWT_SECRET), or --tokens")
		}
		cfg.Token = client.HS256([]byte(c.Secret.Reveal()), c.Audience)
		return nil
	}
	f, err := os.Open(c.Tokens)
	if err != nil {
		return fmt.Errorf("--tokens: %w", err)
	}
	defer f.Close() // it was only read
	tokens, err := load.ParseTokens(f)
	if err != nil {
		return fmt.Errorf("--tokens: %w", err)
	}
	if need := time.Now().Add(c.Duration); tokens.Until().Before(need) {
		return fmt.Errorf("--tokens: a token is good until %s, and the load lasts until %s",
			tokens.Until().UTC().Format(time.RFC3339), need.UTC().Format(time.RFC3339))
	}
	cfg.People, cfg.Token = tokens.People(), tokens.Source()
	return nil
}

// files are where the report goes beside the terminal; they are made before the
// run, so that it is not in vain.
type files struct{ json, html *os.File }

func (c *cli) create() (f files, err error) {
	if f.json, err = create("--json", c.JSON); err != nil {
		return f, err
	}
	if f.html, err = create("--html", c.HTML); err != nil {
		return f, errors.Join(err, f.close())
	}
	return f, nil
}

func create(flag, path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return f, nil
}

func (f files) write(r *load.Report) error {
	return errors.Join(writeTo(f.json, r.WriteJSON), writeTo(f.html, r.WriteHTML))
}

func writeTo(f *os.File, write func(io.Writer) error) error {
	if f == nil {
		return nil
	}
	return write(f)
}

func (f files) close() error {
	var err error
	for _, file := range []*os.File{f.json, f.html} {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
	}
	return err
}
