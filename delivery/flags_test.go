package delivery_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"catbird/conversation"
	"catbird/delivery"
	"catbird/internal/memstore"
)

func TestFlagDecidesThePath(t *testing.T) {
	tests := []struct {
		name    string
		flags   delivery.Flags
		through func(convo string) bool // the actor
	}{
		{"off", off, func(string) bool { return false }},
		{"on", on, func(string) bool { return true }},
		{"half", delivery.Flags{ActorSystem: true, RolloutPercent: 50}, delivery.Flags{ActorSystem: true, RolloutPercent: 50}.Covers},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				n := w.node("a", setup{flags: tt.flags, noNetwork: true})
				direct := 0
				for i := range 50 {
					id := convoID(i)
					w.store.Seed(id, alice)
					n.do(request(id, alice, send(0)))
					if n.reg.Has(id) != tt.through(id) {
						t.Errorf("%s: actor %v, want %v", id, n.reg.Has(id), tt.through(id))
					}
					if !tt.through(id) {
						direct++
						if w.holder(id) != "" {
							t.Errorf("%s is claimed", id)
						}
					}
				}
				if got := w.store.Calls(memstore.Direct); got != direct {
					t.Errorf("%d changes took the direct path, want %d", got, direct)
				}
			})
		})
	}
}

// Turning actors off lets go of everything, and then the database is written
// directly.
func TestTurningOffLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.node("a", setup{flags: on, noNetwork: true})
		for i := range 50 {
			w.store.Seed(convoID(i), alice)
			n.do(request(convoID(i), alice, send(0)))
		}
		half := delivery.Flags{ActorSystem: true, RolloutPercent: 50}
		for _, f := range []delivery.Flags{half, off} {
			if err := n.svc.SetFlags(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			if n.svc.Flags() != f {
				t.Errorf("flags are %+v", n.svc.Flags())
			}
			for i := range 50 {
				if held := w.holder(convoID(i)) == "a"; held != f.Covers(convoID(i)) {
					t.Errorf("%+v: %s is held: %v", f, convoID(i), held)
				}
			}
		}
		n.do(request(convoID(0), alice, send(0)))
		if n.reg.Active() != 0 {
			t.Errorf("%d actors with the flag off", n.reg.Active())
		}
	})
}

func TestFlagsThatAreNone(t *testing.T) {
	w := newWorld(t)
	n := w.node("a", setup{flags: on, noNetwork: true})
	if err := n.svc.SetFlags(t.Context(), delivery.Flags{RolloutPercent: 101}); err == nil {
		t.Error("accepted")
	}
	if n.svc.Flags() != on {
		t.Errorf("flags are %+v", n.svc.Flags())
	}
}

// A change of the flag under load fails no request (I8), and nothing is lost or
// doubled.
func TestSetFlagsUnderLoad(t *testing.T) {
	w := newWorld(t)
	n := w.node("a", setup{flags: on, noNetwork: true})
	const convos = 10
	for i := range convos {
		w.store.Seed(convoID(i), alice)
	}
	var wg sync.WaitGroup
	var done atomic.Int64
	stop, goesOn := make(chan struct{}), make(chan struct{}, 1)
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				r := request(convoID((g+i)%convos), alice, send(0))
				if _, err := n.try(r); err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				w.once(r)
				if done.Add(1)%20 == 0 {
					select {
					case goesOn <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	for i := range 60 {
		f := []delivery.Flags{off, on, {ActorSystem: true, RolloutPercent: 50}}[i%3]
		if err := n.svc.SetFlags(context.Background(), f); err != nil {
			t.Error(err)
		}
		<-goesOn
	}
	close(stop)
	wg.Wait()
	var rows int64
	for i := range convos {
		if err := w.store.Check(convoID(i)); err != nil {
			t.Error(err)
		}
		rows += w.store.State(convoID(i)).Seq
	}
	if rows != done.Load() {
		t.Errorf("%d rows, %d acknowledged", rows, done.Load())
	}
}

// Rule 14: one's own claim is served through the actor, flag or no flag. Here
// the claim was left behind by a lost reply.
func TestOwnClaimGoesThroughTheActor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.node("a", setup{flags: off, noNetwork: true})
		if _, err := w.store.Claim(t.Context(), n.keeper.Current().ID(), []string{convo}); err != nil {
			t.Fatal(err)
		}
		n.do(request(convo, alice, send(0)))
		synctest.Wait()
		if w.holder(convo) != "" || n.reg.Has(convo) {
			t.Error("the claim was kept with the flag off")
		}
		if _, fence := w.store.Holder(convo); fence != 2 {
			t.Errorf("fence %d, want 2: through the actor", fence)
		}
		n.do(request(convo, alice, conversation.Leave{Target: bob}))
		if w.store.Calls(memstore.Claim) != 2 {
			t.Error("the actor went on")
		}
	})
}
