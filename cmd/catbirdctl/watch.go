package main

import (
	"context"
	"fmt"
	"time"

	"catbird/internal/ctl"
	"catbird/operator"
)

const (
	lookTimeout = 5 * time.Second
	fastest     = 100 * time.Millisecond
)

type watchCmd struct {
	Every time.Duration `name:"every" default:"1s" help:"From one look to the next, 100ms at least."`
}

// Run watches the cluster until ctx ends, or somebody at the terminal has had
// enough. A cluster that cannot be seen at first is an error; one that gets lost
// later is waited for.
func (c *watchCmd) Run(ctx context.Context, t *tool) error {
	if c.Every < fastest {
		return fmt.Errorf("--every: %v is less than %v", c.Every, fastest)
	}
	w := watcher{tool: t}
	look := w.look(ctx)
	if look.Err != nil {
		return look.Err
	}
	show := func(l ctl.Look) error { // lines
		_, err := fmt.Fprintln(t.out, l.Line())
		return err
	}
	if t.json {
		show = func(l ctl.Look) error { return l.JSON(t.out) }
	} else if s, ok := openScreen(t.streams); ok {
		defer s.close()
		ctx = s.untilQuit(ctx)
		show = s.show
	}
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		if err := show(look); err != nil {
			return fmt.Errorf("writing what was seen: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if look = w.look(ctx); ctx.Err() != nil {
			return nil
		}
	}
}

// watcher looks at the cluster, and remembers what it saw last.
type watcher struct {
	*tool
	client *ctl.Client // nil: to be chosen
	last   ctl.Look
}

func (w *watcher) look(ctx context.Context) ctl.Look {
	view, err := w.ask(ctx)
	now := time.Now()
	w.last.At, w.last.Err = now, err
	if err != nil {
		w.client = nil // another node may answer next time
		return w.last
	}
	w.last.View, w.last.Base, w.last.Seen = view, w.client.Base(), now
	return w.last
}

func (w *watcher) ask(ctx context.Context) (v operator.ClusterView, err error) {
	if w.client == nil {
		if w.client, err = w.node(ctx, w.within(lookTimeout)); err != nil {
			return v, err
		}
	}
	return w.client.Cluster(ctx)
}
