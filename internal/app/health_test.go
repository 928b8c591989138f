package app

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestProbeKeepsItsAnswerForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pings atomic.Int64
		p := &probe{
			ping:    func(context.Context) error { pings.Add(1); return nil },
			renewed: func() time.Duration { return 0 }, fresh: time.Second,
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if err := p.check(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := pings.Load(); n != 1 {
			t.Errorf("the database was asked %d times by 50 probes, want once", n)
		}
		<-time.After(probeEvery)
		if err := p.check(t.Context()); err != nil || pings.Load() != 2 {
			t.Errorf("after the moment: %v, %d pings", err, pings.Load())
		}
	})
}

// A ping that finds no connection free says nothing about the database while it
// goes on taking the node's session; one that is refused does.
func TestProbeTellsBusyFromGone(t *testing.T) {
	for _, c := range []struct {
		name    string
		ping    func(ctx context.Context) error
		renewed time.Duration
		healthy bool
	}{
		{"busy, session renewed", hang, 2 * time.Second, true},
		{"hangs, session old", hang, 6 * time.Second, false},
		{"hangs, never a session", hang, 0, false},
		{"refused, session renewed", func(context.Context) error { return errors.New("refused") }, time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &probe{ping: c.ping, renewed: func() time.Duration { return c.renewed }, fresh: 5 * time.Second}
				began := time.Now()
				if err := p.check(t.Context()); (err == nil) != c.healthy {
					t.Errorf("check = %v", err)
				}
				if took := time.Since(began); took > probeTimeout {
					t.Errorf("a probe took %v", took)
				}
			})
		})
	}
}

func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// What one caller is too impatient for is still true for the next.
func TestProbeDoesNotDependOnOneCaller(t *testing.T) {
	p := &probe{
		ping:    func(ctx context.Context) error { return ctx.Err() },
		renewed: func() time.Duration { return 0 }, fresh: time.Second,
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.check(gone); err != nil {
		t.Errorf("a caller who has gone made the database unhealthy: %v", err)
	}
}
