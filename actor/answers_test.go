package actor

import (
	"errors"
	"testing"
	"testing/synctest"

	"catbird/conversation"
	"catbird/internal/memstore"
	"catbird/persistence"
)

// Rule 13: all answers of a batch, refusals too, go out after its append is
// stored.
func TestRefusalsGoOutAfterTheAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		first := h.start(sends(1, 0)...)
		hold := make(chan struct{})
		batch := h.start(
			request(convo, alice, commit()),
			request(convo, alice, send(0, "refused: the commit before it moves the epoch")),
			request(convo, "did:plc:stranger", send(0, "refused")),
		)
		h.store.FailAlways(memstore.Append, memstore.Fault{Hold: hold})
		release()
		h.all(first)
		synctest.Wait()
		for i, c := range batch {
			if c.done.Load() {
				t.Errorf("request %d was answered (%v) before its batch is stored", i, c.err)
			}
		}
		close(hold)
		synctest.Wait()
		h.all(batch[:1])
		refused(t, batch[1].err, conversation.EpochMismatch)
		refused(t, batch[2].err, conversation.NotMember)
	})
}

// Rules 11 and 14: what appends nothing is answered from memory only under a
// session that is trusted. Here another node has moved the epoch meanwhile.
func TestRefusalIsNotToldFromStaleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.do(sends(1, 0)[0])
		session := h.sessions.p.Load()
		if err := h.store.EndSession(t.Context(), session.id); err != nil {
			t.Fatal(err)
		}
		r := request(convo, bob, commit())
		if _, err := h.store.Direct(t.Context(), "", r, env()); err != nil {
			t.Fatal(err)
		}
		session.lapsed.Store(true)
		// Memory says epoch 0, and would refuse.
		_, err := h.reg.Do(t.Context(), request(convo, alice, send(1, "right")))
		if !errors.Is(err, ErrMoving) {
			t.Errorf("error %v, want %v: the session is over, and another about to begin", err, ErrMoving)
		}
		h.newSession()
		h.do(request(convo, alice, send(1, "right")))
	})
}

// The session is only late: the conversation is claimed anew, and what is loaded
// then is the answer's ground.
func TestRefusalUnderALapsedSessionLoadsAnew(t *testing.T) {
	h := newHouse(t, nil)
	h.do(sends(1, 0)[0])
	_, err := h.reg.Do(t.Context(), sends(1, 5)[0])
	refused(t, err, conversation.EpochMismatch)
	if n := h.store.Calls(memstore.Claim); n != 1 {
		t.Errorf("%d claims, want 1: the session is trusted", n)
	}
	h.sessions.p.Load().lapsed.Store(true)
	_, err = h.reg.Do(t.Context(), sends(1, 5)[0])
	refused(t, err, conversation.EpochMismatch)
	if n := h.store.Calls(memstore.Claim); n != 2 {
		t.Errorf("%d claims, want 2", n)
	}
}

// Rule 26: the same key twice in one batch. The second waits for the first and
// gets its answer; with another body it is a conflict.
func TestSameKeyTwiceInOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		first := h.start(sends(1, 0)...)
		batch := h.start(
			keyed(convo, alice, "k", send(0, "body")),
			keyed(convo, alice, "k", send(0, "body")),
			keyed(convo, alice, "k", send(0, "another body")),
			keyed(convo, bob, "k", send(0, "another caller's key is another key")),
			keyed(convo, alice, "k", conversation.Commit{Commit: []byte("another operation's too")}),
		)
		release()
		synctest.Wait()
		h.all(append(first, batch[0], batch[1], batch[3], batch[4]))
		refused(t, batch[2].err, conversation.IdempotencyConflict)
		if batch[1].res != batch[0].res {
			t.Errorf("the second got %+v, the first %+v", batch[1].res, batch[0].res)
		}
		h.once([]*call{batch[0], batch[3], batch[4]})
		h.never([]*call{batch[1], batch[2]})
		if n := h.store.Calls(memstore.Append); n != 2 {
			t.Errorf("%d appends, want 2", n)
		}
	})
}

// One request that two nodes sent, after the first lost contact: one change.
func TestSameIDTwiceInOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		first := h.start(sends(1, 0)...)
		r := request(convo, alice, send(0, "once"))
		again := *r
		again.Retry = true
		batch := h.start(r, &again)
		release()
		h.all(append(first, batch...))
		h.once(batch)
		if batch[0].res != batch[1].res {
			t.Errorf("two answers: %+v, %+v", batch[0].res, batch[1].res)
		}
	})
}

// The second does not wait for one that is refused: it is decided by itself.
func TestSameKeyAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		first := h.start(sends(1, 0)...)
		batch := h.start(
			keyed(convo, alice, "k", send(1, "too early")),
			request(convo, alice, commit()),
			keyed(convo, alice, "k", send(1, "too early")),
		)
		release()
		synctest.Wait()
		h.all(append(first, batch[1:]...))
		refused(t, batch[0].err, conversation.EpochMismatch)
	})
}

