package cluster

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// keyed is a lease whose session keys live as long as they are told to.
type keyed struct {
	Lease
	mu    sync.Mutex
	until map[string]time.Time
}

// RenewSession implements Lease.
func (k *keyed) RenewSession(_ context.Context, session, _, _ string, ttl time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.until[session] = time.Now().Add(ttl)
	return nil
}

// EndSession implements Lease.
func (k *keyed) EndSession(_ context.Context, session string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.until, session)
	return nil
}

func (k *keyed) lives(session string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.until[session])
}

// What Redis says of a session lapses no later than what the database says: a
// node that reaches the one and not the other must not keep what nobody can use.
func TestLeaseLapsesWithTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lease := &keyed{until: map[string]time.Time{}}
		var renewed atomic.Int64 // Unix nanoseconds
		renew := func() { renewed.Store(time.Now().UnixNano()) }
		renew()
		h := NewHoldings(HoldingsConfig{
			Lease: lease, Node: "a", Address: func() string { return "a:8081" }, TTL: ttl,
			Session: func() string { return "s" },
			Renewed: func() time.Duration { return time.Since(time.Unix(0, renewed.Load())) },
			Held:    func(func(string, string, int64) bool) {}, Logger: slog.New(slog.DiscardHandler),
		})
		pass(time.Millisecond)
		h.Start()
		for range 40 { // the database takes the session now and then
			pass(ttl / 4)
			renew()
			if !lease.lives("s") {
				t.Fatal("lapsed although the database takes the session")
			}
		}
		pass(ttl - time.Millisecond)
		if !lease.lives("s") {
			t.Error("lapsed before the session")
		}
		pass(2 * time.Millisecond)
		if lease.lives("s") {
			t.Error("lives on after the session")
		}
		pass(ttl)
		if lease.lives("s") {
			t.Error("renewed without the database")
		}
		renew() // the outage is over
		pass(200 * time.Millisecond)
		if !lease.lives("s") {
			t.Error("not renewed when the database is back")
		}
		if err := h.Stop(t.Context()); err != nil || lease.lives("s") {
			t.Errorf("after the stop: lives %v, %v", lease.lives("s"), err)
		}
	})
}
