package delivery_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"catbird/conversation"
	"catbird/internal/memstore"
)

// Rule 18: two servers on one database that know nothing of each other. What one
// holds the other gets, and then both serve it directly for a minute.
func TestTwoServersWithoutANetworkServeTheSameConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on, noNetwork: true}), w.node("b", setup{flags: on, noNetwork: true})
		a.do(request(convo, alice, send(0)))
		if w.holder(convo) != "a" {
			t.Fatalf("held by %q", w.holder(convo))
		}
		begin := time.Now()
		b.do(request(convo, bob, send(0)))
		if took := time.Since(begin); took > ttl/3+time.Second+maxPause {
			t.Errorf("took %v", took)
		}
		if n := w.store.Calls(memstore.Want); n != 1 {
			t.Errorf("wanted %d times", n)
		}
		claims := w.store.Calls(memstore.Claim)
		begin = time.Now()
		for range 20 { // both, and neither waits for the other
			a.do(request(convo, alice, send(0)))
			b.do(request(convo, bob, send(0)))
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %v", took)
		}
		if w.store.Calls(memstore.Claim) != claims || w.holder(convo) != "" {
			t.Error("one of them has claimed it meanwhile")
		}
		pass(time.Minute)
		b.do(request(convo, bob, send(0)))
		if w.holder(convo) != "b" {
			t.Error("not served by an actor after the minute")
		}
	})
}

// The same with a network that is cut: the holder is known by its address, but
// not reached.
func TestHolderOutOfReachIsAskedInTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
		a.do(request(convo, alice, send(0)))
		w.link("b", "a", down)
		w.link("a", "b", down)
		b.do(request(convo, bob, send(0)))
		if w.store.Calls(memstore.Want) != 1 {
			t.Error("not asked in the database")
		}
		a.do(request(convo, alice, commit()))
		b.do(request(convo, bob, send(1)))
	})
}

// A holder that is out of reach for a moment, as one that has just come back is
// for those who saw it dead, is asked over the network as soon as that works, and
// keeps the conversation.
func TestHolderOutOfReachForAMomentKeepsTheConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
		a.do(request(convo, alice, send(0)))
		w.link("b", "a", down)
		time.AfterFunc(time.Second, func() { w.link("b", "a", up) })
		begin := time.Now()
		b.do(request(convo, bob, send(0)))
		if took := time.Since(begin); took > 1500*time.Millisecond {
			t.Errorf("served after %v, and the network was back after a second", took)
		}
		if w.store.Calls(memstore.Want) != 0 || w.holder(convo) != "a" {
			t.Errorf("wanted %d times, held by %q", w.store.Calls(memstore.Want), w.holder(convo))
		}
	})
}

// A holder that is dead need not be asked: its session will be over soon, and
// then an actor takes the conversation.
func TestDeadHolderIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
		a.do(request(convo, alice, send(0)))
		w.kill(a)
		begin := time.Now()
		b.do(request(convo, bob, send(0)))
		if took := time.Since(begin); took > ttl+time.Second {
			t.Errorf("taken over after %v, want at most its ttl and a second", took)
		}
		if w.store.Calls(memstore.Want) != 0 || w.holder(convo) != "b" {
			t.Errorf("wanted %d times, held by %q", w.store.Calls(memstore.Want), w.holder(convo))
		}
	})
}

// The holder's claim may have been left behind, with no actor to let go of.
func TestClaimLeftBehindIsGivenToWhoWantsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on, noNetwork: true}), w.node("b", setup{flags: off, noNetwork: true})
		if _, err := w.store.Claim(t.Context(), a.keeper.Current().ID(), []string{convo}); err != nil {
			t.Fatal(err)
		}
		b.do(request(convo, bob, send(0)))
		a.do(request(convo, alice, send(0)))
	})
}

// One that is let go of in the middle of its work finishes what has begun, and
// the rest is served directly.
func TestWantedInTheMiddleOfWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on, noNetwork: true}), w.node("b", setup{flags: on, noNetwork: true})
		a.do(request(convo, alice, send(0)))
		w.store.SetFaults(func(c memstore.Call) memstore.Fault { // everything takes a while
			if c.Op == memstore.Append || c.Op == memstore.Direct {
				return memstore.Fault{Before: 20 * time.Millisecond, After: 20 * time.Millisecond}
			}
			return memstore.Fault{}
		})
		var wg sync.WaitGroup
		for _, n := range []*node{a, a, a, b, b, b} {
			wg.Go(func() {
				for i := range 50 {
					who := alice
					if i%2 == 0 {
						who = bob
					}
					n.do(request(convo, who, send(0)))
				}
			})
		}
		wg.Wait()
		if got := w.store.State(convo).Seq; got != 301 {
			t.Errorf("%d rows, want 301", got)
		}
	})
}

// All at once: each server is asked for what the other holds.
func TestTwoServersWantEachOthersConversations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on, noNetwork: true}), w.node("b", setup{flags: on, noNetwork: true})
		var wg sync.WaitGroup
		for i := range 20 {
			w.store.Seed(convoID(i), alice)
			for _, n := range []*node{a, b} {
				wg.Go(func() {
					for range 5 {
						n.do(request(convoID(i), alice, conversation.Send{Ciphertext: []byte("x")}))
					}
				})
			}
		}
		wg.Wait()
		for i := range 20 {
			if err := w.store.Check(convoID(i)); err != nil {
				t.Error(err)
			}
		}
	})
}
