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

	"catbird/internal/fleet"
)

// maxUnavailable is how many pods a disruption budget lets be missing: what is
// recommended for every cluster, and the least that lets a node be drained.
const maxUnavailable = 1

// processes are what runs in the pods. The methods are called from any goroutine,
// for each name one after another.
type processes interface {
	// start starts one and returns where clients reach it, host:port.
	start(ctx context.Context, name string) (host string, err error)
	// stop tells one to stop and waits for its end. It kills one that runs when
	// ctx ends. An exit code other than 0 is a *[fleet.ExitError].
	stop(ctx context.Context, name string) error
}

// servers are processes of the server.
type servers struct{ *fleet.Fleet }

func (s servers) start(ctx context.Context, name string) (string, error) {
	n, err := s.Start(ctx, fleet.Launch{Name: name})
	if err != nil {
		return "", err
	}
	return n.Clients(), nil
}

func (s servers) stop(ctx context.Context, name string) error {
	_, err := s.Stop(ctx, name)
	return err
}

// pods are the pods of a set, by ordinal, with what a kubelet and the controllers
// of sets, budgets and endpoints do for them.
type pods struct {
	plan    Plan
	run     processes
	service *service
	probes  *http.Client
	say     func(format string, args ...any)

	mu       sync.Mutex
	all      map[int]*pod
	changed  chan struct{} // closed and replaced when a pod's readiness has changed
	findings []string
}

// pod is one life of a pod.
type pod struct {
	name    string
	stop    context.CancelFunc // of its probes
	watched sync.WaitGroup
	ready   bool
	since   time.Time // of ready
}

func newPods(plan Plan, run processes, s *service, say func(string, ...any)) *pods {
	return &pods{
		plan: plan, run: run, service: s, say: say, all: map[int]*pod{}, changed: make(chan struct{}),
		// A kubelet opens a connection for each probe.
		probes: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

func podName(ordinal int) string { return fmt.Sprintf("catbird-%d", ordinal) }

func (p *pods) find(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.findings = append(p.findings, text)
}

// found returns what was found so far: the probes go on meanwhile.
func (p *pods) found() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.findings)
}

// create starts a pod and begins to probe it.
func (p *pods) create(ctx context.Context, ordinal int) error {
	name := podName(ordinal)
	host, err := p.run.start(ctx, name)
	if err != nil {
		return err
	}
	watch, stop := context.WithCancel(context.Background())
	one := &pod{name: name, stop: stop}
	p.mu.Lock()
	p.all[ordinal] = one
	p.mu.Unlock()
	one.watched.Go(func() {
		p.plan.Readiness.watch(watch, p.plan.Readiness.get(p.probes, host), func(ready bool) {
			p.mu.Lock()
			one.ready, one.since = ready, time.Now()
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
			if ready {
				p.service.set(name, host)
			} else {
				p.service.set(name, "")
			}
		})
	})
	one.watched.Go(func() {
		p.plan.Liveness.watch(watch, p.plan.Liveness.get(p.probes, host), func(alive bool) {
			if !alive {
				p.find(name + " did not answer its liveness probe, and would have been restarted")
			}
		})
	})
	return nil
}

// remove stops a pod as its deletion does.
func (p *pods) remove(ctx context.Context, ordinal int) error {
	p.mu.Lock()
	one := p.all[ordinal]
	delete(p.all, ordinal)
	p.mu.Unlock()
	if one == nil {
		return fmt.Errorf("pod %d: there is none", ordinal)
	}
	return p.end(ctx, one)
}

// end stops a pod that is no longer of the set: what stands before it begins to
// take it out in the moment in which it is told to stop, not before.
func (p *pods) end(ctx context.Context, one *pod) error {
	began := time.Now()
	one.stop()
	one.watched.Wait()
	p.service.set(one.name, "")
	grace, cancel := context.WithTimeout(ctx, seconds(p.plan.TerminationGracePeriodSeconds))
	defer cancel()
	if !pause(grace, seconds(p.plan.PreStopSeconds)) {
		return context.Cause(grace)
	}
	err := p.run.stop(grace, one.name)
	took := time.Since(began).Round(10 * time.Millisecond)
	var exit *fleet.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case grace.Err() != nil:
		p.find(fmt.Sprintf("%s had not ended when its grace of %v was over, and was killed", one.name, seconds(p.plan.TerminationGracePeriodSeconds)))
	case errors.As(err, &exit):
		p.find(fmt.Sprintf("%s ended with exit code %d", one.name, exit.Code))
	case err != nil:
		return err
	}
	p.say("%s has ended %v after it was told to", one.name, took)
	return nil
}

// until waits until met returns nothing to wait for. met is called under p.mu, now,
// when a pod's readiness has changed, and after as long as it returned; less than 0
// is for ever.
func (p *pods) until(ctx context.Context, met func() (wait time.Duration)) error {
	for {
		p.mu.Lock()
		wait, changed := met(), p.changed
		p.mu.Unlock()
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

// available waits until a pod has been ready for as long as a rollout wants.
func (p *pods) available(ctx context.Context, ordinal int) error {
	err := p.until(ctx, func() time.Duration {
		one := p.all[ordinal]
		if one == nil || !one.ready {
			return -1
		}
		return max(0, time.Until(one.since.Add(seconds(p.plan.MinReadySeconds))))
	})
	if err != nil {
		return fmt.Errorf("waiting for pod %d to be available: %w", ordinal, err)
	}
	return nil
}

// evict removes a pod as soon as the budget allows, and creates the next one of its
// name. Unlike an update, a budget counts pods that are ready, however briefly.
func (p *pods) evict(ctx context.Context, ordinal int) error {
	var one *pod
	err := p.until(ctx, func() time.Duration {
		ready := 0
		for _, other := range p.all {
			if other.ready {
				ready++
			}
		}
		if p.all[ordinal] == nil || ready-1 < p.plan.Replicas-maxUnavailable {
			return -1
		}
		one = p.all[ordinal]
		delete(p.all, ordinal)
		return 0
	})
	if err != nil {
		return fmt.Errorf("waiting for the budget to let pod %d go: %w", ordinal, err)
	}
	if err := p.end(ctx, one); err != nil {
		return err
	}
	return p.create(ctx, ordinal)
}

// each does something to pods at once.
func (p *pods) each(ordinals []int, do func(ordinal int) error) error {
	errs := make([]error, len(ordinals))
	var wg sync.WaitGroup
	for i, ordinal := range ordinals {
		wg.Go(func() { errs[i] = do(ordinal) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// replace removes a pod, and creates the next one of its name.
func (p *pods) replace(ctx context.Context, ordinal int) error {
	if err := p.remove(ctx, ordinal); err != nil {
		return err
	}
	if err := p.create(ctx, ordinal); err != nil {
		return err
	}
	return p.available(ctx, ordinal)
}

// close ends the probes; the processes are the fleet's.
func (p *pods) close() {
	p.mu.Lock()
	all := slices.Collect(maps.Values(p.all))
	p.mu.Unlock()
	for _, one := range all {
		one.stop()
	}
	for _, one := range all {
		one.watched.Wait()
	}
	p.probes.CloseIdleConnections()
}
