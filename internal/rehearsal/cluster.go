package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// cluster is the pods of some sets, with what kubelets and the controllers of sets,
// budgets and endpoints do for them. Its methods may be called from any goroutine.
type cluster struct {
	run     processes
	service *service
	probes  *http.Client
	say     func(format string, args ...any)

	life    context.Context // ends with close
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	sets     []*set
	budgets  []Budget
	pods     map[string]*pod
	changed  chan struct{} // closed and replaced when anything below has changed
	findings []string
	failure  error // what keeps it from being rehearsed
}

// revision is what pods are made of.
type revision struct {
	id       string
	template Template
}

// pod is one life of a pod, from its creation until it is gone.
type pod struct {
	name     string
	set      *set
	ordinal  int
	revision revision
	delete   context.CancelFunc
	gone     chan struct{}

	// Of the cluster's mu.
	leaving bool // deleted, and not yet gone
	ready   bool
	since   time.Time // of ready
	inVain  bool      // waits to be started, after it was at once before
}

func newCluster(run processes, s *service, say func(string, ...any)) *cluster {
	c := &cluster{
		run: run, service: s, say: say, pods: map[string]*pod{}, changed: make(chan struct{}),
		// A kubelet opens a connection for each probe.
		probes: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	c.life, c.stop = context.WithCancel(context.Background())
	c.running.Go(c.control)
	return c
}

// close ends what is done for the pods. Processes are left as they are.
func (c *cluster) close() {
	c.stop()
	c.running.Wait()
	c.probes.CloseIdleConnections()
}

func (c *cluster) find(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.say("%s", text)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.findings = append(c.findings, text)
}

// found returns what was found so far.
func (c *cluster) found() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.findings)
}

// fail ends all waits with err.
func (c *cluster) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure = errors.Join(c.failure, err)
	c.changedLocked()
}

func (c *cluster) changedLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// createLocked creates a pod.
func (c *cluster) createLocked(s *set, ordinal int) {
	ctx, stop := context.WithCancel(c.life)
	p := &pod{name: fmt.Sprintf("%s-%d", s.spec.Name, ordinal), set: s, ordinal: ordinal, revision: s.revisionOf(ordinal), delete: stop, gone: make(chan struct{})}
	c.pods[p.name] = p
	c.running.Go(func() {
		defer stop()
		c.live(ctx, p)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.pods, p.name)
		close(p.gone)
		c.changedLocked()
	})
	c.changedLocked()
}

// deleteLocked deletes a pod: what stands before it begins to take it out in the
// moment in which it is told to stop, not before.
func (c *cluster) deleteLocked(p *pod) {
	if p.leaving {
		return
	}
	p.leaving, p.ready, p.inVain = true, false, false
	c.service.set(p.name, "")
	p.delete()
	c.changedLocked()
}

// setReady says where a pod is ready, "" for not.
func (c *cluster) setReady(p *pod, host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.leaving || p.ready == (host != "") {
		return
	}
	p.ready, p.since = host != "", time.Now()
	if p.set.spec.Clients {
		c.service.set(p.name, host)
	}
	c.changedLocked()
}

// backsOff says that a pod waits to be started again, or does no longer.
func (c *cluster) backsOff(p *pod, inVain bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.inVain = inVain && !p.leaving
	c.changedLocked()
}

// launch returns what is to be started in a pod now.
func (c *cluster) launch(p *pod) launch {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := p.revision.template
	return launch{pod: p.name, image: t.Image, variables: t.variables(p.set.spec.Settings)}
}

// stuckError says that a rollout or a drain gets nowhere.
type stuckError struct{ why string }

func (e *stuckError) Error() string { return e.why }

// until waits until met returns nothing to wait for, or a pod is started in vain. met
// is called under c.mu, now, when anything has changed, and after as long as it
// returned; less than 0 is for ever.
func (c *cluster) until(ctx context.Context, met func() (wait time.Duration)) error {
	for {
		c.mu.Lock()
		wait, changed, err := met(), c.changed, c.failure
		if err == nil && wait != 0 {
			err = c.inVainLocked()
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
		var enough <-chan time.Time // never
		switch {
		case wait == 0:
			return nil
		case wait > 0:
			enough = time.After(wait)
		}
		select {
		case <-enough:
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *cluster) inVainLocked() error {
	for _, name := range slices.Sorted(maps.Keys(c.pods)) {
		if p := c.pods[name]; p.inVain && !p.set.givesUp(p) {
			return &stuckError{name + " is started again and again: nothing goes on before it is ready"}
		}
	}
	return nil
}

// settle waits until all sets are as they should be, and every pod has been ready
// for as long as its set wants.
func (c *cluster) settle(ctx context.Context) error {
	if err := c.until(ctx, c.unsettledLocked); err != nil {
		return fmt.Errorf("waiting for the pods: %w", err)
	}
	return nil
}

// unsettledLocked returns how long it takes at least until all is as it should be; less
// than 0: nobody knows.
func (c *cluster) unsettledLocked() (longest time.Duration) {
	for _, s := range c.sets {
		switch wait := c.unfinishedLocked(s); {
		case wait < 0:
			return wait
		default:
			longest = max(longest, wait)
		}
	}
	return longest
}

// each does something for all of them at once.
func each[T any](of []T, do func(i int, one T) error) error {
	errs := make([]error, len(of))
	var wg sync.WaitGroup
	for i, one := range of {
		wg.Go(func() { errs[i] = do(i, one) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
