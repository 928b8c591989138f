package app

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"catbird/cluster"
)

const (
	firstRetry = 250 * time.Millisecond
	maxRetry   = 5 * time.Second
)

// join makes the node ready and reports whether it did: false only when ctx
// ended first.
func (a *App) join(ctx context.Context, work *sync.WaitGroup) bool {
	if err := prepare(ctx, a.store, a.log); err != nil {
		return false
	}
	a.joined.Store(true)
	if err := a.keeper.Start(ctx); err != nil {
		a.failed <- fmt.Errorf("starting the session: %w", err)
		return false
	}
	if err := a.keeper.Established(ctx); err != nil {
		return false
	}
	if a.fellows != nil {
		if err := a.fellows.begin(ctx, work, func(err error) { a.failed <- err }); err != nil {
			if ctx.Err() == nil {
				a.failed <- err
			}
			return false
		}
		work.Go(func() { a.handOver(ctx) })
	}
	close(a.ready)
	if a.state.CompareAndSwap(int32(Joining), int32(Ready)) {
		if a.fellows != nil {
			a.fellows.members.SetState(cluster.Ready)
		}
		a.log.Info("node ready")
	}
	return true
}

// handOver hands conversations over whenever the ring changes, and when only the
// members do: one that died and came back before anybody noticed is in the ring
// as before, but others have taken what it held.
func (a *App) handOver(ctx context.Context) {
	ring, cancelRing := a.fellows.ring.Subscribe()
	defer cancelRing()
	members, cancelMembers := a.fellows.members.Subscribe()
	defer cancelMembers()
	changed := make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-ring:
			case <-members:
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	})
	a.delivery.Handoff(ctx, changed, a.cfg.Cluster.HandoffConcurrency)
}

// prepare brings the database up to date, however long it cannot be reached. It
// fails only when ctx ends.
func prepare(ctx context.Context, s Store, log *slog.Logger) error {
	wait := firstRetry
	for attempt := 1; ; attempt++ {
		err := s.Prepare(ctx)
		if err == nil {
			log.Info("database ready", "attempts", attempt)
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		pause := wait/2 + rand.N(wait/2) // nodes that wait for one database come back at different times
		log.Warn("database not ready: trying again", "attempt", attempt, "wait", pause, "error", err)
		wait = min(2*wait, maxRetry)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}
