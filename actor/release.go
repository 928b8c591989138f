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
	stopSession  = "session_over"
	stopConflict = "conflict"
	stopCrashed  = "crashed"
	stopLapsed   = "session_lost"
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

// finish ends an actor that is marked gone and gives its claim back.
func (r *Registry) finish(a *actor, reason string) {
	if session, claim, ok := r.claimOf(a, reason); ok {
		r.giveBack(session, claim)
	}
}

// giveBack releases a claim. An error leaves it behind, until the next load of
// the conversation by this node, or the end of the session, takes it away.
func (r *Registry) giveBack(session string, claim persistence.Claim) {
	if _, err := r.frees.ask(freeAsk{session, claim}); err != nil {
		r.log.Warn("claim not released", "convo", claim.Convo, "error", err)
	}
}

// Release lets go of one conversation that somebody has found claimed by this
// node. Where no actor is in memory the claim was left behind, by a reply that
// got lost: then it is taken over first, so that it can be given back.
func (r *Registry) Release(ctx context.Context, convo string) error {
	if r.find(convo) == nil {
		err := r.Load(ctx, convo)
		var held *persistence.HeldError
		if errors.As(err, &held) || conversation.CodeOf(err) == conversation.ConvoNotFound {
			return nil // there is nothing of ours
		}
		if err != nil {
			return fmt.Errorf("taking a claim over: %w", err)
		}
	}
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

// Drop drops what was loaded under a session that is over, of all actors that are
// idle; those that work load anew by themselves. Their claims are void and need
// not be given back.
func (r *Registry) Drop(session Session) {
	var lapsed []*actor
	r.each(func(a *actor) {
		if s := a.snap.Load(); s != nil && s.session == session {
			lapsed = append(lapsed, a)
		}
	})
	for _, a := range lapsed {
		if a.releaseIfIdle() {
			r.claimOf(a, stopLapsed)
		}
	}
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
			err := r.freeChunk(ctx, session, chunk)
			if err != nil {
				errs = append(errs, fmt.Errorf("releasing %d claims: %w", len(chunk), err))
			}
			if errors.Is(err, persistence.ErrUnavailable) || ctx.Err() != nil {
				return errors.Join(errs...) // nor would the others be
			}
		}
	}
	return errors.Join(errs...)
}

func (r *Registry) freeChunk(ctx context.Context, session string, claims []persistence.Claim) error {
	ask, cancel := context.WithTimeout(ctx, r.cfg.StoreTimeout)
	defer cancel()
	err := r.guarded(func() error { return r.cfg.Store.Release(ask, session, claims) })
	r.cfg.Lease.Freed(session, convosOf(claims))
	return err
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
	r.queued.Add(-int64(len(letters)))
	for _, l := range letters {
		if l.begin() {
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
	over := int(r.count.Load()) - r.cfg.MaxActors + 1
	if over <= 0 {
		r.evict.Unlock()
		return nil // somebody else has just made room
	}
	victims := r.leastUsed(over + r.cfg.MaxActors/64)
	free := r.forgetIdle(victims, stopEvicted)
	r.evict.Unlock() // others need not wait for the database
	if len(victims) == 0 {
		return conversation.Refuse(conversation.Overloaded, "this node has as many conversations in memory as it may, all of them busy")
	}
	if err := r.freeAll(r.ctx, free); err != nil {
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

// forgetIdle ends those candidates that are still idle and returns their claims,
// by session, which are to be given back.
func (r *Registry) forgetIdle(cs []candidate, reason string) (free map[string][]persistence.Claim) {
	free = map[string][]persistence.Claim{}
	for _, c := range cs {
		if !c.a.releaseIfIdle() {
			continue
		}
		if session, claim, ok := r.claimOf(c.a, reason); ok {
			free[session] = append(free[session], claim)
		}
	}
	return free
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
	if err := r.freeAll(r.ctx, r.forgetIdle(old, stopIdle)); err != nil {
		r.log.Warn("claims of idle actors not released", "error", err)
	}
}
