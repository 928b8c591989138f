package actor

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"catbird/conversation"
	"catbird/internal/memstore"
	"catbird/persistence"
)

// mixture is one of every kind of change, which all succeed one after another
// from epoch 0 on.
func mixture() []*conversation.Request {
	return []*conversation.Request{
		request(convo, alice, send(0, "one")),
		request(convo, alice, add(carol)),
		keyed(convo, bob, "key", send(1, "two")),
		request(convo, carol, commit()),
		request(convo, alice, conversation.Leave{Target: bob}),
		keyed(convo, alice, "key", add(bob)),
	}
}

// Rule 8: where the conversation is not what the unit was built on, that
// conversation alone fails; its actor loads it anew and tries once more.
func TestConflictReloadsAndLeavesOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.store.Seed("beef", alice)
		h.do(sends(1, 0)[0])
		h.do(request("beef", alice, send(0, "x")))
		// Something raises the fence behind the actor's back: a claim of this
		// session's whose reply was lost.
		hold := make(chan struct{})
		h.store.FailAlways(memstore.Append, memstore.Fault{Hold: hold})
		blockers := h.start(request("beef", alice, send(0, "x")), sends(1, 0)[0]) // each in a transaction of its own
		if _, err := h.store.Claim(t.Context(), h.sessions.p.Load().id, []string{convo}); err != nil {
			t.Fatal(err)
		}
		calls := h.start(append(mixture(), request("beef", alice, commit()))...)
		close(hold)
		h.all(append(blockers, calls...))
		h.once(append(blockers, calls...))
		if got := h.store.State("beef"); got.Seq != 3 || got.Epoch != 1 {
			t.Errorf("the other conversation is at %+v", got)
		}
		if _, fence := h.store.Holder("beef"); fence != 1 {
			t.Errorf("the other conversation was claimed %d times, want once", fence)
		}
		if _, fence := h.store.Holder(convo); fence != 3 {
			t.Errorf("fence %d, want 3: loaded, raised from outside, loaded anew", fence)
		}
	})
}

// A conversation that conflicts again and again is given up; nothing was stored.
func TestConflictTwiceIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		session := h.sessions.p.Load().id
		h.store.SetFaults(func(c memstore.Call) memstore.Fault {
			if c.Op == memstore.Append {
				if _, err := h.store.Claim(context.Background(), session, []string{convo}); err != nil {
					t.Error(err)
				}
			}
			return memstore.Fault{}
		})
		calls := h.start(sends(1, 0)...)
		refused(t, calls[0].err, conversation.Unavailable)
		if errors.Is(calls[0].err, persistence.ErrOutcomeUnknown) {
			t.Error("what certainly was not stored is called unknown")
		}
		h.never(calls)
		if n := h.store.Calls(memstore.Append); n != 2 {
			t.Errorf("%d appends, want 2", n)
		}
		h.store.SetFaults(nil)
		h.do(sends(1, 0)[0])
	})
}

// A conversation that another node has taken meanwhile is left to it.
func TestConflictWithAnotherHolderNamesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.do(sends(1, 0)[0])
		if err := h.store.EndSession(t.Context(), h.sessions.p.Load().id); err != nil {
			t.Fatal(err)
		}
		h.newSession() // the node has noticed, the actor has not
		other, _ := h.elsewhere(convo)
		_, err := h.reg.Do(t.Context(), sends(1, 0)[0])
		var held *persistence.HeldError
		if !errors.As(err, &held) || held.Holder.Session != other || held.Holder.Node != "there" {
			t.Errorf("error %v, want held by %s", err, other)
		}
		if errors.Is(err, persistence.ErrOutcomeUnknown) {
			t.Error("what certainly was not stored is called unknown")
		}
		if h.reg.Has(convo) {
			t.Error("the actor lives on")
		}
	})
}

