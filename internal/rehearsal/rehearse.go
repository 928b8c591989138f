package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"catbird/internal/client"
	"catbird/internal/fleet"
	"catbird/internal/load"
	"catbird/internal/testenv"
)

// Step is one thing that is done to the set.
type Step string

// The steps, in their order.
const (
	Update   Step = "rolling update" // in the plan's order
	ScaleOut Step = "scale out by two"
	ScaleIn  Step = "scale in by two"
	Evict    Step = "drain a node of two pods" // both are evicted at once; a budget holds one back
)

// Steps are all of them.
var Steps = []Step{Update, ScaleOut, ScaleIn, Evict}

// Options say what is rehearsed.
type Options struct {
	Plan  Plan
	Steps []Step // none: all
	// Lag is how long what stands before the pods takes to hear of a change.
	Lag time.Duration
	// Clients are at work at once.
	Clients int
	// Program is the server; "": it is built.
	Program string
	Log     io.Writer // what is done, a line each
}

// Report is what a rehearsal has shown.
type Report struct {
	Plan     Plan
	Phases   []Phase  // calm, then each step
	Findings []string // pods that were killed, or would have been restarted
	Load     *load.Report
}

// OK reports whether no request failed, no pod was killed, and the cluster kept
// its word.
func (r *Report) OK() bool { return r.Load.OK() && r.Load.Total.Failed == 0 && len(r.Findings) == 0 }

const (
	secret = "a secret of rehearsals alone, which is long enough"
	calm   = 3 * time.Second // before the first step
	// longest bounds a rehearsal.
	longest = 15 * time.Minute
)

// Run rehearses. It needs PostgreSQL and Redis on this machine, starts servers of
// its own, and takes about as long as the plan's waits add up to. What goes wrong
// for clients is in the report; an error means that it could not be rehearsed.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	if err := o.Plan.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	s, err := newStage(ctx, o)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return s.play(ctx)
}

// stage is a cluster and its clients.
type stage struct {
	o       Options
	service *service
	pods    *pods
	fleet   *fleet.Fleet
	clock   phases
	closers []func() error
}

// newStage returns what there is of a stage with an error, too: it is to be closed.
func newStage(ctx context.Context, o Options) (*stage, error) {
	s := &stage{o: o}
	later := func(f func()) { s.closers = append(s.closers, func() error { f(); return nil }) }
	pg, err := testenv.StartPostgres()
	if err != nil {
		return s, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	later(pg.Close)
	rd, err := testenv.StartRedis()
	if err != nil {
		return s, fmt.Errorf("starting Redis: %w", err)
	}
	later(rd.Close)
	if o.Program == "" {
		dir, err := os.MkdirTemp("", "catbird-rehearsal-")
		if err != nil {
			return s, fmt.Errorf("a folder for the server: %w", err)
		}
		s.closers = append(s.closers, func() error { return os.RemoveAll(dir) })
		if o.Program, err = fleet.Build(ctx, dir); err != nil {
			return s, err
		}
	}
	s.fleet = fleet.New(fleet.Config{Program: o.Program, Env: append(o.Plan.settings(),
		"DATABASE_URL="+pg.URL(), "REDIS_URL="+rd.URL(), "CLUSTER_SECRET="+secret, "JWT_SECRET="+secret,
		"SERVER_HOST=127.0.0.1", "SERVER_PORT=0", "INTERNAL_PORT=0", "GOSSIP_HOST=127.0.0.1", "GOSSIP_PORT=0",
		"DATABASE_MAX_CONNECTIONS=8", "LOG_LEVEL=warn,app=info,cluster=info")})
	s.closers = append(s.closers, func() error {
		// It is over: nobody waits for delays.
		for _, n := range s.fleet.Nodes() {
			_, err := s.fleet.Kill(n.Name)
			if err != nil {
				return err
			}
		}
		return nil
	})
	s.service = newService(o.Lag)
	later(s.service.close)
	s.pods = newPods(o.Plan, servers{s.fleet}, s.service, s.say)
	later(s.pods.close)
	ordinals := upTo(0, o.Plan.Replicas)
	for _, ordinal := range ordinals {
		if err := s.pods.create(ctx, ordinal); err != nil {
			return s, err
		}
	}
	return s, s.await(ctx, ordinals)
}

// close undoes all, the last thing first.
func (s *stage) close() (err error) {
	for _, f := range slices.Backward(s.closers) {
		err = errors.Join(err, f())
	}
	return err
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.o.Log, format+"\n", args...) }

// await waits until pods are available, and what stands before them knows.
func (s *stage) await(ctx context.Context, ordinals []int) error {
	if err := s.pods.each(ordinals, func(i int) error { return s.pods.available(ctx, i) }); err != nil {
		return err
	}
	if !pause(ctx, s.o.Lag) {
		return context.Cause(ctx)
	}
	return nil
}

// play puts load on the cluster and goes through the steps.
func (s *stage) play(ctx context.Context) (*Report, error) {
	engine, err := load.New(load.Config{
		BaseURLs: []string{"http://catbird"}, HTTP: &http.Client{Transport: s.service}, Token: client.HS256([]byte(secret), ""),
		Conversations: 60, Members: 4, MessageBytes: 256, Clients: max(s.o.Clients, 1), Attempts: 1,
		Duration: longest, VerifyTimeout: time.Minute, Observe: s.clock.observe,
	})
	if err != nil {
		return nil, err
	}
	var report *load.Report
	var failure error
	var run sync.WaitGroup
	run.Go(func() { report, failure = engine.Run(ctx) })
	s.clock.begin("calm")
	stepped := s.steps(ctx, engine)
	s.clock.end()
	engine.Stop()
	run.Wait()
	if err := errors.Join(stepped, failure); err != nil {
		return nil, err
	}
	return &Report{Plan: s.o.Plan, Phases: s.clock.all, Findings: s.pods.found(), Load: report}, nil
}

func (s *stage) steps(ctx context.Context, engine *load.Engine) error {
	if !s.clock.awaitFirst(ctx) || !pause(ctx, calm) {
		return context.Cause(ctx)
	}
	steps := s.o.Steps
	if len(steps) == 0 {
		steps = Steps
	}
	for _, step := range steps {
		s.say("%s", step)
		engine.AddEvent(time.Now(), string(step))
		s.clock.begin(string(step))
		if err := s.take(ctx, step); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	// The last news are to be heard before everything is read back.
	return s.await(ctx, upTo(0, s.o.Plan.Replicas))
}

func (s *stage) take(ctx context.Context, step Step) error {
	now := s.o.Plan.Replicas
	more := upTo(now, now+2)
	switch step {
	case Update:
		for _, ordinal := range s.o.Plan.Order {
			if err := s.pods.replace(ctx, ordinal); err != nil {
				return err
			}
		}
	case ScaleOut: // pods that are managed in parallel come, and go, at once
		if err := s.pods.each(more, func(i int) error { return s.pods.create(ctx, i) }); err != nil {
			return err
		}
		return s.await(ctx, more)
	case ScaleIn:
		return s.pods.each(more, func(i int) error { return s.pods.remove(ctx, i) })
	case Evict:
		drained := upTo(0, 2)
		if err := s.pods.each(drained, func(i int) error { return s.pods.evict(ctx, i) }); err != nil {
			return err
		}
		return s.await(ctx, drained)
	default:
		return fmt.Errorf("no such step: %q", step)
	}
	return nil
}

// upTo returns the ordinals from a up to, but without, b.
func upTo(a, b int) (out []int) {
	for i := a; i < b; i++ {
		out = append(out, i)
	}
	return out
}
