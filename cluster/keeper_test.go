package cluster

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"catbird/internal/memstore"
	"catbird/persistence"
)

const ttl = 5 * time.Second

// newStore returns a store that is waited for in the end.
func newStore(t *testing.T) *memstore.Store {
	store := memstore.New()
	t.Cleanup(store.Wait)
	return store
}

// pass lets time pass, and what is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// newTestKeeper returns a keeper that has not started. It is to be stopped.
func newTestKeeper(store *memstore.Store, node string) *Keeper {
	return NewKeeper(KeeperConfig{Store: store, Node: node, Address: node + ":8081", TTL: ttl, Logger: slog.New(slog.DiscardHandler)})
}

// started returns a keeper that has its first session.
func started(t *testing.T, store *memstore.Store, node string) *Keeper {
	t.Helper()
	k := newTestKeeper(store, node)
	start(t, k)
	if err := k.Established(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k
}

func start(t *testing.T, k *Keeper) {
	t.Helper()
	if err := k.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Stop(context.Background()); err != nil && !errors.Is(err, persistence.ErrUnavailable) {
			t.Error(err)
		}
	})
}

// faultsOf gives statements of one kind a fault, all others none.
func faultsOf(op memstore.Op, f memstore.Fault) func(memstore.Call) memstore.Fault {
	return func(c memstore.Call) memstore.Fault {
		if c.Op == op {
			return f
		}
		return memstore.Fault{}
	}
}

// outage is a database out of reach.
func outage(memstore.Call) memstore.Fault { return memstore.Fault{Fate: memstore.Refused} }

// alwaysTrusted watches over d that k's session never lapses and never changes.
func alwaysTrusted(t *testing.T, k *Keeper, d time.Duration) {
	t.Helper()
	s := k.Current()
	for range d / (10 * time.Millisecond) {
		pass(10 * time.Millisecond)
		if k.Current() != s || !s.Trusted(time.Now()) {
			t.Fatal("memory is not trusted any more")
		}
	}
}

// Rule 2: trust runs from when the renewal was sent, not from its reply.
func TestTrustRunsFromTheSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		store.SetFaults(faultsOf(memstore.StartSession, memstore.Fault{After: time.Second}))
		sent := time.Now()
		k := started(t, store, "a")
		store.SetFaults(faultsOf(memstore.RenewSession, memstore.Fault{Fate: memstore.RequestLost}))
		if since := time.Since(sent); since != time.Second {
			t.Fatalf("the reply took %v", since)
		}
		s := k.Current()
		pass(3*time.Second - 1)
		if !s.Trusted(time.Now()) {
			t.Error("not trusted right before the send + 0.8 ttl")
		}
		pass(1)
		if s.Trusted(time.Now()) {
			t.Error("trusted at the send + 0.8 ttl")
		}
		if k.Current() != s {
			t.Error("no reply must change nothing, but the session was given up")
		}
	})
}

func TestTrustRunsFromTheSendOfARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		k := started(t, store, "a")
		var sent time.Time
		store.SetFaults(func(c memstore.Call) memstore.Fault {
			switch {
			case c.Op != memstore.RenewSession:
				return memstore.Fault{}
			case sent.IsZero(): // the first is answered late, but in time
				sent = time.Now()
				return memstore.Fault{After: time.Second}
			default:
				return memstore.Fault{Fate: memstore.RequestLost}
			}
		})
		s := k.Current()
		pass(ttl/3 + 1)
		pass(time.Until(sent.Add(4*time.Second)) - 1)
		if !s.Trusted(time.Now()) {
			t.Error("not trusted right before the send + 0.8 ttl")
		}
		pass(1)
		if s.Trusted(time.Now()) {
			t.Error("trusted at the send + 0.8 ttl")
		}
	})
}

// Rule 2: it renews every third of its TTL, and a slow reply puts nothing off.
func TestRenewsEveryThird(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		k := started(t, store, "a")
		store.SetFaults(faultsOf(memstore.RenewSession, memstore.Fault{After: 500 * time.Millisecond}))
		alwaysTrusted(t, k, 9*time.Second)
		if n := store.Calls(memstore.RenewSession); n != 5 {
			t.Errorf("%d renewals in 9 s, want 5 (after 1.7, 3.3, 5, 6.7 and 8.3 s)", n)
		}
	})
}

// Rule 2: no reply changes nothing, and one lost reply costs no trust, however
// it is lost.
func TestOneLostReplyCostsNothing(t *testing.T) {
	for name, f := range map[string]memstore.Fault{
		"ran, not answered": {Fate: memstore.ReplyLost},
		"never ran":         {Fate: memstore.RequestLost},
		"hangs":             {Before: time.Hour, Fate: memstore.RequestLost},
		"runs much later":   {Before: time.Minute},
		"refused":           {Fate: memstore.Refused, Err: errors.New("out of memory")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t)
				k := started(t, store, "a")
				var n atomic.Int64
				store.SetFaults(func(c memstore.Call) memstore.Fault {
					if c.Op == memstore.RenewSession && n.Add(1) == 2 {
						return f
					}
					return memstore.Fault{}
				})
				alwaysTrusted(t, k, 10*time.Second)
				if n.Load() < 5 {
					t.Errorf("%d renewals: it did not go on", n.Load())
				}
				if err := k.Stop(t.Context()); err != nil {
					t.Error(err)
				}
				store.Wait() // a renewal that runs now revives nothing
				if live := store.Sessions(); len(live) != 0 {
					t.Errorf("sessions %v live on", live)
				}
			})
		})
	}
}

