package sqlite

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"catbird/persistence"
)

// newTestPool returns a pool of connections that lead nowhere.
func newTestPool(n int) *pool {
	conns := make([]*conn, n)
	for i := range conns {
		conns[i] = &conn{}
	}
	return newPool(conns...)
}

func mustTake(t *testing.T, p *pool) *conn {
	t.Helper()
	c, err := p.take(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPoolServesInOrderUrgentFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(1)
		held := mustTake(t, p)
		order := make(chan string, 4)
		for _, name := range []string{"a", "b", "urgent a", "urgent b"} {
			go func() {
				c, err := p.take(t.Context(), len(name) > 1)
				if err != nil {
					t.Error(err)
					return
				}
				order <- name
				p.give(c)
			}()
			synctest.Wait()
		}
		p.give(held)
		for _, want := range []string{"urgent a", "urgent b", "a", "b"} {
			if got := <-order; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		synctest.Wait()
		if s := p.stats(); s != (persistence.PoolStats{Idle: 1, Max: 1, Waits: 4}) {
			t.Errorf("stats: %+v", s)
		}
	})
}

func TestPoolLosesNothingWhenWaitersGiveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(1)
		held := mustTake(t, p)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		for range 3 {
			go func() {
				c, err := p.take(ctx, false)
				if err == nil {
					p.give(c)
				}
				done <- err
			}()
		}
		synctest.Wait()
		cancel()
		for range 3 {
			if err := <-done; !errors.Is(err, persistence.ErrUnavailable) || !errors.Is(err, context.Canceled) {
				t.Errorf("got error %v, want unavailable for a canceled context", err)
			}
		}
		p.give(held)
		if s := p.stats(); s.Idle != 1 || s.Active != 0 {
			t.Errorf("stats: %+v", s)
		}
	})
}

func TestPoolGivesBackWhatCameTooLate(t *testing.T) {
	t.Parallel()
	p := newTestPool(1)
	held := mustTake(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	w := &waiter{ready: make(chan *conn, 1)}
	place := p.normal.PushBack(w)
	p.give(held) // handed over
	cancel()     // and given up at the same moment
	if c, err := p.wait(ctx, &p.normal, place, w); err == nil {
		p.give(c)
	}
	if s := p.stats(); s.Idle != 1 || s.Active != 0 {
		t.Errorf("stats: %+v", s)
	}
}

func TestPoolIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(1)
		held := mustTake(t, p)
		ctx, cancel := context.WithCancel(t.Context())
		for range maxWaiting {
			go func() { _, _ = p.take(ctx, false) }()
		}
		synctest.Wait()
		if _, err := p.take(ctx, false); !errors.Is(err, errTooLong) || !errors.Is(err, persistence.ErrUnavailable) {
			t.Errorf("got error %v, want one for a full line", err)
		}
		cancel()
		synctest.Wait()
		p.give(held)
	})
}

// Close turns away who waits and who comes, and waits for who is at work.
func TestCloseWaitsForWhatRuns(t *testing.T) {
	t.Parallel()
	s := openForTest(t)
	held := mustTake(t, s.writers)
	turned := make(chan error)
	go func() { turned <- s.StartSession(t.Context(), persistence.Session{ID: "late"}) }()
	waiting(t, s.writers, 1)
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- s.Close() }()
	}
	if err := <-turned; !errors.Is(err, persistence.ErrUnavailable) || !errors.Is(err, errClosed) {
		t.Errorf("who waited got error %v", err)
	}
	if _, err := s.writers.take(t.Context(), true); !errors.Is(err, errClosed) {
		t.Errorf("who came later got error %v", err)
	}
	if len(closed) != 0 {
		t.Error("closed while a connection was busy")
	}
	if err := startSession(held, "at work"); err != nil {
		t.Errorf("who was at work: %v", err)
	}
	s.writers.give(held)
	for range 2 {
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
}
