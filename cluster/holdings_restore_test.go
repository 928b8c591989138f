package cluster

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// flushable is a lease that forgets everything, or is out of reach.
type flushable struct {
	mu sync.Mutex
	*LocalLease
	down bool
}

func (f *flushable) set(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.LocalLease, f.down = NewLocalLease(), down
}

func (f *flushable) inner() (*LocalLease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, ErrRedisDown
	}
	return f.LocalLease, nil
}

// RenewSession implements Lease.
func (f *flushable) RenewSession(ctx context.Context, session, node, address string, ttl time.Duration) error {
	l, err := f.inner()
	if err != nil {
		return err
	}
	return l.RenewSession(ctx, session, node, address, ttl)
}

// EndSession implements Lease.
func (f *flushable) EndSession(ctx context.Context, session string) error {
	l, err := f.inner()
	if err != nil {
		return err
	}
	return l.EndSession(ctx, session)
}

// SetFences implements Lease.
func (f *flushable) SetFences(ctx context.Context, mine Entry, claims []Fenced) error {
	l, err := f.inner()
	if err != nil {
		return err
	}
	return l.SetFences(ctx, mine, claims)
}

// Find implements Lease.
func (f *flushable) Find(ctx context.Context, convo string) (Entry, bool, error) {
	l, err := f.inner()
	if err != nil {
		return Entry{}, false, err
	}
	return l.Find(ctx, convo)
}

// Up implements Lease.
func (f *flushable) Up() bool {
	_, err := f.inner()
	return err == nil
}

// A Redis that was flushed, replaced or away gets the leases of what is in
// memory back, with their fences, and a node leaves in order without it.
func TestLeasesComeBackWithRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lease := &flushable{LocalLease: NewLocalLease()}
		held := map[string]int64{"x": 3, "y": 7}
		h := NewHoldings(HoldingsConfig{
			Lease: lease, Node: "a", Address: func() string { return "a:8081" }, TTL: ttl,
			Session: func() string { return "s" }, Renewed: func() time.Duration { return 0 },
			Held: func(yield func(string, string, int64) bool) {
				for convo, fence := range held {
					if !yield(convo, "s", fence) {
						return
					}
				}
			},
			Logger: slog.New(slog.DiscardHandler),
		})
		h.Start()
		there := func(when string) {
			t.Helper()
			pass(2 * ttl)
			for convo, fence := range held {
				if e, live, err := lease.Find(t.Context(), convo); err != nil || !live || e.Session != "s" || e.Fence != fence {
					t.Errorf("%s: the lease of %s is %+v, live %v, %v", when, convo, e, live, err)
				}
			}
		}
		there("at first")
		lease.set(false) // flushed
		there("after it was flushed")
		lease.set(true) // away
		pass(2 * ttl)
		lease.set(false)
		there("after it was away")
		lease.set(true)
		pass(time.Second)
		if err := h.Stop(t.Context()); err != nil {
			t.Errorf("stopping without Redis: %v", err)
		}
	})
}
