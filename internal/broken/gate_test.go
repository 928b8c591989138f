//go:build broken

package broken_test

import (
	"context"
	"fmt"
	"sync"

	"catbird/conversation"
	"catbird/persistence"
)

// store is what nodes ask of a database, and tests of what it holds.
type store interface {
	persistence.Sessions
	persistence.Claims
	persistence.Appends
	Epoch(ctx context.Context, convo, caller string) (int64, error)
}

// gate is a store behind a network on which a test decides what becomes of the
// next statements of a kind. The others pass.
type gate struct {
	store

	mu      sync.Mutex
	next    map[string][]*fate
	running sync.WaitGroup
}

// fate is what becomes of one statement.
type fate struct {
	// before holds the statement up on its way, after its reply; nil: not held.
	before, after chan struct{}
	// lost: whoever sent it learns at once that contact is lost. It runs all the
	// same, unless it is refused.
	lost, refused bool

	reached chan struct{} // closed when the statement is on its way
	ran     chan struct{} // closed when it has run
}

// will decides the fate of the next statement of a kind that has none yet.
func (g *gate) will(kind string, f fate) *fate {
	f.reached, f.ran = make(chan struct{}), make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next[kind] = append(g.next[kind], &f)
	return &f
}

func (g *gate) take(kind string) *fate {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.next[kind]) == 0 {
		return nil
	}
	f := g.next[kind][0]
	g.next[kind] = g.next[kind][1:]
	return f
}

// through sends a statement.
func through[T any](ctx context.Context, g *gate, kind string, run func(context.Context) (T, error)) (T, error) {
	f := g.take(kind)
	if f == nil {
		return run(ctx)
	}
	var none T
	close(f.reached)
	if f.refused {
		return none, fmt.Errorf("%s: %w", kind, persistence.ErrUnavailable)
	}
	all := func() (T, error) {
		wait(f.before)
		v, err := run(context.WithoutCancel(ctx)) // nobody can call it back
		close(f.ran)
		wait(f.after)
		return v, err
	}
	if f.lost {
		g.running.Go(func() { _, _ = all() })
		return none, fmt.Errorf("%s: %w", kind, persistence.ErrOutcomeUnknown)
	}
	return all()
}

func wait(hold chan struct{}) {
	if hold != nil {
		<-hold
	}
}

func (g *gate) Append(ctx context.Context, units []*conversation.Unit) ([]persistence.AppendOutcome, error) {
	return through(ctx, g, "append", func(ctx context.Context) ([]persistence.AppendOutcome, error) { return g.store.Append(ctx, units) })
}

func (g *gate) Release(ctx context.Context, session string, claims []persistence.Claim) error {
	_, err := through(ctx, g, "release", func(ctx context.Context) (struct{}, error) { return struct{}{}, g.store.Release(ctx, session, claims) })
	return err
}

func (g *gate) Direct(ctx context.Context, own string, r *conversation.Request, env conversation.Env) (conversation.Result, error) {
	return through(ctx, g, "direct", func(ctx context.Context) (conversation.Result, error) { return g.store.Direct(ctx, own, r, env) })
}
