package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"catbird/internal/config"
	"catbird/internal/ctl"
	"catbird/internal/smoke"
)

// smokeTimeout is the default of --timeout for a smoke test.
const smokeTimeout = 2 * time.Minute

type smokeCmd struct {
	URL       []string      `name:"url" required:"" placeholder:"URL" help:"The clients' port of the deployment; of several, with commas between or given again, all are asked in turn."`
	JWTSecret config.Secret `name:"jwt-secret" env:"JWT_SECRET" help:"The servers' JWT_SECRET, which signs tokens of two people who exist nowhere."`
	Audience  string        `name:"audience" env:"SERVICE_DID" help:"The servers' SERVICE_DID, which tokens name as their audience."`
	Keys      string        `name:"keys" xor:"people" placeholder:"FILE" help:"Instead of --jwt-secret: a file with the DIDs of two people who exist and their private keys in multibase, one person a line, which sign tokens as the AT Protocol has them."`
	Token     string        `name:"token" xor:"people" placeholder:"FILE" help:"Instead of --jwt-secret: a file with tokens of two people, one a line. With ENFORCE_JTI a run takes a new one for each call, with ENFORCE_LXM one that names the method."`
	Anonymous bool          `name:"anonymous" xor:"people" help:"Try only what needs no token: health, and that nobody reads without one."`

	WithoutHealth bool `name:"without-health" help:"Leave health out, where only /xrpc is passed on to the nodes."`
}

// Run tries the deployment out.
func (c *smokeCmd) Run(ctx context.Context, t *tool) error {
	people, err := c.people()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.within(smokeTimeout))
	defer cancel()
	report, err := smoke.Run(ctx, smoke.Config{BaseURLs: c.URL, People: people, WithoutHealth: c.WithoutHealth})
	if err != nil {
		return err
	}
	if err := write(t, report, ctl.Smoke); err != nil {
		return err
	}
	if !report.Passed {
		return errFound
	}
	return nil
}

// people returns those whose tokens are used, nil for nobody. What is named wins
// over JWT_SECRET in the environment.
func (c *smokeCmd) people() (*smoke.People, error) {
	switch {
	case c.Anonymous:
		return nil, nil
	case c.Keys != "":
		return fromFile("--keys", c.Keys, func(r io.Reader) (*smoke.People, error) { return smoke.ReadKeys(r, c.Audience) })
	case c.Token != "":
		return fromFile("--token", c.Token, smoke.ReadTokens)
	case c.JWTSecret != "":
		return smoke.Invented([]byte(c.JWTSecret.Reveal()), c.Audience), nil
	default:
		return nil, errors.New("one of --jwt-secret (JWT_SECRET), --keys, --token and --anonymous must be given")
	}
}

func fromFile(flag, name string, read func(io.Reader) (*smoke.People, error)) (_ *smoke.People, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return read(f)
}
