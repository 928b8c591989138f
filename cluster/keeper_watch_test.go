package cluster

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"catbird/internal/memstore"
	"catbird/persistence"
)

// strange inserts a session that nobody renews.
func strange(t *testing.T, store *memstore.Store, id string, d time.Duration) {
	t.Helper()
	if err := store.StartSession(t.Context(), persistence.Session{ID: id, Node: "gone", TTL: d}); err != nil {
		t.Fatal(err)
	}
}

// Rule 3: a counter that stands still for that row's own TTL ends the session,
// no sooner, and not much later.
func TestStalledSessionEndsAfterItsOwnTTL(t *testing.T) {
	for _, d := range []time.Duration{2 * time.Second, 20 * time.Second} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t)
				k := started(t, store, "a")
				strange(t, store, "dead", d)
				pass(d - 1)
				if len(store.Sessions()) != 2 {
					t.Fatal("ended before its TTL had passed")
				}
				pass(2*watchEvery + 1)
				if live := store.Sessions(); !slices.Equal(live, []string{k.Current().ID()}) {
					t.Errorf("live sessions %v, want the own one", live)
				}
			})
		})
	}
}

// Rule 3: the TTL is counted from the reply that showed the counter, so a slow
// look ends nobody early.
func TestStalledIsCountedFromTheReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		started(t, store, "a")
		strange(t, store, "dead", 2*time.Second)
		var n atomic.Int64
		var replied time.Time
		store.SetFaults(func(c memstore.Call) memstore.Fault {
			if c.Op == memstore.LiveSessions && n.Add(1) == 1 {
				replied = time.Now().Add(900 * time.Millisecond)
				return memstore.Fault{After: 900 * time.Millisecond}
			}
			return memstore.Fault{}
		})
		pass(watchEvery)
		pass(time.Until(replied) + 2*time.Second - 1)
		if len(store.Sessions()) != 2 {
			t.Error("ended before its TTL had passed since the reply")
		}
	})
}

// Rule 3: only if the counter is still what was seen. Here the node renews
// between the look and the end.
func TestSessionThatRenewsInTheLastMomentLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		started(t, store, "a")
		strange(t, store, "slow", time.Second)
		tries := 0
		store.SetFaults(func(c memstore.Call) memstore.Fault {
			if c.Op == memstore.EndStalled {
				tries++
				if err := store.RenewSession(t.Context(), c.Session); err != nil {
					t.Error(err)
				}
			}
			return memstore.Fault{}
		})
		pass(10 * time.Second)
		if !slices.Contains(store.Sessions(), "slow") {
			t.Error("ended although it had renewed")
		}
		if tries < 3 || tries > 10 {
			t.Errorf("%d tries to end it in 10 s, want about one in each TTL", tries)
		}
	})
}

// Rule 3: nobody's private judgement counts, and least of all one's own: a node
// that cannot renew waits until another has ended its session.
func TestOwnSessionIsNeverEndedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		k := started(t, store, "a")
		own := k.Current()
		store.SetFaults(func(c memstore.Call) memstore.Fault {
			if c.Op == memstore.RenewSession && c.Session == own.ID() {
				return memstore.Fault{Fate: memstore.RequestLost}
			}
			return memstore.Fault{}
		})
		pass(time.Minute)
		if k.Current() != own || store.Calls(memstore.EndStalled) != 0 {
			t.Error("a node judged its own session")
		}
		other := started(t, store, "b")
		pass(ttl + 2*watchEvery)
		if live := store.Sessions(); !slices.Equal(live, []string{other.Current().ID()}) {
			t.Errorf("live sessions %v, want the other node's", live)
		}
		store.SetFaults(nil)
		pass(ttl)
		if s := k.Current(); s == nil || s == own || !s.Trusted(time.Now()) {
			t.Error("no new session after that")
		}
	})
}

