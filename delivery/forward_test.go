package delivery_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"catbird/conversation"
	"catbird/delivery"
	"catbird/internal/memstore"
	"catbird/peer"
	"catbird/persistence"
)

// Whoever is asked sends the request to whom the ring names, where it is served.
func TestRequestGoesToTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
		w.setOwner(convo, "b")
		a.do(request(convo, alice, send(0)))
		if a.reg.Has(convo) || !b.reg.Has(convo) || w.holder(convo) != "b" {
			t.Errorf("held by %q", w.holder(convo))
		}
		_, err := a.try(request(convo, alice, send(7)))
		refused(t, err, conversation.EpochMismatch)
		var e *conversation.Error
		if !errors.As(err, &e) || e.Expected != 7 || e.Current != 0 {
			t.Errorf("the refusal lost its epochs: %+v", e)
		}
		if epoch, err := a.svc.Epoch(t.Context(), convo, alice); err != nil || epoch != 0 {
			t.Errorf("epoch %d, %v", epoch, err)
		}
		if w.store.Calls(memstore.Epoch) != 0 {
			t.Error("the database was asked for what the owner knows")
		}
	})
}

// Rule 16: the ring is not what decides. Another has the conversation, and the
// request ends there; next time it goes there at once.
func TestRequestFollowsTheHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b, c := w.node("a", setup{flags: on}), w.node("b", setup{flags: on}), w.node("c", setup{flags: on})
		w.setOwner(convo, "c")
		c.do(request(convo, alice, send(0)))
		w.setOwner(convo, "b") // which has not got it yet
		a.do(request(convo, alice, send(0)))
		if w.holder(convo) != "c" || b.reg.Has(convo) {
			t.Errorf("held by %q", w.holder(convo))
		}
		claims := w.store.Calls(memstore.Claim)
		a.do(request(convo, alice, send(0)))
		if w.store.Calls(memstore.Claim) != claims {
			t.Error("asked b again")
		}
	})
}

// Two rings that disagree: each names the other. Who is asked first must not send
// the request round in circles.
func TestRingsThatDisagree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
		w.setOwner(convo, "somebody else") // for both
		begin := time.Now()
		a.do(request(convo, alice, send(0)))
		b.do(request(convo, alice, send(0)))
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %v", took)
		}
		if w.holder(convo) != "a" {
			t.Errorf("held by %q", w.holder(convo))
		}
	})
}

// The owner says 'not mine' because its own ring names another, which is wrong:
// then the first node serves.
func TestNotMineWithoutAHolderIsServedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
		w.setOwner(convo, "b")
		b.leaving.Store(true) // and loads nothing more
		a.do(request(convo, alice, send(0)))
		if w.holder(convo) != "a" {
			t.Errorf("held by %q", w.holder(convo))
		}
	})
}

// An answer that is lost: the change is asked for again with its id, and happens
// once, whether the question had arrived or not.
func TestLostAnswerOfAPeer(t *testing.T) {
	for name, l := range map[string]link{"question lost": lost, "answer lost": deafened} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				a := w.node("a", setup{flags: on})
				w.node("b", setup{flags: on})
				w.setOwner(convo, "b")
				w.link("a", "b", l)
				time.AfterFunc(time.Millisecond, func() { w.link("a", "b", up) })
				r := request(convo, alice, add(carol))
				if res := a.do(r); res.Epoch != 1 {
					t.Errorf("got %+v", res)
				}
				w.link("a", "b", l) // and stays so
				r = request(convo, alice, commit())
				_, err := a.try(r)
				refused(t, err, conversation.OutcomeUnknown)
			})
		})
	}
}

// A peer that has too much to do keeps its conversations, and says so.
func TestBusyPeerKeepsItsConversations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
		w.setOwner(convo, "b")
		b.do(request(convo, alice, send(0)))
		w.link("a", "b", busy)
		_, err := a.try(request(convo, alice, send(0)))
		refused(t, err, conversation.Overloaded)
		if w.holder(convo) != "b" || w.store.Calls(memstore.Want) != 0 {
			t.Errorf("held by %q, wanted %d times", w.holder(convo), w.store.Calls(memstore.Want))
		}
	})
}

