package actor

import (
	"testing"
	"testing/synctest"
)

// Rule 2: a session that is over takes all memory with it, and no more.
func TestDropTakesWhatTheSessionLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		old := h.sessions.p.Load()
		h.do(request(convo, alice, send(0, "one")))
		if !h.reg.Has(convo) {
			t.Fatal("not in memory")
		}
		if err := h.store.EndSession(t.Context(), old.id); err != nil {
			t.Fatal(err)
		}
		h.newSession()
		synctest.Wait() // answered is not yet idle
		h.reg.Drop(old)
		if h.reg.Has(convo) {
			t.Error("still in memory after its session has ended")
		}
		h.do(request(convo, alice, send(0, "two")))
		synctest.Wait()
		h.reg.Drop(old)
		if !h.reg.Has(convo) {
			t.Error("what another session loaded was dropped")
		}
	})
}
