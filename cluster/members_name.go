package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// NameTakenError says that another node bears this node's name and answers.
type NameTakenError struct {
	Name            string
	GossipAddress   string
	InternalAddress string
	Started         time.Time // as the other tells it
}

// Error names the other node.
func (e *NameTakenError) Error() string {
	return fmt.Sprintf("node name %q is taken: another node of that name answers at %s, started %s; every node needs a name of its own",
		e.Name, e.GossipAddress, e.Started.Format(time.RFC3339))
}

// defaultAnswerTimeout is how long another life of this node's name may take to
// answer before it counts as gone. One that was killed is known at once: its
// port refuses.
const defaultAnswerTimeout = 1500 * time.Millisecond

// rival is another life of this node's name.
type rival struct {
	gossip string
	life
	answers bool
}

func (r rival) taken() *NameTakenError {
	return &NameTakenError{Name: r.Name, GossipAddress: r.GossipAddress, InternalAddress: r.InternalAddress, Started: r.Started}
}

// settle makes sure of the name at the first contact with others, before this
// life counts for them: *[NameTakenError] when another bears it and answers.
// Of two that are not sure yet the one that began earlier stays.
func (m *Members) settle(ctx context.Context) error {
	rivals := m.ask(ctx, func(rival) bool { return true })
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("asking for the node's name: %w", context.Cause(ctx))
	}
	m.mu.Lock()
	self := m.self
	m.mu.Unlock()
	for _, r := range rivals {
		newcomer := r.unsure && r.outranks(r.gossip, self, m.gossip) // it will give way
		if r.answers && !newcomer {
			return r.taken()
		}
	}
	m.outrank(rivals)
	return nil
}

// judge looks at lives of this node's name that appear later.
func (m *Members) judge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.doubts:
		}
		if m.left.Load() || m.others() == 0 {
			continue
		}
		if err := m.judgeOnce(ctx); err != nil && ctx.Err() == nil {
			m.evict(err)
			return
		}
	}
}

func (m *Members) judgeOnce(ctx context.Context) error {
	m.mu.Lock()
	self := m.self
	m.mu.Unlock()
	if self.unsure {
		return m.settle(ctx)
	}
	above := m.ask(ctx, func(r rival) bool { return r.outranks(r.gossip, self, m.gossip) })
	for _, r := range above {
		if r.answers && r.outranks(r.gossip, self, m.gossip) {
			return r.taken()
		}
	}
	if len(above) > 0 && ctx.Err() == nil {
		m.outrank(above) // gone, but its clock was ahead of this one
	}
	return nil
}

// outrank makes this life sure of its name and later than rivals.
func (m *Members) outrank(rivals []rival) {
	m.change(func(l *life) {
		l.unsure = false
		for _, r := range rivals {
			if !l.Started.After(r.Started) {
				l.Started = r.Started.Add(time.Microsecond)
			}
		}
	})
}

func (m *Members) evict(err error) {
	m.evictOnce.Do(func() {
		m.evictErr = err
		m.metrics.evictions.Inc()
		m.log.Error("this node must end: its name belongs to another", "error", err)
		close(m.evicted)
	})
}

// ask returns the rivals that match and whether each answers, all asked at the
// same time.
func (m *Members) ask(ctx context.Context, match func(rival) bool) []rival {
	m.mu.Lock()
	own := m.self.GossipAddress
	var rivals []rival
	for gossip, l := range m.lives {
		if r := (rival{gossip: gossip, life: l}); l.Name == m.self.Name && match(r) {
			rivals = append(rivals, r)
		}
	}
	m.mu.Unlock()
	var wg sync.WaitGroup
	for i := range rivals {
		if rivals[i].GossipAddress == own {
			continue // a life before on this same port, which is ours now
		}
		wg.Go(func() { m.question(ctx, &rivals[i]) })
	}
	wg.Wait()
	return rivals
}

// question finds out whether r lives, and takes over what it says of itself: it
// answers a question that names it. A refused connection says no at once,
// silence after a while.
func (m *Members) question(ctx context.Context, r *rival) {
	ctx, cancel := context.WithTimeout(ctx, m.answerTimeout)
	defer cancel()
	answer, forget := m.expect()
	defer forget()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if m.refuses(ctx, r.GossipAddress) {
			cancel()
		}
	})
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		m.sendQuestion(r.GossipAddress, r.gossip, answer.nonce)
		select {
		case l := <-answer.heard:
			cancel()
			r.answers, r.unsure, r.Started = true, l.unsure, l.Started
			return
		case <-again.C: // packets get lost
		case <-ctx.Done():
			return
		}
	}
}

// refuses reports whether nobody listens at address, which a node always does.
func (m *Members) refuses(ctx context.Context, address string) bool {
	conn, err := m.cfg.network.dial(ctx, address)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = conn.Close()
	return false
}