// Rule 10: after a lost reply the conversation is claimed anew, and then each
// change is there or never will be. However the reply was lost, and whenever the
// statement runs, every change happens exactly once.
func TestLostReplyToAnAppendChangesEverythingOnce(t *testing.T) {
	for name, f := range map[string]memstore.Fault{
		"ran":                         {Fate: memstore.ReplyLost},
		"never ran":                   {Fate: memstore.RequestLost},
		"ran much later":              {Fate: memstore.RunsLater, Before: 1e9},
		"runs at once, with no reply": {Fate: memstore.RunsLater},
		"takes too long":              {Before: 7e9},
		"reply takes too long":        {After: 7e9},
		"panicked before":             {Fate: memstore.PanicsBefore},
		"panicked after":              {Fate: memstore.PanicsAfter},
	} {
		for _, lost := range []int{1, 2} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHouse(t, nil)
					release := h.held()
					calls := h.start(append(sends(1, 0), mixture()...)...)
					h.store.Fail(memstore.Append, []memstore.Fault{f, f}[:lost]...) // of the whole mixture
					release()
					h.all(calls)
					h.store.Wait()
					h.once(calls)
					if got := h.store.State(convo); got.Epoch != 4 || got.Seq != 7 {
						t.Errorf("epoch %d, seq %d; want 4 and 7", got.Epoch, got.Seq)
					}
					for i, c := range calls {
						if c.res.Seq != int64(i+1) || c.res.ID != c.req.ID {
							t.Errorf("request %d was told %+v", i, c.res)
						}
					}
					h.do(request(convo, alice, send(4, "after"))) // memory is what the database is
				})
			})
		}
	}
}

// A zombie is an append that lands after everybody has given it up. It must
// never double a change, nor fork the log, wherever it lands.
func TestZombieAppendNeverForks(t *testing.T) {
	land := map[string]func(h *house, hold chan struct{}){
		"before the claim":     func(*house, chan struct{}) {},
		"after the new append": func(h *house, hold chan struct{}) { h.do(request(convo, alice, commit())); close(hold) },
		"after another's claim": func(h *house, hold chan struct{}) {
			if err := h.reg.Release(context.Background(), convo); err != nil {
				h.t.Error(err)
			}
			h.elsewhere(convo)
			close(hold)
		},
		"after a direct write": func(h *house, hold chan struct{}) {
			if err := h.reg.Release(context.Background(), convo); err != nil {
				h.t.Error(err)
			}
			r := request(convo, alice, conversation.Leave{Target: bob})
			if _, err := h.store.Direct(context.Background(), "", r, env()); err != nil {
				h.t.Error(err)
			}
			close(hold)
		},
	}
	for name, when := range land {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				h.do(sends(1, 0)[0])
				hold := make(chan struct{})
				if name == "before the claim" {
					close(hold)
				}
				h.store.Fail(memstore.Append, memstore.Fault{Fate: memstore.RunsLater, Hold: hold})
				calls := h.start(request(convo, bob, send(0, "zombie")))
				h.all(calls)
				h.once(calls)
				when(h, hold)
				h.store.Wait()
				h.once(calls) // and Check at the end
			})
		})
	}
}

// Three lost replies, and the node gives up: who is in doubt hears so, who only
// waited hears that nothing has happened.
func TestLostRepliesWithoutEndAreUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		hold := make(chan struct{})
		h.store.FailAlways(memstore.Append, memstore.Fault{Fate: memstore.RequestLost, Hold: hold})
		doubt := h.start(sends(1, 0)...)
		waits := h.start(sends(1, 0)...)
		close(hold)
		synctest.Wait()
		if err := doubt[0].err; !errors.Is(err, persistence.ErrOutcomeUnknown) {
			t.Errorf("error %v, want an unknown outcome", err)
		}
		if err := waits[0].err; !errors.Is(err, persistence.ErrUnavailable) || errors.Is(err, persistence.ErrOutcomeUnknown) {
			t.Errorf("error %v, want unavailable and nothing unknown", err)
		}
		if n := h.store.Calls(memstore.Append); n != 3 {
			t.Errorf("%d appends, want 3", n)
		}
		h.store.SetFaults(nil)
		h.do(sends(1, 0)[0])
		h.never(waits)
	})
}

