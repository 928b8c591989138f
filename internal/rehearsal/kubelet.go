package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"catbird/internal/fleet"
)

const (
	// leastGrace is what is left of a pod's grace when its hook has used it up.
	leastGrace = 2 * time.Second
	// A container that ends is started again at once, the next time after
	// firstBackOff, and so on with twice as much each, up to longestBackOff.
	firstBackOff   = 10 * time.Second
	longestBackOff = 5 * time.Minute
)

// live runs a pod as its kubelet does, until it was deleted, which ends ctx, and
// its last process has ended.
func (c *cluster) live(ctx context.Context, p *pod) {
	backOff := time.Duration(0)
	for again := true; again; {
		one, err := c.run.start(ctx, c.launch(p))
		switch {
		case ctx.Err() != nil && one == nil:
			return
		case err != nil:
			c.fail(fmt.Errorf("starting %s: %w", p.name, err))
			return
		}
		if again = c.container(ctx, p, one); !again {
			return
		}
		c.backsOff(p, backOff > 0)
		if !pause(ctx, backOff) {
			return
		}
		c.backsOff(p, false)
		backOff = min(max(firstBackOff, 2*backOff), longestBackOff)
	}
}

// container sees one process of a pod through: asks its probes, and ends it when
// the pod is deleted or they say so. It reports whether there is to be another one.
func (c *cluster) container(ctx context.Context, p *pod, one process) (again bool) {
	probing, stop := context.WithCancel(ctx)
	verdict := make(chan string, 2) // there is room for all who may send
	var asked sync.WaitGroup
	asked.Go(func() { c.probe(probing, p, one, verdict) })
	defer func() {
		stop()
		asked.Wait()
		c.setReady(p, "")
	}()
	select {
	case <-ctx.Done():
		stop()
		c.end(p, one)
		return false
	case <-one.done():
		c.find("%s ended by itself, with exit code %d, and is started again", p.name, one.exitCode())
	case why := <-verdict:
		c.find("%s did not answer its %s probe, and is restarted", p.name, why)
		c.end(p, one) // it is asked for its readiness meanwhile
	}
	return ctx.Err() == nil
}

// probe asks a process until ctx ends. What is to end it comes as a verdict.
func (c *cluster) probe(ctx context.Context, p *pod, one process, verdict chan<- string) {
	t, began := p.revision.template, time.Now()
	if t.Startup != nil {
		started := false
		waiting, stop := context.WithCancel(ctx)
		defer stop()
		t.Startup.watch(waiting, began, t.Startup.get(c.probes, one.host), func(good bool) {
			started = good
			stop()
		})
		switch {
		case ctx.Err() != nil:
			return
		case !started:
			verdict <- "startup"
			return
		}
	}
	var asked sync.WaitGroup
	defer asked.Wait()
	asked.Go(func() {
		t.Readiness.watch(ctx, began, t.Readiness.get(c.probes, one.host), func(good bool) {
			if good {
				c.setReady(p, one.host())
			} else {
				c.setReady(p, "")
			}
		})
	})
	asked.Go(func() {
		alive, stop := context.WithCancel(ctx)
		defer stop()
		t.Liveness.watch(alive, began, t.Liveness.get(c.probes, one.host), func(good bool) {
			if !good {
				verdict <- "liveness"
				stop()
			}
		})
	})
}

// end stops a process: a wait, SIGTERM, and SIGKILL when the grace is over, which
// has run since the beginning of the wait.
func (c *cluster) end(p *pod, one process) {
	t, began := p.revision.template, time.Now()
	hook := seconds(t.PreStopSeconds)
	grace := max(seconds(t.TerminationGracePeriodSeconds), hook+leastGrace)
	ctx, cancel := context.WithDeadline(c.life, began.Add(grace))
	defer cancel()
	if hook > 0 {
		if !pause(ctx, hook) {
			return
		}
		c.say("%s is told after its hook's %v", p.name, hook)
	}
	err := one.stop(ctx)
	took := time.Since(began).Round(10 * time.Millisecond)
	var exit *fleet.ExitError
	switch {
	case c.life.Err() != nil:
		return
	case ctx.Err() != nil:
		c.find("%s had not ended when its grace of %v was over, and was killed", p.name, grace)
	case errors.As(err, &exit):
		c.find("%s ended with exit code %d", p.name, exit.Code)
	case err != nil:
		c.fail(err)
	}
	c.say("%s has ended %v after it was to", p.name, took)
}
