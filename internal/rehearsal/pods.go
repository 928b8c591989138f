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

// pods are the pods of a set, by ordinal, with what a kubelet and the controller
// of endpoints do for them.
type pods struct {
	plan    Plan
	fleet   *fleet.Fleet
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

func newPods(plan Plan, f *fleet.Fleet, s *service, say func(string, ...any)) *pods {
	return &pods{
		plan: plan, fleet: f, service: s, say: say, all: map[int]*pod{}, changed: make(chan struct{}),
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

// create starts a pod and begins to probe it.
func (p *pods) create(ctx context.Context, ordinal int) error {
	name := podName(ordinal)
	n, err := p.fleet.Start(ctx, fleet.Launch{Name: name})
	if err != nil {
		return err
	}
	watch, stop := context.WithCancel(context.Background())
	one := &pod{name: name, stop: stop}
	p.mu.Lock()
	p.all[ordinal] = one
	p.mu.Unlock()
	one.watched.Go(func() {
		p.plan.Readiness.watch(watch, p.plan.Readiness.get(p.probes, n.Clients()), func(ready bool) {
			p.mu.Lock()
			one.ready, one.since = ready, time.Now()
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
			host := n.Clients()
			if !ready {
				host = ""
			}
			p.service.set(name, host)
		})
	})
	one.watched.Go(func() {
		p.plan.Liveness.watch(watch, p.plan.Liveness.get(p.probes, n.Clients()), func(alive bool) {
			if !alive {
				p.find(name + " did not answer its liveness probe, and would have been restarted")
			}
		})
	})
	return nil
}

// remove stops a pod as its deletion does: what stands before it begins to take it
// out in the moment in which it is told to stop, not before.
func (p *pods) remove(ctx context.Context, ordinal int) error {
	p.mu.Lock()
	one := p.all[ordinal]
	delete(p.all, ordinal)
	p.mu.Unlock()
	if one == nil {
		return fmt.Errorf("pod %d: there is none", ordinal)
	}
	began := time.Now()
	one.stop()
	one.watched.Wait()
	p.service.set(one.name, "")
	grace, cancel := context.WithTimeout(ctx, seconds(p.plan.TerminationGracePeriodSeconds))
	defer cancel()
	if !pause(grace, seconds(p.plan.PreStopSeconds)) {
		return context.Cause(grace)
	}
	_, err := p.fleet.Stop(grace, one.name)
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

// available waits until a pod has been ready for as long as a rollout wants.
func (p *pods) available(ctx context.Context, ordinal int) error {
	for {
		p.mu.Lock()
		one, changed := p.all[ordinal], p.changed
		var enough <-chan time.Time // never
		if one != nil && one.ready {
			left := time.Until(one.since.Add(seconds(p.plan.MinReadySeconds)))
			if left <= 0 {
				p.mu.Unlock()
				return nil
			}
			enough = time.After(left)
		}
		p.mu.Unlock()
		select {
		case <-enough:
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for pod %d to be available: %w", ordinal, context.Cause(ctx))
		}
	}
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