// A node that has lost its database long enough for its memory to lapse does not
// ask it for more, which would make whoever waits wait again: others may reach it.
func TestLostReplyAfterTheSessionHasLapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.do(sends(1, 0)[0])
		h.store.FailAlways(memstore.Append, memstore.Fault{Fate: memstore.RequestLost})
		claims := h.store.Calls(memstore.Claim)
		h.sessions.p.Load().lapsed.Store(true)
		doubt := h.start(sends(1, 0)...)
		synctest.Wait()
		if err := doubt[0].err; !errors.Is(err, persistence.ErrOutcomeUnknown) {
			t.Errorf("error %v, want an unknown outcome", err)
		}
		if h.store.Calls(memstore.Claim) != claims {
			t.Error("claimed anew")
		}
	})
}

// After a lost reply the claim fails: what is in doubt is called so, with the
// reason that lets the asker go on.
func TestLostReplyAndThenNoClaim(t *testing.T) {
	var held *persistence.HeldError
	tests := []struct {
		name  string
		then  func(h *house) memstore.Fault // what happens before the claim, and its fault
		check func(error) bool
	}{
		{
			"database gone", func(*house) memstore.Fault { return memstore.Fault{Fate: memstore.Refused} },
			func(err error) bool { return errors.Is(err, persistence.ErrUnavailable) },
		},
		{
			"reply lost", func(*house) memstore.Fault { return memstore.Fault{Fate: memstore.RequestLost} },
			func(err error) bool { return errors.Is(err, persistence.ErrUnavailable) },
		},
		{"held elsewhere", func(h *house) memstore.Fault {
			_ = h.store.EndSession(context.Background(), h.sessions.p.Load().id)
			h.elsewhere(convo)
			h.newSession()
			return memstore.Fault{}
		}, func(err error) bool { return errors.As(err, &held) }},
		{"session over", func(h *house) memstore.Fault {
			_ = h.store.EndSession(context.Background(), h.sessions.p.Load().id)
			return memstore.Fault{}
		}, func(err error) bool { return errors.Is(err, ErrMoving) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				h.do(sends(1, 0)[0])
				hold := make(chan struct{})
				h.store.FailAlways(memstore.Append, memstore.Fault{Fate: memstore.ReplyLost, Hold: hold})
				doubt := h.start(sends(1, 0)...)
				waits := h.start(sends(1, 0)...)
				f := tt.then(h)
				h.store.FailAlways(memstore.Claim, f)
				close(hold)
				synctest.Wait()
				if err := doubt[0].err; !errors.Is(err, persistence.ErrOutcomeUnknown) || !tt.check(err) {
					t.Errorf("who is in doubt hears %v", err)
				}
				if err := waits[0].err; errors.Is(err, persistence.ErrOutcomeUnknown) || !tt.check(err) {
					t.Errorf("who only waited hears %v", err)
				}
				if h.reg.Has(convo) {
					t.Error("the actor lives on")
				}
				h.store.SetFaults(nil)
				if tt.name == "database gone" || tt.name == "reply lost" {
					retry := *doubt[0].req
					retry.Retry = true
					if res := h.do(&retry); res.ID != doubt[0].req.ID {
						t.Errorf("asked again, got %+v", res)
					}
					h.once(doubt)
				}
			})
		})
	}
}

// An error that is certain leaves what is known as it is.
func TestUnavailableStoresNothingAndForgetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.do(request(convo, alice, commit()))
		h.store.Fail(memstore.Append, memstore.Fault{Fate: memstore.Refused})
		calls := h.start(request(convo, alice, commit()))
		if err := calls[0].err; !errors.Is(err, persistence.ErrUnavailable) || errors.Is(err, persistence.ErrOutcomeUnknown) {
			t.Errorf("error %v", err)
		}
		if e := h.epoch(); e != 1 {
			t.Errorf("epoch %d in memory, want 1", e)
		}
		claims := h.store.Calls(memstore.Claim)
		h.do(request(convo, alice, commit()))
		if h.store.Calls(memstore.Claim) != claims {
			t.Error("claimed anew for nothing")
		}
		h.never(calls)
	})
}

