package dev

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"catbird/internal/client"
	"catbird/internal/replay"
)

const (
	// The tour begins when this share of the leading group's steps was taken, and
	// no group takes its last steps before the tour has ended.
	beginAt, holdAt = 0.25, 0.9
	// stepPause slows the leading group down while the tour goes on, so that it
	// sees all of it. The others keep pace with it, unless it takes longer than
	// paceWithin for a step of theirs: then something is wrong with it.
	stepPause  = 30 * time.Millisecond
	paceWithin = 5 * time.Second
	// regainWithin bounds the wait for a node that is back to hold its share, and
	// settleWithin that for all conversations of the crowd to be held.
	regainWithin = 15 * time.Second
	settleWithin = 15 * time.Second
)

// TourConfig is what a Tour needs. All of it is required.
type TourConfig struct {
	Cluster *Cluster // of two nodes at least
	// Token gives the tokens of people that the tour makes up.
	Token client.TokenSource
	// Groups are conversations of whoever else uses the cluster: who holds the
	// first is stopped, who holds the second is killed, as far as those are two
	// nodes. The first one's replay leads.
	Groups []string
	// Say takes one line at a time, from any goroutine.
	Say func(line string)
}

// Tour shows what happens to the clients of a cluster when a node is stopped in
// order, and when one is killed without warning. A replay is to go on meanwhile,
// with its BeforeStep and Observe; made-up people use the cluster too.
type Tour struct {
	cfg   TourConfig
	meter Meter
	crowd *crowd

	begin     chan struct{}
	beginOnce sync.Once
	done      chan struct{} // closed when Run has ended

	mu    sync.Mutex
	led   float64       // share of the leading group's steps
	moved chan struct{} // closed and replaced when led has risen
}

// Event is one thing that a tour did to a node.
type Event struct {
	What string // "stopped" or "killed"
	Node string
	// Held are the conversations that it held, and To says how many of them each
	// other node had taken at the end of Took: until it had stopped, or until all
	// were served again.
	Held int
	To   map[string]int
	Took time.Duration
	// Back is how long it took to start again and to hold what it should: Regained
	// of Share conversations.
	Back            time.Duration
	Regained, Share int
	// Requests are the attempts that all clients made from the beginning to the
	// end of it, Repeated those that had to be made again, and Failed what had no
	// success at all. Slowest is the longest that one took.
	Requests, Repeated, Failed int64
	Slowest                    time.Duration
	// Why is the error of one of those that were repeated, nil for none.
	Why error
}

// NewTour returns a tour that has not begun, with conversations of made-up
// people on the cluster.
func NewTour(ctx context.Context, cfg TourConfig) (*Tour, error) {
	if len(cfg.Cluster.Nodes()) < 2 {
		return nil, errors.New("a tour needs two nodes")
	}
	t := &Tour{cfg: cfg, begin: make(chan struct{}), done: make(chan struct{}), moved: make(chan struct{})}
	var err error
	if t.crowd, err = newCrowd(cfg.Cluster.Transport(), cfg.Token, t.meter.Observe); err != nil {
		return nil, err
	}
	if err := t.crowd.gather(ctx); err != nil {
		return nil, fmt.Errorf("creating conversations: %w", err)
	}
	cfg.Say(fmt.Sprintf("made-up people send messages in %s, all the while", conversations(len(t.crowd.convos))))
	return t, nil
}

// Observe counts an attempt of a client of the cluster.
func (t *Tour) Observe(o client.Observation) { t.meter.Observe(o) }

// Begin lets Run go on, whether there is a replay or not.
func (t *Tour) Begin() { t.beginOnce.Do(func() { close(t.begin) }) }

