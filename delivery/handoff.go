package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"catbird/peer"
)

const (
	handoffChunk = 256
	// After a change, all that is in memory is looked through again after
	// handoffSoon, then after twice as long each time, up to handoffEvery: the taker
	// may hear of the change a moment later than this node and not accept yet, and a
	// request that was on its way may bring back what has moved. What is still left
	// then is offered every handoffEvery. offerTimeout is how long the taker has to
	// answer.
	handoffSoon  = 50 * time.Millisecond
	handoffEvery = time.Second
	offerTimeout = 2 * time.Second
	// handoffLook is how often all that is in memory is looked through although
	// nothing is known to have changed: a node may have been out of reach for as
	// long as it took others to take over what it held, and no ring shows that.
	handoffLook = 10 * time.Second
)

// Handoff hands conversations over to the nodes that the ring gives them to,
// whenever it changes, and now and then, until ctx ends: in chunks, concurrency
// of them at once. changed wakes it; what a taker does not accept yet is offered
// again.
func (s *Service) Handoff(ctx context.Context, changed <-chan struct{}, concurrency int) {
	t := time.NewTimer(0)
	defer t.Stop()
	soon := handoffSoon
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			soon = handoffSoon
		case <-t.C:
		}
		moved, left := s.handOver(ctx, concurrency)
		if moved > 0 {
			soon = handoffSoon
		}
		wait := soon
		if soon >= handoffEvery && left == 0 {
			wait = handoffLook
		}
		soon = min(2*soon, handoffEvery)
		t.Reset(wait)
	}
}

// handOver goes through all that is in memory once and returns how many
// conversations that others should own have moved, and how many stayed.
func (s *Service) handOver(ctx context.Context, concurrency int) (moved, left int) {
	start := time.Now()
	byOwner := map[string][]string{} // address → conversations
	var nobodys []string
	s.cfg.Actors.Each(func(convo string) {
		switch owner, self, ok := s.cfg.Cluster.Owner(convo); {
		case ok && !self:
			byOwner[owner.Address] = append(byOwner[owner.Address], convo)
		case !ok:
			nobodys = append(nobodys, convo)
		}
	})
	ctx = context.WithoutCancel(ctx) // what was begun is finished: each step is bounded
	if s.cfg.Cluster.Leaving() && len(nobodys) > 0 {
		// Whoever the ring names serves them without an actor.
		if err := s.cfg.Actors.ReleaseSome(ctx, nobodys); err != nil {
			s.log.Warn("conversations not released in full", "error", err)
		}
	}
	if len(byOwner) == 0 {
		return 0, 0
	}
	s.metrics.handoffRunning.Set(1)
	defer s.metrics.handoffRunning.Set(0)
	places := make(chan struct{}, concurrency)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for address, convos := range byOwner {
		for chunk := range slices.Chunk(convos, handoffChunk) {
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				n := s.handChunk(ctx, address, chunk)
				mu.Lock()
				defer mu.Unlock()
				moved += n
				left += len(chunk) - n
			})
		}
	}
	wg.Wait()
	s.metrics.handoffSeconds.Observe(time.Since(start).Seconds())
	if moved > 0 {
		s.log.Info("handed conversations over", "moved", moved, "left", left, "took", time.Since(start))
	}
	return moved, left
}

// handChunk hands over what the taker accepts. Letting go never waits for the
// taker: it loads when it likes, or when somebody asks it.
func (s *Service) handChunk(ctx context.Context, address string, convos []string) (moved int) {
	accepted, err := s.offer(ctx, address, convos)
	if err != nil {
		s.metrics.handoffs.WithLabelValues("unreachable").Inc()
		s.log.Debug("conversations not offered", "address", address, "error", err)
		return 0
	}
	if len(accepted) == 0 {
		s.metrics.handoffs.WithLabelValues("not_accepted").Inc()
		return 0
	}
	if err := s.cfg.Actors.ReleaseSome(ctx, accepted); err != nil {
		s.log.Warn("conversations not released in full", "error", err)
	}
	s.metrics.handoffs.WithLabelValues("moved").Inc()
	s.metrics.moved.Add(float64(len(accepted)))
	ask, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	if _, err := s.cfg.Peers.Ask(ask, address, peer.Question{Take: accepted}); err != nil {
		s.log.Debug("taker not told", "address", address, "error", err)
	}
	return len(accepted)
}

// offer asks the node at address which of convos its own ring gives it (rule
// 17). Those it does not name stay where they are.
func (s *Service) offer(ctx context.Context, address string, convos []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	answer, err := s.cfg.Peers.Ask(ctx, address, peer.Question{Offer: convos})
	if err != nil {
		return nil, err
	}
	offered := make(map[string]bool, len(convos))
	for _, convo := range convos {
		offered[convo] = true
	}
	return slices.DeleteFunc(answer.Accepted, func(convo string) bool { return !offered[convo] }), nil
}

// Accepts returns those of convos that this node's own ring gives it and that
// its flags serve by actors.
func (s *Service) Accepts(convos []string) []string {
	if s.cfg.Cluster.Leaving() || s.cfg.Session() == "" {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(convos), func(convo string) bool {
		_, self, ok := s.cfg.Cluster.Owner(convo)
		return !ok || !self || !s.keeps(convo)
	})
}

// TakeOver loads conversations that another node has let go of. They are loaded
// in batches; what fails is loaded when somebody asks for it.
func (s *Service) TakeOver(ctx context.Context, convos []string) {
	var wg sync.WaitGroup
	for _, convo := range s.Accepts(convos) {
		s.hints.forget(convo)
		wg.Go(func() {
			if err := s.cfg.Actors.Load(ctx, convo); err != nil {
				s.log.Debug("conversation not loaded ahead", "convo", convo, "error", err)
			}
		})
	}
	wg.Wait()
}
