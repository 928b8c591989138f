package main

import (
	"context"
	"errors"
	"fmt"
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
	Audience  string        `name:"audience" env:"SERVICE_DID" help:"The servers' SERVICE_DID, which those tokens name as their audience."`
	Token     string        `name:"token" placeholder:"FILE" help:"Instead of --jwt-secret: a file with tokens of two people, one a line. With ENFORCE_JTI a run takes a new one for each call, with ENFORCE_LXM one that names the method."`
}

// Run tries the deployment out.
func (c *smokeCmd) Run(ctx context.Context, t *tool) error {
	people, err := c.people()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.within(smokeTimeout))
	defer cancel()
	report, err := smoke.Run(ctx, smoke.Config{BaseURLs: c.URL, People: people})
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

func (c *smokeCmd) people() (_ *smoke.People, err error) {
	if c.Token == "" {
		if c.JWTSecret == "" {
			return nil, errors.New("--jwt-secret (JWT_SECRET) or --token must be given")
		}
		return smoke.Invented([]byte(c.JWTSecret.Reveal()), c.Audience), nil
	}
	f, err := os.Open(c.Token)
	if err != nil {
		return nil, fmt.Errorf("--token: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return smoke.ReadTokens(f)
}