// BeforeStep lets a replay lead the tour and wait for it.
func (t *Tour) BeforeStep(ctx context.Context, s replay.Step) error {
	share := float64(s.Index) / float64(s.Total)
	if s.ConvoID != t.cfg.Groups[0] {
		return t.follow(ctx, share)
	}
	t.lead(share)
	if share < beginAt {
		return nil
	}
	t.Begin()
	var enough <-chan time.Time // never
	if share < holdAt {
		timer := time.NewTimer(stepPause)
		defer timer.Stop()
		enough = timer.C
	}
	select {
	case <-enough:
		return nil
	case <-t.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lead notes how far the leading group is.
func (t *Tour) lead(share float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.led = share
	close(t.moved)
	t.moved = make(chan struct{})
}

// follow waits until the leading group is as far.
func (t *Tour) follow(ctx context.Context, share float64) error {
	timer := time.NewTimer(paceWithin)
	defer timer.Stop()
	for {
		t.mu.Lock()
		led, moved := t.led, t.moved
		t.mu.Unlock()
		if share <= led {
			return nil
		}
		select {
		case <-moved:
		case <-timer.C:
			return nil
		case <-t.done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Run makes the tour once it was begun, and returns what it did. It returns when
// ctx ends, and with an error when something did not go as it must: a request
// that failed for good, or a message that was acknowledged and is not there.
func (t *Tour) Run(ctx context.Context) (events []Event, err error) {
	defer close(t.done)
	stop := make(chan struct{})
	var talk sync.WaitGroup
	talk.Go(func() { t.crowd.talk(ctx, stop) })
	events, err = t.events(ctx)
	close(stop)
	talk.Wait()
	if err != nil {
		return events, err
	}
	return events, t.verify(ctx)
}

func (t *Tour) events(ctx context.Context) (events []Event, err error) {
	select {
	case <-t.begin:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := t.settle(ctx); err != nil {
		return nil, err
	}
	stopped, err := t.choose(ctx, t.cfg.Groups[0], nil)
	if err != nil {
		return nil, err
	}
	e, err := t.stop(ctx, stopped)
	if err != nil {
		return nil, err
	}
	events = append(events, e)
	killed, err := t.choose(ctx, t.cfg.Groups[min(1, len(t.cfg.Groups)-1)], stopped)
	if err != nil {
		return events, err
	}
	e, err = t.kill(ctx, killed)
	if err != nil {
		return events, err
	}
	return append(events, e), nil
}

// settle waits until the nodes hold what the crowd talks in, so that there is
// something to move.
func (t *Tour) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleWithin, errors.New("the conversations are not held by any node yet"))
	defer cancel()
	ids := t.crowd.ids()
	return await(ctx, "all conversations to be held", func() (bool, error) {
		holders, err := t.holders(ctx, ids)
		return err == nil && len(holders) == len(ids), err
	})
}

// choose returns the node that holds convo, or, where nobody or not does, the
// one that holds most.
func (t *Tour) choose(ctx context.Context, convo string, not *Node) (*Node, error) {
	holders, err := t.holders(ctx, append(t.crowd.ids(), convo))
	if err != nil {
		return nil, err
	}
	held := map[string]int{}
	for _, name := range holders {
		held[name]++
	}
	var best *Node
	for _, n := range t.cfg.Cluster.Nodes() {
		switch {
		case n == not:
		case holders[convo] == n.Name():
			return n, nil
		case best == nil || held[n.Name()] > held[best.Name()]:
			best = n
		}
	}
	return best, nil
}

// stop stops a node in order, and starts it again.
func (t *Tour) stop(ctx context.Context, n *Node) (Event, error) {
	e := Event{What: "stopped", Node: n.Name()}
	held, err := t.heldBy(ctx, n)
	if err != nil {
		return e, err
	}
	e.Held = len(held)
	t.cfg.Say(fmt.Sprintf("%s is told to stop, as by SIGTERM, and holds %s", e.Node, conversations(e.Held)))
	end := t.measure(&e)
	began := time.Now()
	if err := n.Stop(ctx); err != nil {
		return e, err
	}
	e.Took = time.Since(began)
	if e.To, err = t.takenBy(ctx, held); err != nil {
		return e, err
	}
	t.cfg.Say(fmt.Sprintf("%s has stopped after %s; taken over by: %s", e.Node, seconds(e.Took), e.takers()))
	if err := t.back(ctx, n, &e); err != nil {
		return e, err
	}
	end()
	t.cfg.Say(fmt.Sprintf("meanwhile %d requests: %s", e.Requests, e.trouble()))
	return e, nil
}

// kill kills a node, waits until what it held is served again, and starts it
// again.
func (t *Tour) kill(ctx context.Context, n *Node) (Event, error) {
	e := Event{What: "killed", Node: n.Name()}
	held, err := t.heldBy(ctx, n)
	if err != nil {
		return e, err
	}
	e.Held = len(held)
	t.cfg.Say(fmt.Sprintf("%s is killed, without a word to anybody, and holds %s", e.Node, conversations(e.Held)))
	end := t.measure(&e)
	began := time.Now()
	n.Kill()
	if err := t.crowd.served(ctx, held); err != nil {
		return e, fmt.Errorf("after %s was killed: %w", e.Node, err)
	}
	e.Took = time.Since(began)
	if e.To, err = t.takenBy(ctx, held); err != nil {
		return e, err
	}
	t.cfg.Say(fmt.Sprintf("what %s held is served again after %s; taken over by: %s", e.Node, seconds(e.Took), e.takers()))
	if err := t.back(ctx, n, &e); err != nil {
		return e, err
	}
	end()
	t.cfg.Say(fmt.Sprintf("meanwhile %d requests: %s", e.Requests, e.trouble()))
	return e, nil
}

// back starts a node again and waits until it holds its share.
func (t *Tour) back(ctx context.Context, n *Node, e *Event) error {
	began := time.Now()
	if err := n.Start(ctx); err != nil {
		return err
	}
	if err := t.cfg.Cluster.Await(ctx); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, regainWithin)
	defer cancel()
	err := await(wait, n.Name()+" to get its share", func() (bool, error) {
		share, held, err := t.share(wait, n)
		if err == nil {
			e.Share, e.Regained = share, held
		}
		return err == nil && held == share, err
	})
	if err != nil && wait.Err() == nil || ctx.Err() != nil {
		return err
	}
	e.Back = time.Since(began)
	t.cfg.Say(fmt.Sprintf("%s is back after %s, and holds %d of the %s that it should", n.Name(), seconds(e.Back), e.Regained, conversations(e.Share)))
	return nil
}

// measure counts requests for e from now until end is called.
func (t *Tour) measure(e *Event) (end func()) {
	m := &t.meter
	requests, repeated, failed := m.requests.Load(), m.failed.Load(), t.crowd.failed.Load()
	m.slowest.Store(0)
	m.why.Store(nil)
	return func() {
		if why := m.why.Load(); why != nil {
			e.Why = *why
		}
		e.Requests, e.Repeated, e.Failed = m.requests.Load()-requests, m.failed.Load()-repeated, t.crowd.failed.Load()-failed
		e.Slowest = time.Duration(m.slowest.Load())
	}
}

// verify looks at what is stored, while nobody of the crowd sends.
func (t *Tour) verify(ctx context.Context) error {
	if n := t.crowd.failed.Load(); n > 0 {
		return fmt.Errorf("%d messages could not be sent, at last: %w", n, *t.crowd.last.Load())
	}
	if err := t.crowd.check(ctx); err != nil {
		return fmt.Errorf("reading the messages back: %w", err)
	}
	t.cfg.Say(fmt.Sprintf("all %d messages of the made-up people are stored, each once", t.crowd.acked.Load()))
	return nil
}
