package actor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

// Why an actor stopped, the label of actor_stops_total.
const (
	stopIdle     = "idle"
	stopEvicted  = "evicted"
	stopReleased = "released"
	stopHeld     = "held_elsewhere"
	stopNotFound = "not_found"
	stopNoStore  = "database_unavailable"
	stopCrashed  = "crashed"
)

// claimOf ends a's memory and returns the claim that is to be given back.
// The snapshot goes first (rule 9).
func (r *Registry) claimOf(a *actor, reason string) (session string, c persistence.Claim, ok bool) {
	s := a.snap.Swap(nil)
	r.forget(a)
	r.metrics.stops.WithLabelValues(reason).Inc()
	r.log.Info("Removing actor for conversation "+a.convo, "convo", a.convo, "reason", reason)
	if s == nil {
		return "", persistence.Claim{}, false
	}
	return s.session.ID(), persistence.Claim{Convo: a.convo, Fence: s.fence}, true
}

// finish ends an actor that is marked gone and gives its claim back. An error
// leaves a claim behind that the next load of the conversation by this node, or
// the end of the session, takes away.
func (r *Registry) finish(a *actor, reason string) {
	session, claim, ok := r.claimOf(a, reason)
	if !ok {
		return
	}
	if _, err := r.frees.ask(freeAsk{session, claim}); err != nil {
		r.log.Warn("claim not released", "convo", a.convo, "error", err)
	}
}

// Release lets go of one conversation, as ReleaseAll does.
func (r *Registry) Release(ctx context.Context, convo string) error {
	return r.ReleaseSome(ctx, []string{convo})
}

// ReleaseAll lets go of the conversations that which names: each finishes the
// batch in flight, tells what still waits to ask again (ErrMoving), drops its
// memory and gives its claim back. It waits until all of that is done, or ctx
// ends.
func (r *Registry) ReleaseAll(ctx context.Context, which func(convo string) bool) error {
	var all []*actor
	r.each(func(a *actor) {
		if which(a.convo) {
			all = append(all, a)
		}
	})
	return r.letGo(ctx, all, stopReleased)
}

// ReleaseSome lets go of convos, as ReleaseAll does.
func (r *Registry) ReleaseSome(ctx context.Context, convos []string) error {
	var actors []*actor
	for _, convo := range convos {
		if a := r.find(convo); a != nil {
			actors = append(actors, a)
		}
	}
	return r.letGo(ctx, actors, stopReleased)
}

func (r *Registry) letGo(ctx context.Context, actors []*actor, reason string) error {
	var busy []*actor
	free := map[string][]persistence.Claim{}
	for _, a := range actors {
		done, waiting := a.release()
		r.tellAll(waiting, ErrMoving)
		if !done {
			busy = append(busy, a)
			continue
		}
		if session, c, ok := r.claimOf(a, reason); ok {
			free[session] = append(free[session], c)
		}
	}
	err := r.freeAll(ctx, free)
	for _, a := range busy {
		if e := a.awaitEnd(ctx); e != nil {
			return errors.Join(err, fmt.Errorf("waiting for an actor to end: %w", e))
		}
	}
	return err
}

func (r *Registry) freeAll(ctx context.Context, free map[string][]persistence.Claim) error {
	var errs []error
	for session, claims := range free {
		for chunk := range slices.Chunk(claims, freeBatch) {
			ask, cancel := context.WithTimeout(ctx, r.cfg.StoreTimeout)
			err := r.cfg.Store.Release(ask, session, chunk)
			cancel()
			if err != nil {
				errs = append(errs, fmt.Errorf("releasing %d claims: %w", len(chunk), err))
			}
			r.cfg.Lease.Freed(session, convosOf(chunk))
		}
	}
	return errors.Join(errs...)
}

func convosOf(claims []persistence.Claim) []string {
	convos := make([]string, len(claims))
	for i, c := range claims {
		convos[i] = c.Convo
	}
	return convos
}

// tellAll answers letters that were never begun.
func (r *Registry) tellAll(letters []*letter, err error) {
	for _, l := range letters {
		r.queued.Add(-1)
		if l.taken.CompareAndSwap(false, true) {
			l.answer(conversation.Result{}, err)
		}
	}
}

// takePlace counts one more actor, within MaxActors: when there is no place
// left, the least recently used ones are let go of, a few at once.
func (r *Registry) takePlace() error {
	for {
		n := r.count.Load()
		if n < int64(r.cfg.MaxActors) {
			if r.count.CompareAndSwap(n, n+1) {
				return nil
			}
			continue
		}
		if err := r.makeRoom(); err != nil {
			return err
		}
	}
}

func (r *Registry) makeRoom() error {
	r.evict.Lock()
	defer r.evict.Unlock()
	over := int(r.count.Load()) - r.cfg.MaxActors + 1
	if over <= 0 {
		return nil // somebody else has just made room
	}
	victims := r.leastUsed(over + r.cfg.MaxActors/64)
	if len(victims) == 0 {
		return conversation.Refuse(conversation.Overloaded, "this node has as many conversations in memory as it may, all of them busy")
	}
	if err := r.letGoIdle(victims, stopEvicted); err != nil {
		r.log.Warn("claims of evicted actors not released", "error", err)
	}
	return nil
}

type candidate struct {
	a     *actor
	since int64
}

// leastUsed returns up to n idle actors, the longest unused.
func (r *Registry) leastUsed(n int) []candidate {
	var idle []candidate
	r.each(func(a *actor) {
		if since, ok := a.idle(); ok {
			idle = append(idle, candidate{a, since})
		}
	})
	slices.SortFunc(idle, func(x, y candidate) int { return int(min(max(x.since-y.since, -1), 1)) })
	return idle[:min(n, len(idle))]
}

// letGoIdle lets go of those candidates that are still idle.
func (r *Registry) letGoIdle(cs []candidate, reason string) error {
	free := map[string][]persistence.Claim{}
	for _, c := range cs {
		if !c.a.releaseIfIdle() {
			continue
		}
		if session, claim, ok := r.claimOf(c.a, reason); ok {
			free[session] = append(free[session], claim)
		}
	}
	return r.freeAll(r.ctx, free)
}

// sweepLoop lets go of actors that were not used for IdleTimeout.
func (r *Registry) sweepLoop(ctx context.Context) {
	t := time.NewTicker(max(min(r.cfg.IdleTimeout/4, time.Minute), 10*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			r.sweep(time.Now())
		}
	}
}

func (r *Registry) sweep(now time.Time) {
	limit := now.Add(-r.cfg.IdleTimeout).UnixNano()
	var old []candidate
	r.each(func(a *actor) {
		if since, ok := a.idle(); ok && since < limit {
			old = append(old, candidate{a, since})
		}
	})
	if len(old) == 0 {
		return
	}
	if err := r.letGoIdle(old, stopIdle); err != nil {
		r.log.Warn("claims of idle actors not released", "error", err)
	}
}