// The owner that cannot be reached holds nothing: it is served here at once.
func TestUnreachableOwnerThatHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.node("a", setup{flags: on})
		w.node("b", setup{flags: on})
		w.setOwner(convo, "b")
		w.link("a", "b", down)
		begin := time.Now()
		a.do(request(convo, alice, send(0)))
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

// The flag is off on one node: it asks the holder all the same (rule 14).
func TestDirectPathAsksTheHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: off}), w.node("b", setup{flags: on})
		b.do(request(convo, alice, send(0)))
		a.do(request(convo, alice, commit()))
		if w.holder(convo) != "b" || w.store.State(convo).Epoch != 1 {
			t.Errorf("held by %q", w.holder(convo))
		}
		if epoch, err := a.svc.Epoch(t.Context(), convo, alice); err != nil || epoch != 1 {
			t.Errorf("epoch %d, %v", epoch, err)
		}
	})
}

// Rule 16: who is asked serves, or says at once why not, and asks nobody else.
func TestServe(t *testing.T) {
	ask := func(r *conversation.Request, must bool) peer.Question {
		return peer.Question{Change: r, MustServe: must}
	}
	tests := []struct {
		name  string
		setup func(w *world, b *node)
		q     peer.Question
		want  peer.Status
		code  conversation.Code
	}{
		{"mine", func(*world, *node) {}, ask(request(convo, alice, send(0)), false), peer.Served, ""},
		{"refused", func(*world, *node) {}, ask(request(convo, carol, send(0)), false), peer.Refused, conversation.NotMember},
		{"another's by the ring", func(w *world, _ *node) { w.setOwner(convo, "c") }, ask(request(convo, alice, send(0)), false), peer.NotMine, ""},
		{"another's by the ring, but nobody has it", func(w *world, _ *node) { w.setOwner(convo, "c") }, ask(request(convo, alice, send(0)), true), peer.Served, ""},
		{"leaving", func(_ *world, b *node) { b.leaving.Store(true) }, ask(request(convo, alice, send(0)), false), peer.NotMine, ""},
		{"leaving, and must", func(_ *world, b *node) { b.leaving.Store(true) }, ask(request(convo, alice, send(0)), true), peer.Served, ""},
		{"held by another", func(w *world, _ *node) { w.nodes["c"].do(request(convo, alice, send(0))) }, ask(request(convo, alice, send(0)), false), peer.NotMine, ""},
		{"database gone", func(w *world, _ *node) { w.store.FailAlways(memstore.Claim, memstore.Fault{Fate: memstore.Refused}) }, ask(request(convo, alice, send(0)), false), peer.Refused, conversation.Unavailable},
		{"in doubt", func(w *world, _ *node) { w.store.FailAlways(memstore.Append, memstore.Fault{Fate: memstore.ReplyLost}) }, ask(request(convo, alice, commit()), false), peer.Served, ""},
		{"in doubt for good", func(w *world, _ *node) {
			w.store.FailAlways(memstore.Append, memstore.Fault{Fate: memstore.RequestLost})
		}, ask(request(convo, alice, send(0)), false), peer.Refused, conversation.OutcomeUnknown},
		{"epoch", func(*world, *node) {}, peer.Question{Convo: convo, Caller: alice}, peer.Served, ""},
		{"epoch, no member", func(*world, *node) {}, peer.Question{Convo: convo, Caller: carol}, peer.Refused, conversation.NotMember},
		{"epoch, another's by the ring", func(w *world, _ *node) { w.setOwner(convo, "c") }, peer.Question{Convo: convo, Caller: alice}, peer.NotMine, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				b := w.node("b", setup{flags: on})
				w.node("c", setup{flags: on})
				tt.setup(w, b)
				q := tt.q
				if q.Change != nil {
					q.Change = request(convo, q.Change.Caller, q.Change.Command)
				}
				a := b.svc.Serve(t.Context(), q)
				if a.Status != tt.want || a.Draining != b.leaving.Load() {
					t.Fatalf("answer %+v", a)
				}
				if tt.code != "" && (a.Refusal == nil || a.Refusal.Code != tt.code) {
					t.Errorf("refusal %v", a.Refusal)
				}
				if tt.name == "held by another" && (a.Holder.Node != "c" || a.Holder.Address != "c" || a.Holder.Session != w.nodes["c"].keeper.Current().ID()) {
					t.Errorf("holder %+v", a.Holder)
				}
			})
		})
	}
}

