package apptest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/internal/client"
)

// Load is traffic on some groups until it is stopped. Errors go to the ledger;
// a worker that was refused or cut off pauses for a moment.
type Load struct {
	*Ledger
	Groups []*Group

	c      *client.Client
	epochs sync.Map // convo to int64, where senders last heard it stands
	adds   atomic.Int64
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// LoadConfig says what traffic. CommitShare and AddShare are of 100.
type LoadConfig struct {
	Workers     int
	CommitShare int
	AddShare    int
}

// StartLoad begins. It is stopped by Stop, or by the test's end.
func StartLoad(t testing.TB, c *client.Client, groups []*Group, cfg LoadConfig) *Load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &Load{Ledger: NewLedger(), Groups: groups, c: c, cancel: cancel}
	t.Cleanup(l.Stop)
	for range cfg.Workers {
		l.wg.Go(func() { l.work(ctx, cfg) })
	}
	return l
}

// Stop asks for nothing more and waits for the answers that are due.
func (l *Load) Stop() {
	l.cancel()
	l.wg.Wait()
}

// AwaitMore waits until n more changes are acknowledged.
func (l *Load) AwaitMore(t testing.TB, n int) {
	t.Helper()
	goal := l.Acknowledged() + n
	Await(t, "acknowledged changes ("+l.String()+")", func() bool { return l.Acknowledged() >= goal })
}

const (
	loadPause   = 10 * time.Millisecond
	loadTimeout = 20 * time.Second
)

func (l *Load) work(stop context.Context, cfg LoadConfig) {
	for stop.Err() == nil {
		// A request that was begun gets its answer, so that stopping leaves no
		// doubt behind.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(stop), loadTimeout)
		err := l.one(ctx, cfg)
		cancel()
		if err == nil {
			continue
		}
		select {
		case <-time.After(loadPause):
		case <-stop.Done():
		}
	}
}

func (l *Load) one(ctx context.Context, cfg LoadConfig) error {
	g := l.Groups[rand.N(len(l.Groups))]
	did := g.Members[rand.N(len(g.Members))]
	dice := rand.N(100)
	switch {
	case dice < cfg.CommitShare:
		return l.moved(g, l.Commit)(ctx, did)
	case dice < cfg.CommitShare+cfg.AddShare:
		newcomer := DID("new"+g.ID[:8], int(l.adds.Add(1)))
		return l.moved(g, func(ctx context.Context, c *client.Client, g *Group, did string) (client.Changed, error) {
			return l.Add(ctx, c, g, did, newcomer)
		})(ctx, did)
	}
	_, err := l.Send(ctx, l.c, g, did, l.epoch(g))
	var behind *client.Error
	if errors.As(err, &behind) && behind.Name == conversation.EpochMismatch {
		l.epochs.Store(g.ID, behind.CurrentEpoch)
		return nil
	}
	return err
}

// moved makes a change of the epoch and remembers where it led.
func (l *Load) moved(g *Group, change func(context.Context, *client.Client, *Group, string) (client.Changed, error)) func(context.Context, string) error {
	return func(ctx context.Context, did string) error {
		out, err := change(ctx, l.c, g, did)
		if err == nil {
			l.epochs.Store(g.ID, out.NewEpoch)
		}
		return err
	}
}

func (l *Load) epoch(g *Group) int64 {
	if v, ok := l.epochs.Load(g.ID); ok {
		return v.(int64)
	}
	return 0
}
