package actor

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"catbird/internal/memstore"
)

// Stop under load: every letter is answered exactly once, what was acknowledged
// is stored, what was refused is not, and all claims are given back.
func TestStopUnderLoad(t *testing.T) {
	store := memstore.New()
	h := newHouseOn(t, store, nil)
	const convos = 20
	for i := range convos {
		store.Seed(convoID(i), alice)
	}
	var wg sync.WaitGroup
	var served atomic.Int64
	begun := make(chan struct{}, 1)
	for g := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				r := request(convoID((g+i)%convos), alice, send(0, "x"))
				_, err := h.reg.Do(context.Background(), r)
				n := store.Count(r.Convo, r.ID)
				switch {
				case err == nil && n == 1:
					if served.Add(1) == 500 {
						begun <- struct{}{}
					}
				case errors.Is(err, ErrClosed) && n == 0:
					return
				case errors.Is(err, ErrMoving) && n == 0:
				default:
					t.Errorf("error %v, stored %d times", err, n)
					return
				}
			}
		})
	}
	<-begun
	h.stop()
	for i := range convos {
		if h.claimed(convoID(i)) {
			t.Errorf("conversation %d is still claimed", i)
		}
	}
	if h.reg.Active() != 0 {
		t.Errorf("%d actors are left", h.reg.Active())
	}
	wg.Wait()
	var rows int64
	for i := range convos {
		if err := store.Check(convoID(i)); err != nil {
			t.Error(err)
		}
		rows += store.State(convoID(i)).Seq
	}
	if rows != served.Load() {
		t.Errorf("%d rows, %d acknowledged", rows, served.Load())
	}
}

// What waits in a mailbox when Stop comes is still served.
func TestStopServesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		calls := h.start(sends(5, 0)...)
		stopped := make(chan error)
		go func() { stopped <- h.reg.Stop(context.Background()) }()
		synctest.Wait()
		if _, err := h.reg.Do(t.Context(), sends(1, 0)[0]); !errors.Is(err, ErrClosed) {
			t.Errorf("error %v, want %v", err, ErrClosed)
		}
		release()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		h.all(calls)
		h.once(calls)
		if h.claimed(convo) {
			t.Error("still claimed")
		}
	})
}

func TestStopIsBoundedByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.store.Seed("beef", alice)
		h.do(request("beef", alice, send(0, "x")))
		hold := make(chan struct{})
		h.store.SetFaults(func(memstore.Call) memstore.Fault { return memstore.Fault{Hold: hold} })
		calls := h.start(sends(1, 0)...)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := h.reg.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("took %v", took)
		}
		close(hold)
		synctest.Wait() // and nothing runs on: goleak and synctest look
		if !calls[0].done.Load() {
			t.Error("a letter was not answered")
		}
	})
}

func TestAfterStop(t *testing.T) {
	h := newHouse(t, nil)
	h.do(sends(1, 0)[0])
	h.stop()
	h.stop()
	if _, err := h.reg.Do(t.Context(), sends(1, 0)[0]); !errors.Is(err, ErrClosed) {
		t.Errorf("Do: %v", err)
	}
	if err := h.reg.Load(t.Context(), convo); !errors.Is(err, ErrClosed) {
		t.Errorf("Load: %v", err)
	}
	if _, _, ok := h.reg.Epoch(convo, alice); ok {
		t.Error("memory tells an epoch after Stop")
	}
}
