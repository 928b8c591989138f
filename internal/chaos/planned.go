package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"catbird/internal/balancer"
	"catbird/internal/client"
	"catbird/internal/history"
)

// The planned changes, as kinds of what happens.
const (
	PlannedRestart Kind = "rolling restart"
	PlannedGrow    Kind = "scale out, 3 to 5"
	PlannedShrink  Kind = "scale in, 5 to 2"
	PlannedReturn  Kind = "back to 3"
	PlannedFlags   Kind = "flags off and on"
	PlannedPercent Kind = "flags to a share"
	PlannedDrain   Kind = "drain"
)

// balancerLag is how often the load balancer looks at each node.
const balancerLag = 100 * time.Millisecond

// Plan makes planned changes alone to a cluster that half of the clients use
// through a load balancer, and half by asking the nodes themselves: each may make
// requests slower, and none may fail one. The node that leaves may fail what comes
// to it directly once it has stopped listening. The verdict is as that of [Run].
func Plan(ctx context.Context, opt Options) (v Verdict, err error) {
	opt = opt.withDefaults()
	opt.planned, opt.Loopback = true, true
	t, err := newTheatre(ctx, opt)
	if err != nil {
		return Verdict{}, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	front, err := newFront(t.ground, t.rec.Now)
	if err != nil {
		return Verdict{}, err
	}
	defer front.balancer.Close()
	if err := front.await(ctx, len(baseNodes)); err != nil {
		return Verdict{}, err
	}
	t.crowd.doors = front
	t.report.say("planned changes: %d conversations, %d clients, every other one through a load balancer; what is kept: %s", opt.Topics, opt.Clients, opt.Dir)
	t.crowd.start(opt.Clients, front, t.ground)
	pause(ctx, calmFirst)
	err = t.makeChanges(ctx, front)
	t.crowd.end()
	if err != nil {
		return Verdict{}, err
	}
	t.late = missed(t.rec.History().Ops, front.leaves)
	if v, err = t.judge(context.WithoutCancel(ctx)); err != nil {
		return v, err
	}
	v.Planned = true
	v.Findings = append(v.Findings, failures(t.rec.History().Ops, t.late)...)
	return v, t.report.verdict(v)
}

// maxExamples is how many failed requests are told.
const maxExamples = 5

// failures is the promise of planned changes: no attempt but is answered, unless
// it came to a node that had left.
func failures(ops []history.Op, late func(history.Op) bool) []Finding {
	var text []string
	n := 0
	for _, op := range ops {
		if answered(op) || late(op) {
			continue
		}
		if n++; n <= maxExamples {
			text = append(text, fmt.Sprintf("%7.2fs to %.2fs  %s of %s at %s: %s", op.Call.Seconds(), op.Return.Seconds(), op.Kind, op.Convo, op.Node, code(op)))
		}
	}
	if n == 0 {
		return nil
	}
	return []Finding{{Rule: "a planned change fails no request", Text: fmt.Sprintf("%d of %d failed:\n%s", n, len(ops), strings.Join(text, "\n"))}}
}

// front is the load balancer as the one door, and whoever changes what is behind
// it: one change after another.
type front struct {
	ground   *ground
	now      func() time.Duration // the clock of the history
	leaves   []leave
	balancer *balancer.Balancer
	client   *client.Client
}

const frontDoor = "balancer"

func newFront(g *ground, now func() time.Duration) (*front, error) {
	f := &front{ground: g, now: now, balancer: balancer.New(balancerLag)}
	for _, n := range g.fleet.Nodes() {
		f.balancer.Set(n.Name, n.Clients())
	}
	var err error
	if f.client, err = g.newClient("http://"+frontDoor, f.balancer); err != nil {
		f.balancer.Close()
		return nil, err
	}
	return f, nil
}

func (f *front) open() []string                { return []string{frontDoor} }
func (f *front) through(string) *client.Client { return f.client }

// await waits until that many nodes get requests.
func (f *front) await(ctx context.Context, nodes int) error {
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	for f.balancer.Ready() < nodes {
		if !pause(ctx, balancerLag/4) {
			return fmt.Errorf("the load balancer finds %d nodes ready, not %d: %w", f.balancer.Ready(), nodes, ctx.Err())
		}
	}
	return nil
}

// start starts nodes and waits until they get requests.
func (f *front) start(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := f.ground.start(ctx, name); err != nil {
			return err
		}
		for i := range f.leaves {
			if l := &f.leaves[i]; l.node == name && l.back == 0 {
				l.back = f.now()
			}
		}
		n, err := f.ground.fleet.Node(name)
		if err != nil {
			return err
		}
		f.balancer.Set(name, n.Clients())
	}
	return f.await(ctx, len(f.ground.running()))
}

