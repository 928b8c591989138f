package actor

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"catbird/conversation"
	"catbird/internal/memstore"
)

// Rule 12: from before an append that changes epoch or members is sent until it
// is known how it went, memory is silent; a message keeps nobody silent.
func TestSilentWhileEpochOrMembersChange(t *testing.T) {
	tests := []struct {
		command conversation.Command
		silent  bool
		epoch   int64 // after
	}{
		{send(0, "x"), false, 0},
		{commit(), true, 1},
		{add(carol), true, 1},
		{conversation.Leave{Target: bob}, true, 1},
	}
	for _, tt := range tests {
		t.Run(string(tt.command.Op()), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				h.do(sends(1, 0)[0])
				release := h.held()
				calls := h.start(request(convo, alice, tt.command))
				if silent := h.epoch() == -1; silent != tt.silent {
					t.Errorf("silent = %v, want %v", silent, tt.silent)
				}
				begin := time.Now()
				if err := h.reg.Load(t.Context(), convo); err != nil || time.Since(begin) != 0 {
					t.Errorf("a silent conversation is in memory, but loading took %v: %v", time.Since(begin), err)
				}
				release()
				h.all(calls)
				if e := h.epoch(); e != tt.epoch {
					t.Errorf("epoch %d, want %d", e, tt.epoch)
				}
			})
		})
	}
}

// In an MLS group a leave has no commit and does not move the epoch: the members
// alone are reason for silence.
func TestSilentWhileOnlyMembersChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		mls := conversation.Commit{Commit: mlsCommit([]byte{0xc0, 0xff, 0xee}, 0)}
		h.do(request(convo, alice, mls))
		release := h.held()
		calls := h.start(request(convo, bob, conversation.Leave{}))
		if e := h.epoch(); e != -1 {
			t.Errorf("epoch %d while a member leaves", e)
		}
		release()
		h.all(calls)
		if e, member, ok := h.reg.Epoch(convo, bob); e != 1 || member || !ok {
			t.Errorf("epoch %d, member %v, ok %v", e, member, ok)
		}
	})
}

// mlsCommit is the header of an MLS commit in a PrivateMessage.
func mlsCommit(group []byte, epoch byte) []byte {
	b := []byte{0, 1, 0, 2, byte(len(group))}
	b = append(b, group...)
	return append(b, 0, 0, 0, 0, 0, 0, 0, epoch, byte(conversation.ContentCommit))
}

// Rule 12: memory never lags behind the database. At the very instant at which
// the database has a new epoch or other members, memory must not tell the old.
func TestMemoryNeverLagsBehindTheDatabase(t *testing.T) {
	h := newHouse(t, nil)
	h.do(sends(1, 0)[0])
	h.store.OnCommit(func(id string, s conversation.State) {
		for _, did := range []string{alice, carol} {
			epoch, member, ok := h.reg.Epoch(id, did)
			if ok && (epoch < s.Epoch || member != s.Members.Has(did)) {
				t.Errorf("memory says epoch %d, %s a member %v; the database %d, %v", epoch, did, member, s.Epoch, s.Members.Has(did))
			}
		}
	})
	rnd := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	h.store.SetFaults(func(c memstore.Call) memstore.Fault {
		mu.Lock()
		defer mu.Unlock()
		if c.Op == memstore.Append && rnd.IntN(4) == 0 {
			return memstore.Fault{Fate: []memstore.Fate{memstore.ReplyLost, memstore.RequestLost, memstore.RunsLater}[rnd.IntN(3)]}
		}
		return memstore.Fault{}
	})
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				known := h.store.State(convo) // first the database, then memory: it must know at least that
				if epoch, _, ok := h.reg.Epoch(convo, alice); ok && epoch < known.Epoch {
					t.Errorf("memory says epoch %d, the database said %d before", epoch, known.Epoch)
				}
			}
		})
	}
	for i := range 4 {
		writers.Go(func() {
			for n := range 50 {
				c := []conversation.Command{commit(), add(carol), conversation.Leave{Target: carol}, send(0, "x")}[(i+n)%4]
				_, _ = h.reg.Do(t.Context(), request(convo, alice, c)) // refusals are as good
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

// Rule 11: a lapsed session's memory tells nobody anything.
func TestLapsedSessionIsSilent(t *testing.T) {
	h := newHouse(t, nil)
	h.do(request(convo, alice, commit()))
	if e := h.epoch(); e != 1 {
		t.Errorf("epoch %d", e)
	}
	h.sessions.p.Load().lapsed.Store(true)
	if e := h.epoch(); e != -1 {
		t.Errorf("epoch %d from a lapsed session", e)
	}
	if page, _ := h.reg.List(1, ""); len(page) != 1 || page[0].Trusted {
		t.Errorf("listed as %+v under a lapsed session", page)
	}
	h.sessions.p.Load().lapsed.Store(false) // renewed late, and nobody has ended it
	if e := h.epoch(); e != 1 {
		t.Errorf("epoch %d", e)
	}
}

func TestEpochTellsMembersApart(t *testing.T) {
	h := newHouse(t, nil)
	if _, _, ok := h.reg.Epoch(convo, alice); ok {
		t.Error("told without being loaded")
	}
	if err := h.reg.Load(t.Context(), convo); err != nil {
		t.Fatal(err)
	}
	if _, member, ok := h.reg.Epoch(convo, alice); !member || !ok {
		t.Errorf("alice: member %v, ok %v", member, ok)
	}
	if _, member, ok := h.reg.Epoch(convo, carol); member || !ok {
		t.Errorf("carol: member %v, ok %v", member, ok)
	}
}

func TestEpochDoesNotAllocate(t *testing.T) {
	h := newHouse(t, nil)
	h.do(sends(1, 0)[0])
	if n := testing.AllocsPerRun(1000, func() { h.reg.Epoch(convo, alice) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An actor's memory ends with it, at the same instant: the next actor of the
// conversation may begin at once, and readers may still hold the old one.
func TestMemoryEndsWithTheActor(t *testing.T) {
	tests := map[string]func(a *actor) bool{
		"released":       func(a *actor) bool { done, _ := a.release(); return done },
		"let go of idle": func(a *actor) bool { return a.releaseIfIdle() },
		"ended":          func(a *actor) bool { a.end(); return true },
		"after its last batch": func(a *actor) bool {
			a.running = true
			done, _ := a.release()
			if done || a.snap.Load().void {
				t.Error("a batch in flight lost its memory")
			}
			_, end := a.next(1, 1)
			return end
		},
	}
	for name, end := range tests {
		t.Run(name, func(t *testing.T) {
			a := newActor(convo, time.Now())
			a.snap.Store(&snapshot{fence: 7, session: &fakeSession{id: "s"}})
			if !end(a) {
				t.Fatal("not ended")
			}
			if s := a.snap.Load(); s == nil || !s.silent || !s.void || s.fence != 7 || s.session.ID() != "s" {
				t.Errorf("snapshot %+v is left, want nothing but the claim", s)
			}
		})
	}
}