// A fault of the database that strikes a whole transaction is tried for each
// unit alone, so that it strikes only whose it is.
func TestFaultOfOneUnitSparesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		hold := make(chan struct{})
		h.store.SetFaults(func(c memstore.Call) memstore.Fault {
			if c.Op != memstore.Append {
				return memstore.Fault{}
			}
			for _, id := range c.Convos {
				if id == convoID(7) {
					return memstore.Fault{Fate: memstore.Refused, Err: errTest}
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
				if !errors.Is(c.err, errTest) {
					t.Errorf("error %v, want the fault", c.err)
				}
			} else if c.err != nil {
				t.Errorf("conversation %d: %v", i, c.err)
			}
		}
	})
}

// One change that the database refuses fails alone; those that were in one unit
// with it are stored.
func TestRefusedChangeFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		rs := append(sends(1, 0), mixture()...)
		bad := request(convo, alice, conversation.Commit{Commit: []byte("bad")})
		rs = append(rs, bad, request(convo, alice, conversation.Leave{Target: "did:plc:nobody"}), request(convo, alice, send(4, "last")))
		h.store.Poison(bad.ID)
		calls := h.start(rs...)
		release()
		synctest.Wait()
		for _, c := range calls {
			switch {
			case c.req == bad:
				refused(t, c.err, conversation.InternalServerError)
				h.never([]*call{c})
			case c.req == rs[len(rs)-2]:
				refused(t, c.err, conversation.TargetNotMember)
			default:
				h.all([]*call{c})
				h.once([]*call{c})
			}
		}
		h.do(request(convo, alice, send(4, "x")))
	})
}

// Rule 23: a change that uses key packages is a unit of its own, and fails alone
// when one is gone.
func TestKeyPackagesAreAUnitOfTheirOwn(t *testing.T) {
	hash := make([]byte, 32)
	with := func(did string) conversation.AddMembers {
		return conversation.AddMembers{DIDs: []string{did}, KeyPackages: []conversation.KeyPackageRef{{DID: did, Hash: hash}}}
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.store.AddKeyPackage(carol, hash)
		sizes := 0
		release := h.held()
		calls := h.start(
			sends(1, 0)[0],
			request(convo, alice, send(0, "before")),
			request(convo, alice, with("did:plc:without")), // has none
			request(convo, alice, with(carol)),
			request(convo, alice, send(1, "after")),
			request(convo, alice, conversation.Leave{Target: carol}),
			request(convo, alice, with(carol)), // used up
			request(convo, alice, send(2, "last")),
		)
		release()
		synctest.Wait()
		for i, c := range calls {
			if i == 2 || i == 6 {
				refused(t, c.err, conversation.KeyPackageNotFound)
				h.never([]*call{c})
				continue
			}
			h.all([]*call{c})
			h.once([]*call{c})
		}
		sizes = h.store.Calls(memstore.Append)
		if sizes != 7 { // first, before, without, carol, after+leave, carol again, last
			t.Errorf("%d appends, want 7", sizes)
		}
		if h.store.Calls(memstore.Claim) != 1 {
			t.Error("a key package that is gone cost a claim")
		}
	})
}

// A key package that is gone is told under rule 11's check, as every refusal.
func TestKeyPackageGoneUnderALapsedSessionIsDecidedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.do(sends(1, 0)[0])
		h.sessions.p.Load().lapsed.Store(true)
		r := request(convo, alice, conversation.AddMembers{
			DIDs: []string{carol}, KeyPackages: []conversation.KeyPackageRef{{DID: carol, Hash: make([]byte, 32)}},
		})
		_, err := h.reg.Do(t.Context(), r)
		refused(t, err, conversation.KeyPackageNotFound)
		if n := h.store.Calls(memstore.Claim); n != 2 {
			t.Errorf("%d claims, want a second one", n)
		}
	})
}