// Who is letting go says 'moving', and the first node waits.
func TestServeWhileMoving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
		w.setOwner(convo, "b")
		b.do(request(convo, alice, send(0)))
		hold := make(chan struct{})
		w.store.Fail(memstore.Append, memstore.Fault{Hold: hold})
		w.wg.Go(func() { b.do(request(convo, alice, send(0))) })
		synctest.Wait()
		w.wg.Go(func() {
			if err := b.reg.Release(context.Background(), convo); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if got := b.svc.Serve(t.Context(), peer.Question{Change: request(convo, alice, send(0))}); got.Status != peer.Moving {
			t.Errorf("answer %+v", got)
		}
		w.wg.Go(func() { a.do(request(convo, alice, send(0))) })
		pass(time.Second)
		close(hold)
		w.wg.Wait()
	})
}

func TestTryEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.node("a", setup{flags: on})
		if _, ok, _ := n.svc.TryEpoch(convo, alice); ok {
			t.Error("answered without being loaded")
		}
		n.do(request(convo, alice, commit()))
		if epoch, ok, err := n.svc.TryEpoch(convo, alice); epoch != 1 || !ok || err != nil {
			t.Errorf("%d, %v, %v", epoch, ok, err)
		}
		_, ok, err := n.svc.TryEpoch(convo, carol)
		if !ok {
			t.Error("not answered")
		}
		refused(t, err, conversation.NotMember)
	})
}

// A node that starts is asked by those who know it from its life before. It holds
// nothing yet, and whoever asked serves.
func TestNodeWithoutASessionFailsNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
		w.setOwner(convo, "b")
		if err := b.keeper.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.do(request(convo, alice, send(0)))
		if got := w.holder(convo); got != "a" {
			t.Errorf("held by %q, want the one that has a session", got)
		}
		if got := b.svc.Accepts([]string{convo}); got != nil {
			t.Errorf("a node without a session accepts %v", got)
		}
	})
}

// Rule 17: conversations go only to a node whose own ring names it too; what it
// does not accept stays and is offered again.
func TestHandoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
		const n = 600
		for i := range n {
			w.store.Seed(convoID(i), alice)
			if err := a.reg.Load(t.Context(), convoID(i)); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				w.setOwner(convoID(i), "b")
			}
		}
		late := convoID(100)
		w.setOwner("b>"+late, "a") // b has not heard of it yet
		ctx, cancel := context.WithCancel(t.Context())
		changed := make(chan struct{})
		w.wg.Go(func() { a.svc.Handoff(ctx, changed, 1) })
		synctest.Wait()
		for i := range n {
			want := "a"
			if i%2 == 0 && convoID(i) != late {
				want = "b"
			}
			if got := w.holder(convoID(i)); got != want {
				t.Fatalf("conversation %d is held by %q, want %q", i, got, want)
			}
		}
		if a.reg.Active() != n/2+1 || b.reg.Active() != n/2-1 {
			t.Errorf("%d and %d active", a.reg.Active(), b.reg.Active())
		}
		a.do(request(late, alice, send(0))) // served where it is
		w.setOwner("b>"+late, "b")
		pass(time.Second)
		if got := w.holder(late); got != "b" {
			t.Errorf("held by %q after it was accepted", got)
		}
		w.setOwner(convoID(1), "b")
		changed <- struct{}{}
		synctest.Wait()
		if got := w.holder(convoID(1)); got != "b" {
			t.Errorf("held by %q after the ring has changed", got)
		}
		pass(10 * time.Second) // nothing has moved for long
		w.setOwner(convoID(3), "b")
		pass(10 * time.Second)
		if got := w.holder(convoID(3)); got != "b" {
			t.Errorf("held by %q long after a change that nobody told of", got)
		}
		cancel()
		w.wg.Wait()
	})
}