// Rule 2: no row means that all memory is dropped and a new id is taken.
func TestNoRowDropsMemoryAndTakesANewID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		k := newTestKeeper(store, "a")
		var lost, begun []string
		k.OnLost(func(s *Session) {
			if s.Trusted(time.Now()) || k.Current() != nil {
				t.Error("memory is still trusted when it is to be dropped")
			}
			lost = append(lost, s.ID())
		})
		k.OnBegin(func(s *Session) {
			if k.Current() != s || !s.Trusted(time.Now()) {
				t.Error("the new session is not in force")
			}
			begun = append(begun, s.ID())
		})
		start(t, k)
		synctest.Wait()
		old := k.Current()
		if err := store.EndSession(t.Context(), old.ID()); err != nil {
			t.Fatal(err)
		}
		pass(ttl/3 + 1)
		now := k.Current()
		if old.Trusted(time.Now()) {
			t.Error("the old session is trusted")
		}
		if now == nil || now.ID() == old.ID() || !now.Trusted(time.Now()) {
			t.Fatalf("no new session: %v", now)
		}
		if !slices.Equal(lost, []string{old.ID()}) || !slices.Equal(begun, []string{old.ID(), now.ID()}) {
			t.Errorf("lost %v, begun %v", lost, begun)
		}
		if live := store.Sessions(); !slices.Equal(live, []string{now.ID()}) {
			t.Errorf("live sessions %v, want the new one", live)
		}
	})
}

func TestEstablishedWaitsForTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		store.SetFaults(outage)
		k := newTestKeeper(store, "a")
		start(t, k)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := k.Established(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("established without a database: %v", err)
		}
		if k.Current() != nil {
			t.Error("there is a session")
		}
		store.SetFaults(nil)
		if err := k.Established(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !k.Current().Trusted(time.Now()) {
			t.Error("the first session is not trusted")
		}
	})
}

// Rule 18: what others want is read with the sessions, told once, and a callback
// that takes its time holds no look up.
func TestWantsAreDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		k := newTestKeeper(store, "a")
		var got [][]string
		stuck := make(chan struct{})
		k.OnWanted(func(_ context.Context, convos []string) {
			got = append(got, convos)
			<-stuck
		})
		start(t, k)
		synctest.Wait()
		for _, convo := range []string{"x", "y"} {
			if err := store.Want(t.Context(), k.Current().ID(), convo); err != nil {
				t.Fatal(err)
			}
		}
		if err := store.Want(t.Context(), "somebody else", "z"); err != nil {
			t.Fatal(err)
		}
		pass(wantsEvery)
		if len(got) != 1 || !slices.Equal(got[0], []string{"x", "y"}) {
			t.Fatalf("told of %v, want x and y", got)
		}
		looks := store.Calls(memstore.LiveSessions)
		pass(4 * watchEvery)
		if n := store.Calls(memstore.LiveSessions) - looks; n != 4 {
			t.Errorf("%d looks while the callback is busy, want 4", n)
		}
		close(stuck)
		pass(2 * wantsEvery)
		if len(got) != 1 {
			t.Errorf("told again: %v", got)
		}
	})
}

// Rule 4: stopping ends the session, after which nothing in memory is trusted.
func TestStopEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		if err := newTestKeeper(store, "never started").Stop(t.Context()); err != nil {
			t.Error(err)
		}
		k := started(t, store, "a")
		s := k.Current()
		for range 2 {
			if err := k.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if len(store.Sessions()) != 0 || k.Current() != nil || s.Trusted(time.Now()) {
			t.Error("the session lives on")
		}
		calls := store.Calls(memstore.RenewSession) + store.Calls(memstore.LiveSessions) + store.Calls(memstore.StartSession)
		pass(time.Minute)
		if n := store.Calls(memstore.RenewSession) + store.Calls(memstore.LiveSessions) + store.Calls(memstore.StartSession); n != calls {
			t.Error("it goes on after Stop")
		}
	})
}

// Stopping while a renewal is on its way does not wait for the reply.
func TestStopDuringARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		k := started(t, store, "a")
		store.SetFaults(faultsOf(memstore.RenewSession, memstore.Fault{Before: time.Second}))
		pass(ttl/3 + time.Millisecond)
		begin := time.Now()
		if err := k.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("Stop took %v", took)
		}
		store.Wait()
		if len(store.Sessions()) != 0 {
			t.Error("the session lives on")
		}
	})
}
