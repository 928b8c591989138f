package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"catbird/internal/history"
)

// Defaults of [Options].
const (
	DefaultLease   = 2 * time.Second
	DefaultTopics  = 24
	DefaultClients = 16
	DefaultPace    = 60 * time.Millisecond
)

// Options of a run.
type Options struct {
	// Seed is what the faults are drawn from.
	Seed uint64
	// For is how long faults go on; the round that runs then is played to its
	// end. 0: until every kind has come once.
	For time.Duration
	// Kinds are the faults that may come; none: all that this machine has means
	// for.
	Kinds []Kind

	Lease   time.Duration // LEASE_TTL; 0: DefaultLease
	Topics  int           // conversations; 0: DefaultTopics
	Clients int           // 0: DefaultClients
	Pace    time.Duration // between two requests of one client, on average; 0: DefaultPace

	// Loopback leaves nodes on this machine's loopback even if it has networks to
	// offer. There a relay before each node's internal port stands for the network.
	Loopback bool
	// Program is the server; "": it is built.
	Program string
	// Dir is the folder of the report, which is made.
	Dir string
	// Log is told what goes on, a line at a time.
	Log io.Writer

	planned bool
}

func (o Options) withDefaults() Options {
	o.Lease = cmp.Or(o.Lease, DefaultLease)
	o.Topics = cmp.Or(o.Topics, DefaultTopics)
	o.Clients = cmp.Or(o.Clients, DefaultClients)
	o.Pace = cmp.Or(o.Pace, DefaultPace)
	return o
}

// attemptTimeout is when a client gives an attempt up: soon enough to find a
// frozen node out, and too late for one that only takes over.
func (o Options) attemptTimeout() time.Duration {
	if o.planned {
		return 2 * requestTimeout
	}
	return o.Lease*3/2 + time.Second
}

// drainDelay covers what a load balancer lags behind, where there is one.
func (o Options) drainDelay() time.Duration {
	if o.planned {
		return 5 * balancerLag
	}
	return 0
}

// Run lets faults happen to a cluster that clients use, and judges it. The
// verdict says what was wrong with the service; an error, what kept the run
// from telling. When ctx ends, the faults end, and what was seen is judged.
func Run(ctx context.Context, opt Options) (v Verdict, err error) {
	opt = opt.withDefaults()
	t, err := newTheatre(ctx, opt)
	if err != nil {
		return Verdict{}, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	kinds := t.possible(opt.Kinds)
	if len(kinds) == 0 {
		return Verdict{}, errors.New("this machine has no means for any of the faults")
	}
	t.report.say("seed %d: %d conversations, %d clients, lease %v; what is kept: %s", opt.Seed, opt.Topics, opt.Clients, opt.Lease, opt.Dir)
	t.crowd.start(opt.Clients, t.ground)
	pause(ctx, calmFirst)
	s, until := NewSchedule(opt.Seed, opt.Lease, kinds), t.rec.Now()+opt.For
	drawn := false
	stormErr := t.nemesis.storm(ctx, s, func() bool {
		more := t.rec.Now() < until || opt.For == 0 && (!drawn || !s.Whole())
		drawn = true
		return more
	})
	t.crowd.end()
	if stormErr != nil {
		return Verdict{}, stormErr
	}
	return t.judge(context.WithoutCancel(ctx))
}

// calmFirst is how long clients work before anything happens: what calm
// latencies are.
const calmFirst = 3 * time.Second

// theatre is all that a run needs.
type theatre struct {
	opt     Options
	report  *report
	ground  *ground
	rec     *history.Recorder
	topics  []*topic
	crowd   *crowd
	nemesis *nemesis
	owners  *watcher
	// late reports whether an attempt came to a node that had left as planned.
	late func(history.Op) bool
}

func newTheatre(ctx context.Context, opt Options) (t *theatre, err error) {
	r, err := newReport(opt)
	if err != nil {
		return nil, err
	}
	t = &theatre{opt: opt, report: r, late: func(history.Op) bool { return false }, rec: history.NewRecorder(history.RecorderConfig{Out: r.history})}
	r.clock = t.rec.Now
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	r.say("starting PostgreSQL, Redis and nodes %v", baseNodes)
	if t.ground, err = newGround(ctx, opt, r); err != nil {
		return nil, err
	}
	if t.ground.noNetwork != nil {
		r.say("nodes have no networks of their own here (that needs Linux, root and ip: %v): relays before their internal ports stand for them", t.ground.noNetwork)
	}
	settle, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	if err := t.ground.agree(settle); err != nil {
		return nil, fmt.Errorf("the nodes do not find each other: %w", err)
	}
	if err := t.ground.startTrail(ctx); err != nil {
		return nil, err
	}
	for range opt.Topics {
		c := newTopic()
		if err := c.create(ctx, t.ground.clients[baseNodes[0]]); err != nil {
			return nil, err
		}
		t.rec.Start(c.start())
		t.topics = append(t.topics, c)
	}
	t.crowd = &crowd{rec: t.rec, doors: t.ground, topics: t.topics, pace: opt.Pace}
	t.nemesis = &nemesis{ground: t.ground, report: r, now: t.rec.Now}
	t.owners = watchOwners(t.ground, t.rec.Now)
	return t, nil
}

// close ends whatever still runs.
func (t *theatre) close() error {
	if t.owners != nil {
		t.owners.end()
	}
	var errs []error
	if t.ground != nil {
		errs = append(errs, t.ground.close())
	}
	return errors.Join(append(errs, t.rec.Close(), t.report.close())...)
}

// possible leaves out the kinds for which this machine has no means, and says so.
func (t *theatre) possible(kinds []Kind) (out []Kind) {
	if len(kinds) == 0 {
		kinds = Kinds
	}
	not := map[Kind]error{CutNodes: t.ground.canCut(), SlowNodes: t.ground.canSlow()}
	for _, k := range kinds {
		if err := not[k]; err != nil {
			t.report.say("%s is left out: %v", k, err)
			continue
		}
		out = append(out, k)
	}
	return slices.Clip(out)
}
