package delivery

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
)

// Flags say which conversations are served by actors.
type Flags struct {
	// ActorSystem turns actors on.
	ActorSystem bool `json:"actorSystem"`
	// RolloutPercent is the share of conversations, 0 to 100, that actors serve
	// when they are on: by a stable hash of the id, so that it is the same share
	// on every node and after every start.
	RolloutPercent int `json:"rolloutPercent"`
}

// Validate refuses a percentage that is none.
func (f Flags) Validate() error {
	if f.RolloutPercent < 0 || f.RolloutPercent > 100 {
		return errors.New("rolloutPercent must be 0 to 100")
	}
	return nil
}

// Covers reports whether actors serve convo.
func (f Flags) Covers(convo string) bool {
	if !f.ActorSystem || f.RolloutPercent == 0 {
		return false
	}
	if f.RolloutPercent == 100 {
		return true
	}
	h := fnv.New32a()
	h.Write([]byte(convo))
	// FNV's low bits alone are poor for ids that differ in their last
	// characters; folding the high half in is enough.
	sum := h.Sum32()
	return int((sum^sum>>16)%100) < f.RolloutPercent
}

// Flags returns what is in force.
func (s *Service) Flags() Flags { return *s.flags.Load() }

// SetFlags puts f in force for the next request, and lets go of the
// conversations that actors do not serve any more. It returns when those are
// released, or with an error when ctx ends first; f is in force either way.
func (s *Service) SetFlags(ctx context.Context, f Flags) error {
	if err := f.Validate(); err != nil {
		return err
	}
	old := s.flags.Swap(&f)
	if *old == f {
		return nil
	}
	s.metrics.flagChanges.Inc()
	s.log.Info("flags changed", "actor_system", f.ActorSystem, "rollout_percent", f.RolloutPercent)
	if err := s.cfg.Actors.ReleaseAll(ctx, func(convo string) bool { return !s.keeps(convo) }); err != nil {
		return fmt.Errorf("letting go of conversations: %w", err)
	}
	return nil
}

// keeps reports whether an actor of convo stays in memory once it is idle.
func (s *Service) keeps(convo string) bool {
	return s.flags.Load().Covers(convo) && !s.apart.has(convo)
}
