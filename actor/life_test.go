package actor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"catbird/conversation"
	"catbird/internal/memstore"
	"catbird/persistence"
)

func TestIdleActorsAreLetGoOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.IdleTimeout = 10 * time.Minute })
		h.store.Seed("beef", alice)
		h.do(request("beef", alice, send(0, "x")))
		h.do(sends(1, 0)[0])
		pass(6 * time.Minute)
		if e := h.epoch(); e != 0 { // being read is being used
			t.Fatalf("epoch %d", e)
		}
		pass(6 * time.Minute)
		if h.reg.Has("beef") || h.claimed("beef") {
			t.Error("an idle actor was not let go of")
		}
		if !h.reg.Has(convo) || !h.claimed(convo) {
			t.Error("an actor in use was let go of")
		}
		h.do(request("beef", alice, send(0, "x")))
	})
}

// Rule 9: the snapshot is dropped before the claim is given back.
func TestSnapshotGoesBeforeTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.do(sends(1, 0)[0])
		released := 0
		a := h.reg.find(convo) // as a reader has that is slow
		h.store.SetFaults(func(c memstore.Call) memstore.Fault {
			if c.Op == memstore.Release {
				released++
				if s := a.snap.Load(); s != nil && !s.silent {
					t.Errorf("epoch %d is told while the claim is given back", s.state.Epoch)
				}
			}
			return memstore.Fault{}
		})
		if err := h.reg.Release(t.Context(), convo); err != nil {
			t.Fatal(err)
		}
		if released != 1 {
			t.Errorf("%d releases", released)
		}
	})
}

func TestLeastRecentlyUsedGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.MaxActors = 4 })
		use := func(i int) {
			h.do(request(convoID(i), alice, send(0, "x")))
			pass(time.Second)
		}
		for i := range 6 {
			h.store.Seed(convoID(i), alice)
		}
		for _, i := range []int{0, 1, 2, 3, 0, 4} {
			use(i)
		}
		h.reg.Epoch(convoID(2), alice)
		use(5)
		for i, want := range []bool{true, false, true, false, true, true} {
			if h.reg.Has(convoID(i)) != want || h.claimed(convoID(i)) != want {
				t.Errorf("conversation %d: in memory %v, claimed %v; want %v", i, h.reg.Has(convoID(i)), h.claimed(convoID(i)), want)
			}
		}
	})
}

// ACTOR_MAX is a bound, whoever asks for how much at once.
func TestMaxActorsIsHard(t *testing.T) {
	const most, convos = 16, 200
	h := newHouse(t, func(c *Config) { c.MaxActors = most })
	for i := range convos {
		h.store.Seed(convoID(i), alice)
	}
	var over atomic.Int64
	check := func() {
		for n := int64(h.reg.Active()); n > over.Load(); {
			over.Store(n)
		}
	}
	var wg sync.WaitGroup
	var ok, overloaded atomic.Int64
	for g := range 16 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 0))
			for range 100 {
				_, err := h.reg.Do(t.Context(), request(convoID(rnd.IntN(convos)), alice, send(0, "x")))
				switch {
				case err == nil:
					ok.Add(1)
				case conversation.CodeOf(err) == conversation.Overloaded:
					overloaded.Add(1)
				default:
					t.Error(err)
				}
				check()
			}
		})
	}
	wg.Wait()
	if n := over.Load(); n > most {
		t.Errorf("%d actors at once, want at most %d", n, most)
	}
	if ok.Load() < 16*100*9/10 {
		t.Errorf("only %d of %d were served, %d overloaded", ok.Load(), 16*100, overloaded.Load())
	}
	for i := range convos {
		if err := h.store.Check(convoID(i)); err != nil {
			t.Error(err)
		}
	}
}

// However many run for the last place, one gets it.
func TestLastPlaceIsTakenOnce(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.MaxActors = 8; c.Logger = slog.New(slog.DiscardHandler) })
	for range 2000 {
		h.reg.count.Store(7)
		var won atomic.Int64
		var wg sync.WaitGroup
		gate := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				<-gate
				if h.reg.takePlace() == nil {
					won.Add(1)
				}
			})
		}
		close(gate)
		wg.Wait()
		if n := h.reg.count.Load(); n != 8 || won.Load() != 1 {
			t.Fatalf("%d got the last place, %d places are taken", won.Load(), n)
		}
	}
	h.reg.count.Store(0)
}

