package actor

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"catbird/conversation"
	"catbird/internal/memstore"
)

// Unread counts reach the members within a second.
func TestUnreadIsFoldedWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.do(sends(1, 0)[0])
		h.do(sends(1, 0)[0])
		h.do(request(convo, bob, send(0, "x")))
		pass(time.Second)
		if a, b := h.store.Unread(convo, alice), h.store.Unread(convo, bob); a != 1 || b != 2 {
			t.Errorf("alice has %d unread, bob %d; want 1 and 2", a, b)
		}
		folds := h.store.Calls(memstore.Fold)
		h.do(request(convo, alice, commit())) // nothing to count
		pass(time.Minute)
		if n := h.store.Calls(memstore.Fold); n != folds {
			t.Errorf("%d folds of what has not changed", n-folds)
		}
	})
}

// A node that died left something uncounted: who loads the conversation counts
// it.
func TestLoadingFindsWhatIsNotFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		session, c := h.elsewhere(convo)
		u := conversation.NewUnit(convo, c.State, c.Fence)
		ch, next, err := conversation.Decide(env(), c.State, sends(1, 0)[0])
		if err != nil {
			t.Fatal(err)
		}
		u.Add(ch, next)
		if _, err := h.store.Append(t.Context(), []*conversation.Unit{u}); err != nil {
			t.Fatal(err)
		}
		if err := h.store.EndSession(t.Context(), session); err != nil {
			t.Fatal(err)
		}
		if err := h.reg.Load(t.Context(), convo); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if n := h.store.Unread(convo, bob); n != 1 {
			t.Errorf("bob has %d unread, want 1", n)
		}
	})
}

// What cannot be folded is folded later, all of it, however the fold fails.
func TestFoldsThatFailAreTriedAgain(t *testing.T) {
	for name, f := range map[string]memstore.Fault{
		"unavailable": {Fate: memstore.Refused},
		"reply lost":  {Fate: memstore.ReplyLost},
		"panics":      {Fate: memstore.PanicsBefore},
		"times out":   {Before: time.Hour, Fate: memstore.RequestLost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				const n = 3*foldBatch + 1
				for i := range n {
					h.store.Seed(convoID(i), alice, bob)
					h.do(request(convoID(i), alice, send(0, "x")))
				}
				h.store.Fail(memstore.Fold, f)
				pass(10 * time.Second)
				for i := range n {
					if got := h.store.Unread(convoID(i), bob); got != 1 {
						t.Fatalf("conversation %d: %d unread, want 1", i, got)
					}
				}
			})
		})
	}
}

// Stopping folds what is left, also what a running fold has taken to itself.
func TestStopFoldsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.store.Seed("beef", alice, bob)
		h.do(request("beef", alice, send(0, "x")))
		h.store.Fail(memstore.Fold, memstore.Fault{Before: time.Hour, Fate: memstore.RequestLost})
		pass(time.Second + time.Millisecond) // the fold hangs
		h.do(sends(1, 0)[0])
		if err := h.reg.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		for _, id := range []string{convo, "beef"} {
			if n := h.store.Unread(id, bob); n != 1 {
				t.Errorf("%s: bob has %d unread, want 1", id, n)
			}
		}
	})
}