// A session whose insert was not answered is given up, and ended as any other.
func TestStartWhoseReplyIsLostTakesAnotherID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		var n atomic.Int64
		store.SetFaults(func(c memstore.Call) memstore.Fault {
			if c.Op == memstore.StartSession && n.Add(1) == 1 {
				return memstore.Fault{Fate: memstore.RunsLater, Before: time.Second}
			}
			return memstore.Fault{}
		})
		k := started(t, store, "a")
		pass(time.Second)
		if len(store.Sessions()) != 2 {
			t.Fatalf("live sessions %v, want the stray one too", store.Sessions())
		}
		pass(ttl + 2*watchEvery)
		if live := store.Sessions(); !slices.Equal(live, []string{k.Current().ID()}) {
			t.Errorf("live sessions %v, want one", live)
		}
	})
}

// An outage of the database for everybody ends nobody's session, but for those
// whose nodes died in it.
func TestOutageEndsNoLivingSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		a, b := started(t, store, "a"), started(t, store, "b")
		strange(t, store, "dead", ttl)
		sa, sb := a.Current(), b.Current()
		pass(time.Second)
		store.SetFaults(outage)
		pass(30 * time.Second)
		if sa.Trusted(time.Now()) || sb.Trusted(time.Now()) {
			t.Error("trusted without having renewed")
		}
		// Looks come through first.
		store.SetFaults(faultsOf(memstore.RenewSession, memstore.Fault{Before: time.Second}))
		pass(2 * time.Second)
		if a.Current() != sa || b.Current() != sb || !sa.Trusted(time.Now()) || !sb.Trusted(time.Now()) {
			t.Error("a session did not survive")
		}
		pass(ttl - time.Second)
		if slices.Contains(store.Sessions(), "dead") {
			t.Error("the dead node's session was not ended")
		}
		if a.Current() != sa || b.Current() != sb {
			t.Error("a session was ended late")
		}
	})
}

// Looks that fail again and again delay the end of a dead session once, not for
// ever.
func TestFailingLooksDelayTheEndOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		started(t, store, "a")
		strange(t, store, "dead", ttl)
		begin := time.Now()
		store.SetFaults(func(c memstore.Call) memstore.Fault { // a look gets through every 3 s
			if c.Op == memstore.LiveSessions && time.Since(begin)%(3*time.Second) > watchEvery {
				return outage(c)
			}
			return memstore.Fault{}
		})
		pass(3 * ttl)
		if slices.Contains(store.Sessions(), "dead") {
			t.Error("the dead node's session was not ended")
		}
	})
}

// Rule 3: at hundreds of nodes a node looks fast only while somebody is suspect.
func TestManySessionsAreLookedAtCalmly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		started(t, store, "a")
		for i := range many {
			strange(t, store, fmt.Sprint("n", i), ttl)
		}
		renewAll := func(rounds int) {
			for range rounds {
				for i := range many {
					if err := store.RenewSession(t.Context(), fmt.Sprint("n", i)); err != nil {
						t.Fatal(err)
					}
				}
				pass(ttl / 3)
			}
		}
		renewAll(3)
		before := store.Calls(memstore.LiveSessions)
		renewAll(6) // 10 s
		if n := store.Calls(memstore.LiveSessions) - before; n < 8 || n > 12 {
			t.Errorf("%d looks in 10 s while all is calm, want about 10", n)
		}
		strange(t, store, "dead", ttl)
		renewAll(4) // 6.7 s, of which it is suspect for more than 2
		if slices.Contains(store.Sessions(), "dead") {
			t.Error("the dead session was not ended in its TTL and a second")
		}
	})
}

func TestRenewedSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		k := started(t, store, "a")
		strange(t, store, "other", time.Hour)
		begin := time.Now()
		pass(time.Second)
		if k.RenewedSince("other", begin) || k.RenewedSince("nobody", begin) {
			t.Error("a session that stands still was seen to renew")
		}
		if err := store.RenewSession(t.Context(), "other"); err != nil {
			t.Fatal(err)
		}
		pass(watchEvery)
		if !k.RenewedSince("other", begin) {
			t.Error("a renewal was not seen")
		}
		if k.RenewedSince("other", time.Now()) {
			t.Error("a renewal from before was taken for a new one")
		}
		if err := store.RenewSession(t.Context(), "other"); err != nil {
			t.Fatal(err)
		}
		since := time.Now() // just after; it is seen only later
		pass(time.Second)
		if k.RenewedSince("other", since) {
			t.Error("a renewal from before that was seen late was taken for a new one")
		}
	})
}