// stop stops nodes in order, one after another.
func (f *front) stop(ctx context.Context, names ...string) error {
	for _, name := range names {
		l := leave{node: name, told: f.now()}
		if _, err := f.ground.fleet.Stop(ctx, name); err != nil {
			return err
		}
		l.gone = f.now()
		f.leaves = append(f.leaves, l)
		f.balancer.Remove(name)
	}
	return nil
}

// planned is one planned change.
type planned struct {
	kind Kind
	make func(ctx context.Context, f *front) error
}

var plan = []planned{
	{PlannedRestart, func(ctx context.Context, f *front) error {
		for _, name := range baseNodes {
			if err := errors.Join(f.stop(ctx, name), f.start(ctx, name)); err != nil {
				return err
			}
		}
		return nil
	}},
	{PlannedGrow, func(ctx context.Context, f *front) error { return f.start(ctx, extraNodes...) }},
	{PlannedShrink, func(ctx context.Context, f *front) error {
		return f.stop(ctx, baseNodes[0], extraNodes[0], baseNodes[1])
	}},
	{PlannedReturn, func(ctx context.Context, f *front) error {
		return errors.Join(f.start(ctx, baseNodes[:2]...), f.stop(ctx, extraNodes[1]))
	}},
	{PlannedFlags, func(ctx context.Context, f *front) error {
		return f.flagsFor(ctx, false, 100)
	}},
	{PlannedPercent, func(ctx context.Context, f *front) error {
		return f.flagsFor(ctx, true, 40)
	}},
	{PlannedDrain, func(ctx context.Context, f *front) error { return f.drain(ctx, baseNodes[1]) }},
}

// flagHold is how long flags stay changed: for every client to ask meanwhile.
const flagHold = 500 * time.Millisecond

// flagsFor changes the flags of all nodes, and back after a while.
func (f *front) flagsFor(ctx context.Context, on bool, percent int) error {
	err := f.flags(ctx, on, percent)
	pause(ctx, flagHold)
	return errors.Join(err, f.flags(ctx, true, 100))
}

// flags sets the flags of all nodes, one after another.
func (f *front) flags(ctx context.Context, on bool, percent int) error {
	for _, name := range f.ground.running() {
		if err := f.ground.flags(ctx, name, on, percent); err != nil {
			return err
		}
	}
	return nil
}

// drain makes a node leave without its end, until it holds nothing, and then
// ends it and starts it again.
func (f *front) drain(ctx context.Context, name string) error {
	o, err := f.ground.operator(name)
	if err != nil {
		return err
	}
	if _, err := o.Drain(ctx); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	for {
		s, err := o.Node(wait)
		if err == nil && s.ActiveActors == 0 && f.balancer.Ready() < len(f.ground.running()) {
			break
		}
		if !pause(wait, balancerLag/2) {
			return fmt.Errorf("node %s still holds conversations after a drain: %d, %w", name, s.ActiveActors, errors.Join(err, wait.Err()))
		}
	}
	return errors.Join(f.stop(ctx, name), f.start(ctx, name))
}

// calmBetween is how long nothing is changed between two changes: what latencies
// before are.
const calmBetween = 1500 * time.Millisecond

// makeChanges makes one change after another, with calm before each.
func (t *theatre) makeChanges(ctx context.Context, f *front) error {
	for i, p := range plan {
		pause(ctx, calmBetween)
		if ctx.Err() != nil {
			return nil
		}
		s := Spell{Fault: Fault{Kind: p.kind}, Round: i + 1, From: t.rec.Now()}
		t.report.say("%s", p.kind)
		t.report.event(event{At: s.From, Wall: time.Now(), Round: s.Round, What: "begin", Fault: &s.Fault})
		if err := p.make(ctx, f); err != nil {
			return fmt.Errorf("%s: %w", p.kind, err)
		}
		whole, cancel := context.WithTimeout(ctx, recovery)
		err := t.ground.agree(whole)
		cancel()
		if err != nil {
			t.nemesis.blame(fmt.Sprintf("not whole %v after: %s: %v", recovery, p.kind, err))
		}
		s.To = t.rec.Now()
		s.Calm = s.To
		t.report.event(event{At: s.To, Wall: time.Now(), Round: s.Round, What: "whole", Fault: &s.Fault})
		t.nemesis.spells = append(t.nemesis.spells, s)
	}
	pause(ctx, calmBetween)
	return nil
}