// All are busy: then there is no place, and it is said at once.
func TestNoPlaceIsOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.MaxActors = 1 })
		h.store.Seed("beef", alice)
		release := h.held()
		calls := h.start(sends(1, 0)...)
		_, err := h.reg.Do(t.Context(), request("beef", alice, send(0, "x")))
		refused(t, err, conversation.Overloaded)
		release()
		h.all(calls)
		synctest.Wait() // answered is not yet idle
		h.do(request("beef", alice, send(0, "x")))
		if h.reg.Has(convo) || h.claimed(convo) {
			t.Error("the idle one has kept its place")
		}
	})
}

// An actor that nobody waited for does not hold its place for ever.
func TestActorThatNeverLoadedIsLetGoOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.MaxActors = 1; c.IdleTimeout = time.Minute })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		gaveUp := h.startWith(ctx, sends(1, 0)...)
		if !gaveUp[0].done.Load() || !h.reg.Has(convo) {
			t.Fatal("the case is not what it should be")
		}
		h.store.Seed("beef", alice)
		h.do(request("beef", alice, send(0, "x"))) // takes its place
		h.startWith(ctx, request("beef", alice, send(0, "x")))
		pass(2 * time.Minute)
		if n := h.reg.Active(); n != 0 {
			t.Errorf("%d actors are left", n)
		}
	})
}

// An idle actor is data: it has no goroutine.
func TestIdleActorsHaveNoGoroutine(t *testing.T) {
	const n = 10_000
	h := quietHouse(t, nil)
	for i := range n {
		h.store.Seed(convoID(i), alice)
	}
	before := runtime.NumGoroutine()
	loadMany(t, h, n)
	for i := range n / 100 { // some have worked, too
		h.do(request(convoID(i*100), alice, send(0, "x")))
	}
	if h.reg.Active() != n {
		t.Fatalf("%d actors", h.reg.Active())
	}
	if now := runtime.NumGoroutine(); now > before+10 {
		t.Errorf("%d goroutines with %d idle actors, %d without", now, n, before)
	}
}

// Rule 15: what waits when a conversation is let go of is told to ask again, the
// batch in flight is finished, and nothing gets in between.
func TestReleaseFinishesTheBatchAndMovesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		atWork := h.start(sends(1, 0)...)
		waiting := h.start(sends(3, 0)...)
		let := make(chan error)
		go func() { let <- h.reg.ReleaseAll(context.Background(), func(string) bool { return true }) }()
		synctest.Wait()
		late := h.start(sends(1, 0)...)
		for _, c := range append(waiting, late...) {
			if !c.done.Load() || !errors.Is(c.err, ErrMoving) || errors.Is(c.err, persistence.ErrOutcomeUnknown) {
				t.Errorf("done %v, error %v; want to be told to ask again", c.done.Load(), c.err)
			}
		}
		if atWork[0].done.Load() || !h.claimed(convo) {
			t.Error("let go of in the middle of a batch")
		}
		release()
		if err := <-let; err != nil {
			t.Error(err)
		}
		h.all(atWork)
		h.once(atWork)
		h.never(append(waiting, late...))
		if h.reg.Has(convo) || h.claimed(convo) {
			t.Error("not let go of")
		}
	})
}

func TestReleaseWaitsNoLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		calls := h.start(sends(1, 0)...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.reg.Release(ctx, convo); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		release()
		h.all(calls)
		synctest.Wait()
		if h.reg.Has(convo) || h.claimed(convo) {
			t.Error("not let go of in the end")
		}
	})
}

