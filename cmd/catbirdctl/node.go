package main

import (
	"context"
	"net"
	"net/http"
	"time"

	"catbird/internal/config"
	"catbird/internal/ctl"
	"catbird/operator"
	"catbird/persistence"
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

func clientOf(t *http.Transport, wait time.Duration) *http.Client {
	return &http.Client{Transport: t, Timeout: wait, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the secret goes to the node and nowhere else
	}}
}

type actorsCmd struct {
	Limit  int    `name:"limit" default:"100" help:"Actors to list at most, 1 to 1000; 0: all of them."`
	Cursor string `name:"cursor" help:"Where to go on, as the page before said."`
}

// Run lists actors.
func (c *actorsCmd) Run(ctx context.Context, t *tool) error {
	return ask(ctx, t, func(node *ctl.Client) (operator.ActorsPage, error) {
		if c.Limit > 0 {
			return node.Actors(ctx, c.Limit, c.Cursor)
		}
		return allActors(ctx, node, c.Cursor)
	}, ctl.Actors)
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

type convoCmd struct {
	ID       string        `arg:"" help:"The conversation's id."`
	Database config.Secret `name:"database" help:"Look it up in this database instead of asking a node: postgresql://… or the folder of an embedded one."`
}

// Run shows one conversation.
func (c *convoCmd) Run(ctx context.Context, t *tool) error {
	if c.Database == "" {
		return ask(ctx, t, func(node *ctl.Client) (persistence.Overview, error) { return node.Conversation(ctx, c.ID) }, ctl.Overview)
	}
	return withDatabase(ctx, t.within(answerTimeout), c.Database, func(ctx context.Context, db database) error {
		o, err := db.Overview(ctx, c.ID)
		if err != nil {
			return err
		}
		return write(t, o, ctl.Overview)
	})
}
