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

// Options say what is rehearsed.
type Options struct {
	Plan  Plan
	Steps []Step // none: [Steps] of the plan
	// Lag is how long what stands before the pods takes to hear of a change.
	Lag time.Duration
	// Clients are at work at once, without pause, or, if Rate is not 0, with so many
	// operations a second together.
	Clients int
	Rate    float64
	// Program is the server; "": it is built. Programs are those of images that are
	// another version.
	Program  string
	Programs map[string]string
	Log      io.Writer // what is done, a line each
}

// Report is what a rehearsal has shown.
type Report struct {
	Phases   []Phase  // calm, then each step
	Findings []string // pods that were killed or restarted, and what got nowhere
	Load     *load.Report
}

// OK reports whether no request failed, no pod was killed or restarted, every step
// came to its end, and the cluster kept its word.
func (r *Report) OK() bool { return r.Load.OK() && r.Load.Total.Failed == 0 && len(r.Findings) == 0 }

const (
	secret = "a secret of rehearsals alone, which is long enough"
	calm   = 3 * time.Second // before the first step
	// longest bounds a rehearsal.
	longest = 15 * time.Minute
	// connections is a node's share of a PostgreSQL of this machine, whatever the
	// plan gives it.
	connections = 8
)

// Run rehearses. It needs PostgreSQL and Redis on this machine, starts servers of
// its own, and takes about as long as the plan's waits add up to. What goes wrong
// for clients is in the report; an error means that it could not be rehearsed.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	if err := o.check(); err != nil {
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

func (o Options) check() error {
	if err := o.Plan.check(); err != nil {
		return err
	}
	for _, step := range o.Steps {
		if step.plan == nil {
			continue
		}
		if err := step.plan.check(); err != nil {
			return fmt.Errorf("%s: %w", step.Name, err)
		}
	}
	return nil
}

// stage is a cluster and its clients.
type stage struct {
	o       Options
	service *service
	cluster *cluster
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
	// Who may take how long is the plan's to say.
	s.fleet = fleet.New(fleet.Config{Program: o.Program, Patience: longest})
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
	s.cluster = newCluster(&servers{fleet: s.fleet, programs: o.Programs, env: []string{
		"DATABASE_URL=" + pg.URL(), "REDIS_URL=" + rd.URL(), "CLUSTER_SECRET=" + secret, "JWT_SECRET=" + secret,
		"SERVER_HOST=127.0.0.1", "SERVER_PORT=0", "INTERNAL_PORT=0", "GOSSIP_HOST=127.0.0.1", "GOSSIP_PORT=0",
		fmt.Sprint("DATABASE_MAX_CONNECTIONS=", connections), "LOG_LEVEL=warn,app=info,cluster=info",
	}}, s.service, s.say)
	later(s.cluster.close)
	s.cluster.apply(o.Plan)
	return s, s.await(ctx)
}

// close undoes all, the last thing first.
func (s *stage) close() (err error) {
	for _, f := range slices.Backward(s.closers) {
		err = errors.Join(err, f())
	}
	return err
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.o.Log, format+"\n", args...) }

// await waits until all sets are as they should be, and what stands before the pods
// knows.
func (s *stage) await(ctx context.Context) error {
	if err := s.cluster.settle(ctx); err != nil {
		return err
	}
	if !pause(ctx, s.o.Lag) {
		return context.Cause(ctx)
	}
	return nil
}

// play puts load on the cluster and goes through the steps.
func (s *stage) play(ctx context.Context) (*Report, error) {
	first := s.o.Plan.Sets[0]
	audience := first.Template.variables(first.Settings)["SERVICE_DID"]
	engine, err := load.New(load.Config{
		BaseURLs: []string{"http://catbird"}, HTTP: &http.Client{Transport: s.service}, Token: client.HS256([]byte(secret), audience),
		Conversations: 60, Members: 4, MessageBytes: 256, Clients: max(s.o.Clients, 1), Rate: s.o.Rate, Attempts: 1,
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
	return &Report{Phases: s.clock.all, Findings: s.cluster.found(), Load: report}, nil
}

// steps goes through all steps, or until one gets nowhere, which is a finding.
func (s *stage) steps(ctx context.Context, engine *load.Engine) error {
	if !s.clock.awaitFirst(ctx) || !pause(ctx, calm) {
		return context.Cause(ctx)
	}
	steps := s.o.Steps
	if len(steps) == 0 {
		steps = Steps(s.o.Plan)
	}
	for _, step := range steps {
		s.say("%s", step.Name)
		engine.AddEvent(time.Now(), step.Name)
		s.clock.begin(step.Name)
		err := step.take(ctx, s)
		var stuck *stuckError
		switch {
		case errors.As(err, &stuck):
			s.cluster.find("%s: %s", step.Name, stuck.why)
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", step.Name, err)
		}
	}
	return nil
}