func TestHandoffToWhoIsOutOfReachLetsNothingGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
		a.do(request(convo, alice, send(0)))
		w.setOwner(convo, "b")
		w.link("a", "b", down)
		ctx, cancel := context.WithCancel(t.Context())
		w.wg.Go(func() { a.svc.Handoff(ctx, nil, 4) })
		pass(5 * time.Second)
		if w.holder(convo) != "a" {
			t.Error("let go of")
		}
		w.link("a", "b", up)
		pass(time.Second)
		if w.holder(convo) != "b" {
			t.Error("not handed over once it can be reached")
		}
		b.leaving.Store(true)
		if got := b.svc.Accepts([]string{convo}); got != nil {
			t.Errorf("a leaving node accepts %v", got)
		}
		cancel()
		w.wg.Wait()
	})
}

// A leaving node does not keep what the ring gives to a node without actors.
func TestLeavingLetsGoOfWhatNobodyTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Seed(convo, alice)
		a := w.node("a", setup{flags: on})
		a.do(request(convo, alice, send(0)))
		w.setOwner(convo, nobody)
		ctx, cancel := context.WithCancel(t.Context())
		changed := make(chan struct{})
		w.wg.Go(func() { a.svc.Handoff(ctx, changed, 4) })
		pass(time.Second)
		if w.holder(convo) != "a" {
			t.Error("let go of although the node stays")
		}
		a.leaving.Store(true)
		changed <- struct{}{}
		pass(time.Second)
		if got := w.holder(convo); got == "a" {
			t.Error("kept by the node that leaves")
		}
		cancel()
		w.wg.Wait()
	})
}

// Rolling restart in small: under load, one node after another leaves, hands
// over, stops; no request fails, on the leaving one neither.
func TestLeavingUnderLoadFailsNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nodes := []*node{w.node("a", setup{flags: on}), w.node("b", setup{flags: on}), w.node("c", setup{flags: on})}
		const n = 30
		for i := range n {
			w.store.Seed(convoID(i), alice)
			w.setOwner(convoID(i), nodes[i%3].name)
		}
		w.store.SetFaults(func(memstore.Call) memstore.Fault {
			return memstore.Fault{Before: time.Millisecond, After: time.Millisecond}
		})
		stop := make(chan struct{})
		sent := make([]int, 12)
		for g := range sent {
			w.wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					nodes[(g+i)%3].do(request(convoID((g+7*i)%n), alice, send(0)))
					sent[g]++
				}
			})
		}
		pass(time.Second)
		leaving, heir := nodes[0], nodes[1]
		for i := range n {
			if i%3 == 0 {
				w.setOwner(convoID(i), heir.name)
			}
		}
		leaving.leaving.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		hand := make(chan struct{})
		go func() { leaving.svc.Handoff(ctx, nil, 4); close(hand) }()
		pass(time.Second)
		if err := leaving.reg.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		cancel()
		<-hand
		pass(time.Second) // clients still come to it
		close(stop)
		w.wg.Wait()
		total := 0
		for _, k := range sent {
			total += k
		}
		var rows int64
		for i := range n {
			if err := w.store.Check(convoID(i)); err != nil {
				t.Error(err)
			}
			rows += w.store.State(convoID(i)).Seq
			if w.holder(convoID(i)) == leaving.name {
				t.Errorf("%s is still held by the one that left", convoID(i))
			}
		}
		if int(rows) != total || total < 1000 {
			t.Errorf("%d rows, %d acknowledged", rows, total)
		}
	})
}

var (
	_ delivery.Cluster = (*node)(nil)
	_ delivery.Peers   = (*node)(nil)
	_ delivery.Store   = (*memstore.Store)(nil)
	_ error            = (*persistence.HeldError)(nil)
)