// Rule 15: 'mailbox empty, so release' and 'enqueue' exclude each other. However
// they meet, nobody is left without an answer, and what is answered is stored.
func TestReleaseAgainstEnqueue(t *testing.T) {
	h := newHouse(t, nil)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var stored, moved atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			for range 200 {
				r := request(convo, []string{alice, bob}[g%2], send(0, "x"))
				_, err := h.reg.Do(t.Context(), r)
				n := h.store.Count(convo, r.ID)
				switch {
				case err == nil && n == 1:
					stored.Add(1)
				case errors.Is(err, ErrMoving) && n == 0:
					moved.Add(1)
				default:
					t.Errorf("error %v, stored %d times", err, n)
				}
			}
		})
	}
	var releasers sync.WaitGroup
	releasers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := h.reg.ReleaseAll(t.Context(), func(string) bool { return true }); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	close(stop)
	releasers.Wait()
	if got := h.store.State(convo).Seq; got != stored.Load() {
		t.Errorf("%d rows, %d answers", got, stored.Load())
	}
	if stored.Load() == 0 {
		t.Error("nothing was stored")
	}
}

// Keep=false: an actor that comes to rest is let go of at once.
func TestNotKeptIsLetGoOfAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var keep atomic.Bool
		h := newHouse(t, func(c *Config) { c.Keep = func(string) bool { return keep.Load() } })
		h.do(sends(1, 0)[0])
		synctest.Wait()
		if h.reg.Has(convo) || h.claimed(convo) {
			t.Error("kept")
		}
		keep.Store(true)
		h.do(sends(1, 0)[0])
		synctest.Wait()
		if !h.reg.Has(convo) || !h.claimed(convo) {
			t.Error("not kept")
		}
	})
}

// A claim that no actor has, because a reply was lost, is given back to who wants
// the conversation.
func TestReleaseOfAClaimLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.store.Fail(memstore.Claim, memstore.Fault{Fate: memstore.RunsLater})
		if err := h.reg.Load(t.Context(), convo); !errors.Is(err, persistence.ErrUnavailable) {
			t.Fatalf("error %v", err)
		}
		h.store.Wait()
		if h.reg.Has(convo) || !h.claimed(convo) {
			t.Fatal("the case is not what it should be")
		}
		if err := h.reg.Release(t.Context(), convo); err != nil {
			t.Error(err)
		}
		if h.claimed(convo) {
			t.Error("the claim was not given back")
		}
		h.elsewhere(convo)
		if err := h.reg.Release(t.Context(), convo); err != nil {
			t.Errorf("what another has cannot be released, and that is no error: %v", err)
		}
		if err := h.reg.Release(t.Context(), "0000"); err != nil {
			t.Errorf("nor what is not there: %v", err)
		}
	})
}

// A batch that ended without a snapshot still has its claim, which is given back
// like any other.
func TestClaimWithoutASnapshotIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.IdleTimeout = time.Minute })
		r := sends(1, 0)[0]
		h.store.Poison(r.ID)
		_, err := h.reg.Do(t.Context(), r)
		refused(t, err, conversation.InternalServerError)
		if !h.claimed(convo) {
			t.Fatal("the case is not what it should be")
		}
		pass(2 * time.Minute)
		if h.claimed(convo) || h.reg.Has(convo) {
			t.Error("the claim was not given back")
		}
	})
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		for i := range 5 {
			id := fmt.Sprintf("%02x", i)
			h.store.Seed(id, alice)
			h.do(request(id, alice, commit()))
		}
		release := h.held()
		calls := h.start(request("02", alice, send(1, "at work")), request("02", alice, send(1, "waits")))
		const idle = 4 * time.Second
		pass(idle)
		var got []string
		for cursor, pages := "", 0; ; pages++ {
			page, next := h.reg.List(2, cursor)
			for _, i := range page {
				got = append(got, i.Convo)
				want := Info{Convo: i.Convo, Epoch: 1, Seq: 1, Fence: 1, Idle: idle, Trusted: true}
				if i.Convo == "02" {
					want.Mailbox = 1
				}
				if i != want {
					t.Errorf("%+v, want %+v", i, want)
				}
			}
			if cursor = next; cursor == "" {
				if pages != 2 {
					t.Errorf("%d pages, want 3", pages+1)
				}
				break
			}
		}
		if fmt.Sprint(got) != "[00 01 02 03 04]" {
			t.Errorf("listed %v", got)
		}
		release()
		h.all(calls)
	})
}