// The key's first answer is told whatever has changed since, also when the
// actor was loaded anew in between.
func TestRepeatGetsItsFirstAnswer(t *testing.T) {
	h := newHouse(t, nil)
	r := keyed(convo, alice, "k", add(carol))
	first := h.do(r)
	h.do(request(convo, alice, commit()))
	for _, anew := range []bool{false, true} {
		if anew {
			if err := h.reg.Release(t.Context(), convo); err != nil {
				t.Fatal(err)
			}
		}
		again := keyed(convo, alice, "k", add(carol)) // carol is a member by now
		if res := h.do(again); res.ID != first.ID || res.Epoch != first.Epoch || res.Seq != first.Seq {
			t.Errorf("got %+v, first %+v", res, first)
		}
		_, err := h.reg.Do(t.Context(), keyed(convo, alice, "k", add("did:plc:dave")))
		refused(t, err, conversation.IdempotencyConflict)
	}
}

// Rule 19: no refusal before the id was looked up, where an earlier attempt may
// have been stored.
func TestRetryIsLookedUpBeforeItIsRefused(t *testing.T) {
	h := newHouse(t, nil)
	r := request(convo, alice, add(carol))
	first := h.do(r)
	again := *r
	again.Retry = true
	if res := h.do(&again); res.ID != first.ID || res.Epoch != first.Epoch {
		t.Errorf("got %+v, first %+v", res, first)
	}
	if n := h.store.Calls(memstore.Lookup); n != 1 {
		t.Errorf("%d lookups, want 1: a fresh id needs none", n)
	}
	h.once([]*call{{req: r}})
}

// An id that is there already and does not say so is found by the append's
// condition.
func TestIDThatIsThereAlreadyIsNotStoredAgain(t *testing.T) {
	h := newHouse(t, nil)
	r := request(convo, alice, send(0, "x"))
	first := h.do(r)
	again := *r
	if res := h.do(&again); res.ID != first.ID || res.Seq != first.Seq {
		t.Errorf("got %+v, first %+v", res, first)
	}
	h.once([]*call{{req: r}})
}

// Nothing is refused for want of a lookup: where that fails nothing is known.
func TestLookupThatFailsRefusesNothing(t *testing.T) {
	for name, f := range map[string]memstore.Fault{
		"unavailable": {Fate: memstore.Refused},
		"reply lost":  {Fate: memstore.ReplyLost},
		"times out":   {Before: 6e9},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				r := request(convo, alice, add(carol))
				first := h.do(r)
				again := *r
				again.Retry = true
				h.store.Fail(memstore.Lookup, f)
				_, err := h.reg.Do(t.Context(), &again)
				if !errors.Is(err, persistence.ErrUnavailable) || errors.Is(err, persistence.ErrOutcomeUnknown) {
					t.Errorf("error %v, want unavailable", err)
				}
				if res := h.do(&again); res.ID != first.ID {
					t.Errorf("got %+v, first %+v", res, first)
				}
			})
		})
	}
}

// Rule 7: loading always claims, also over one's own claim, and raises the fence.
func TestLoadingAlwaysClaims(t *testing.T) {
	h := newHouse(t, nil)
	for i := range int64(3) {
		h.do(sends(1, 0)[0])
		if _, fence := h.store.Holder(convo); fence != i+1 || !h.claimed(convo) {
			t.Errorf("fence %d, claimed %v; want %d", fence, h.claimed(convo), i+1)
		}
		if err := h.reg.Release(t.Context(), convo); err != nil {
			t.Fatal(err)
		}
		if h.claimed(convo) {
			t.Error("not released")
		}
	}
}

func TestUnknownConversation(t *testing.T) {
	h := newHouse(t, nil)
	_, err := h.reg.Do(t.Context(), request("0000", alice, send(0, "x")))
	refused(t, err, conversation.ConvoNotFound)
	refused(t, h.reg.Load(t.Context(), "0000"), conversation.ConvoNotFound)
	if h.reg.Active() != 0 {
		t.Errorf("%d actors of what is not there", h.reg.Active())
	}
}

func TestHeldElsewhereNamesTheHolder(t *testing.T) {
	h := newHouse(t, nil)
	session, c := h.elsewhere(convo)
	_, err := h.reg.Do(t.Context(), sends(1, 0)[0])
	var held *persistence.HeldError
	if !errors.As(err, &held) || held.Holder != (persistence.Holder{Session: session, Node: "there", Fence: c.Fence}) {
		t.Errorf("error %v", err)
	}
	if h.reg.Active() != 0 {
		t.Error("the actor lives on")
	}
}

// A session that was lost takes all memory with it: what was loaded under it is
// claimed anew under the next.
func TestNewSessionClaimsAnew(t *testing.T) {
	h := newHouse(t, nil)
	h.do(sends(1, 0)[0])
	old := h.sessions.p.Load()
	if err := h.store.EndSession(t.Context(), old.id); err != nil {
		t.Fatal(err)
	}
	old.lapsed.Store(true)
	h.newSession()
	if e := h.epoch(); e != -1 {
		t.Errorf("epoch %d read under a lost session", e)
	}
	h.do(sends(1, 0)[0])
	if _, fence := h.store.Holder(convo); fence != 2 || !h.claimed(convo) {
		t.Errorf("fence %d, claimed %v; want 2 under the new session", fence, h.claimed(convo))
	}
	if e := h.epoch(); e != 0 {
		t.Errorf("epoch %d", e)
	}
}

func TestWithoutASessionNothingIsServed(t *testing.T) {
	h := newHouse(t, nil)
	h.sessions.p.Store(nil)
	_, err := h.reg.Do(t.Context(), sends(1, 0)[0])
	if !errors.Is(err, persistence.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	h.newSession()
	h.do(sends(1, 0)[0])
}
