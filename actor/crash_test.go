package actor

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"catbird/conversation"
	"catbird/internal/memstore"
	"catbird/persistence"
)

// explosive is a command that panics when it is decided.
type explosive struct{ conversation.Command }

func (explosive) Op() conversation.Op { return conversation.OpSend }
func (explosive) Size() int           { return 1 }

func bomb() *conversation.Request {
	return &conversation.Request{ID: newID(), Convo: convo, Caller: alice, Command: explosive{}}
}

// A panic stops the actor; whoever waited is told to try again, and nothing of
// it has happened. The next one, after a while, loads the conversation anew.
func TestPanicStopsTheActorAndTheNextLoadsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		first := h.start(sends(1, 0)...)
		batch := h.start(request(convo, alice, commit()), bomb(), request(convo, alice, send(1, "x")))
		release()
		synctest.Wait()
		h.all(first)
		for _, c := range batch {
			refused(t, c.err, conversation.Unavailable)
			if errors.Is(c.err, persistence.ErrOutcomeUnknown) {
				t.Error("nothing was sent, and it is called unknown")
			}
		}
		h.never(batch)
		if h.reg.Has(convo) || h.claimed(convo) {
			t.Error("the actor lives on")
		}
		if h.logs.count("Actor crashed") != 1 {
			t.Error("the crash was not logged")
		}
		_, err := h.reg.Do(t.Context(), sends(1, 0)[0])
		refused(t, err, conversation.Unavailable) // held back
		pass(firstBackoff)
		h.do(sends(1, 0)[0])
		if _, fence := h.store.Holder(convo); fence != 2 {
			t.Errorf("fence %d, want 2: loaded anew", fence)
		}
	})
}

// What is on its way to the database when the actor panics is in doubt, and
// called so. The panic here is in the look at the session after a key package
// was found gone.
func TestPanicWithAnAppendThatReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.do(sends(1, 0)[0])
		h.sessions.p.Load().panicky.Store(true)
		_, err := h.reg.Do(t.Context(), sends(1, 5)[0]) // a refusal, which looks at the session
		refused(t, err, conversation.Unavailable)
		h.sessions.p.Load().panicky.Store(false)
		pass(firstBackoff)
		h.do(sends(1, 0)[0])
	})
}

// Backoff doubles, and after five crashes in a minute the conversation rests
// until the minute has passed.
func TestRestartsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		begin := time.Now()
		allowed := func() bool {
			_, err := h.reg.Do(t.Context(), sends(1, 0)[0])
			if err != nil {
				refused(t, err, conversation.Unavailable)
			}
			return err == nil
		}
		for _, backoff := range []time.Duration{100, 200, 400, 800} {
			_, err := h.reg.Do(t.Context(), bomb())
			refused(t, err, conversation.Unavailable)
			pass(backoff*time.Millisecond - 1)
			if allowed() {
				t.Fatalf("restarted before %d ms had passed", backoff)
			}
			pass(1)
			if !allowed() {
				t.Fatalf("not restarted after %d ms", backoff)
			}
		}
		_, err := h.reg.Do(t.Context(), bomb())
		refused(t, err, conversation.Unavailable)
		pass(time.Until(begin.Add(restartWindow)) - 1)
		if allowed() {
			t.Error("restarted too often within the window")
		}
		pass(1)
		if !allowed() {
			t.Error("not restarted after the window")
		}
		h.store.Seed("beef", alice)
		h.do(request("beef", alice, send(0, "others are not held back")))
	})
}

// A panic below the store strikes once: it is a lost reply, and the change
// happens exactly once. (TestLostReplyToAnAppendChangesEverythingOnce has it for
// whole batches.)
//
// It strikes again and again: then the actor has crashed. What may be stored is
// called unknown, what waited is told to try again.
func TestPanicInTheStore(t *testing.T) {
	tests := []struct {
		op      memstore.Op
		unknown bool
	}{{memstore.Append, true}, {memstore.Claim, false}, {memstore.Lookup, false}}
	for _, tt := range tests {
		t.Run(string(tt.op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				h.store.FailAlways(tt.op, memstore.Fault{Fate: memstore.PanicsBefore, Hold: nil})
				r := keyed(convo, alice, "k", send(0, "x"))
				calls := h.start(r)
				if errors.Is(calls[0].err, persistence.ErrOutcomeUnknown) != tt.unknown {
					t.Errorf("error %v, want unknown: %v", calls[0].err, tt.unknown)
				}
				refused(t, calls[0].err, conversation.Unavailable)
				if h.logs.count("Actor crashed") != 1 || h.logs.count("the store panicked") == 0 {
					t.Error("the crash was not logged")
				}
				h.store.SetFaults(nil)
				_, err := h.reg.Do(t.Context(), keyed(convo, alice, "k", send(0, "x")))
				refused(t, err, conversation.Unavailable) // held back
				pass(firstBackoff)
				h.do(keyed(convo, alice, "k", send(0, "x")))
			})
		})
	}
}

// One conversation whose claim panics does not keep the others from loading.
func TestPanicOfOneClaimSparesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		hold := make(chan struct{})
		h.store.SetFaults(func(c memstore.Call) memstore.Fault {
			if c.Op != memstore.Claim {
				return memstore.Fault{}
			}
			for _, id := range c.Convos {
				if id == convoID(7) {
					return memstore.Fault{Fate: memstore.PanicsBefore}
				}
			}
			return memstore.Fault{Hold: hold}
		})
		var rs []*conversation.Request
		for i := range 10 {
			h.store.Seed(convoID(i), alice)
			rs = append(rs, request(convoID(i), alice, send(0, "x")))
		}
		calls := h.start(rs...)
		close(hold)
		synctest.Wait()
		for i, c := range calls {
			if i == 7 {
				refused(t, c.err, conversation.Unavailable)
			} else if c.err != nil {
				t.Errorf("conversation %d: %v", i, c.err)
			}
		}
	})
}

// A panic while claims are given back hurts nobody who waits for it.
func TestPanicWhileReleasing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.IdleTimeout = time.Minute })
		h.do(sends(1, 0)[0])
		h.store.Fail(memstore.Release, memstore.Fault{Fate: memstore.PanicsBefore})
		pass(2 * time.Minute)
		if h.reg.Has(convo) {
			t.Fatal("not let go of")
		}
		h.do(sends(1, 0)[0])
		h.store.Fail(memstore.Release, memstore.Fault{Fate: memstore.PanicsAfter})
		if err := h.reg.ReleaseAll(context.Background(), func(string) bool { return true }); !errors.Is(err, persistence.ErrOutcomeUnknown) {
			t.Errorf("error %v", err)
		}
		h.do(sends(1, 0)[0])
	})
}

func TestSupervisorForgets(t *testing.T) {
	var s supervisor
	s.init()
	now := time.Now()
	for i := range maxCrashed + 100 {
		s.crashed(convoID(i), now)
	}
	if n := len(s.crashes); n > maxCrashed {
		t.Errorf("%d conversations remembered, want at most %d", n, maxCrashed)
	}
	for i := 0; len(s.crashes) < maxCrashed; i++ {
		s.crashed(convoID(2*maxCrashed+i), now)
	}
	s.crashed("beef", now.Add(2*restartWindow))
	if n := len(s.crashes); n != 1 {
		t.Errorf("%d conversations remembered after their window", n)
	}
}
