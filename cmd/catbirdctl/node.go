package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"catbird/internal/config"
	"catbird/internal/ctl"
	"catbird/operator"
)

const (
	dialTimeout = 5 * time.Second
	onePage     = 1000
)

// newTransport goes straight to the node: a proxy that the environment names is
// for the world outside.
func newTransport() *http.Transport {
	return &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSHandshakeTimeout: dialTimeout}
}

func clientOf(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the secret goes to the node and nowhere else
	}}
}

type flagsCmd struct {
	Get getFlagsCmd `cmd:"" help:"Show the flags."`
	Set setFlagsCmd `cmd:"" help:"Change flags; what is not named stays as it is."`
}

type getFlagsCmd struct{}

// Run shows the flags.
func (getFlagsCmd) Run(ctx context.Context, t *tool) error {
	node, err := t.node()
	if err != nil {
		return err
	}
	f, err := node.Flags(ctx)
	if err != nil {
		return err
	}
	return write(t, f, ctl.Flags)
}

type setFlagsCmd struct {
	ActorSystem *config.Switch `name:"actor-system" help:"Serve conversations through actors: true or false."`
	Rollout     *int           `name:"rollout-percent" help:"Percentage of conversations that actors serve, 0 to 100."`
}

// Run changes the flags and shows what is in force.
func (c *setFlagsCmd) Run(ctx context.Context, t *tool) error {
	if c.ActorSystem == nil && c.Rollout == nil {
		return errors.New("nothing to set: name --actor-system or --rollout-percent")
	}
	node, err := t.node()
	if err != nil {
		return err
	}
	f, err := node.SetFlags(ctx, (*bool)(c.ActorSystem), c.Rollout)
	if err != nil {
		return err
	}
	return write(t, f, ctl.Flags)
}

type actorsCmd struct {
	Limit  int    `name:"limit" default:"100" help:"Actors to list at most, 1 to 1000; 0: all of them."`
	Cursor string `name:"cursor" help:"Where to go on, as the page before said."`
}

// Run lists actors.
func (c *actorsCmd) Run(ctx context.Context, t *tool) error {
	node, err := t.node()
	if err != nil {
		return err
	}
	if c.Limit > 0 {
		page, err := node.Actors(ctx, c.Limit, c.Cursor)
		if err != nil {
			return err
		}
		return write(t, page, ctl.Actors)
	}
	all, err := allActors(ctx, node, c.Cursor)
	if err != nil {
		return err
	}
	return write(t, all, ctl.Actors)
}

func allActors(ctx context.Context, node *ctl.Client, cursor string) (all operator.ActorsPage, err error) {
	all.Actors = []operator.Actor{}
	for {
		page, err := node.Actors(ctx, onePage, cursor)
		if err != nil {
			return all, err
		}
		all.Actors = append(all.Actors, page.Actors...)
		if cursor = page.Cursor; cursor == "" {
			return all, nil
		}
	}
}

type drainCmd struct{}

// Run makes the node leave.
func (drainCmd) Run(ctx context.Context, t *tool) error {
	node, err := t.node()
	if err != nil {
		return err
	}
	d, err := node.Drain(ctx)
	if err != nil {
		return err
	}
	return write(t, d, func(w io.Writer, _ operator.Drained) error {
		_, err := fmt.Fprintln(w, "the node is leaving")
		return err
	})
}

type convoCmd struct {
	ID       string        `arg:"" help:"The conversation's id."`
	Database config.Secret `name:"database" help:"Look it up in this database instead of asking a node: postgresql://… or the folder of an embedded one."`
}

// Run shows one conversation.
func (c *convoCmd) Run(ctx context.Context, t *tool) error {
	if c.Database != "" {
		return withDatabase(ctx, c.Database, func(db database) error {
			o, err := db.Overview(ctx, c.ID)
			if err != nil {
				return err
			}
			return write(t, o, ctl.Overview)
		})
	}
	node, err := t.node()
	if err != nil {
		return err
	}
	o, err := node.Conversation(ctx, c.ID)
	if err != nil {
		return err
	}
	return write(t, o, ctl.Overview)
}
