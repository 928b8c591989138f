package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"catbird/internal/fleet"
)

// recovery is how long the cluster may take, after everything was put right,
// until all nodes agree and serve: far more than what is promised, for a busy
// machine.
const recovery = 60 * time.Second

// Spell is a fault that came to pass. Times are on the clock of the history.
type Spell struct {
	Fault
	Round int `json:"round"`
	// From is when it was begun, To when it was put right, and Calm when the
	// cluster was whole again after the round.
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
	Calm time.Duration `json:"calm"`
	// Trouble is what beginning or ending it met, "" for none. That is no fault
	// of the service where other things were broken at the time.
	Trouble string `json:"trouble,omitempty"`
}

// event is a line of the schedule that is kept.
type event struct {
	At    time.Duration `json:"at"` // on the clock of the history
	Wall  time.Time     `json:"wall"`
	Round int           `json:"round"`
	What  string        `json:"what"` // draw, begin, end, whole
	Fault *Fault        `json:"fault,omitempty"`
	Text  string        `json:"text,omitempty"`
}

// nemesis lets faults happen.
type nemesis struct {
	ground *ground
	report *report
	now    func() time.Duration

	mu     sync.Mutex
	round  int
	spells []Spell
	faults []string // what the service did wrong
}

// storm lets rounds happen until more says no or ctx ends, and leaves the
// cluster whole. An error is one of the harness; what the service did wrong is
// in findings.
func (n *nemesis) storm(ctx context.Context, s *Schedule, more func() bool) error {
	for more() && ctx.Err() == nil && len(n.faults) == 0 {
		if err := n.play(ctx, s.Next()); err != nil {
			return err
		}
		pause(ctx, n.ground.opt.Lease/2) // for what is calm to be seen
	}
	return nil
}

// play lets one round happen, puts everything right, also when ctx ends, and
// waits until the cluster is whole.
func (n *nemesis) play(ctx context.Context, r Round) error {
	n.round++
	names := make([]string, len(r.Faults))
	for i, f := range r.Faults {
		names[i] = f.String()
	}
	n.report.say("round %d: %s, for %v", n.round, strings.Join(names, ", "), r.Hold.Round(time.Millisecond))
	n.note(event{What: "draw", Text: strings.Join(names, ", ")})
	first := len(n.spells)
	over, cancel := context.WithTimeout(ctx, r.Hold+r.Lags[len(r.Lags)-1])
	defer cancel()
	var all, others sync.WaitGroup
	errs := make([]error, len(r.Faults))
	for i, f := range r.Faults {
		n.spells = append(n.spells, Spell{})
		if !f.Kind.process() {
			others.Add(1)
		}
		all.Go(func() { errs[i] = n.one(ctx, over, f, r.Lags[i], first+i, &others) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return n.awaitWhole(ctx, first)
}

// one begins and ends one fault of a round.
func (n *nemesis) one(ctx, over context.Context, f Fault, lag time.Duration, index int, others *sync.WaitGroup) error {
	pause(ctx, lag)
	spell := Spell{Fault: f, Round: n.round, From: n.now()}
	n.note(event{What: "begin", Fault: &f})
	// What was begun is done to its end, and then undone.
	work := context.WithoutCancel(ctx)
	began := n.ground.begin(work, f)
	n.judge(f, began)
	<-over.Done()
	if f.Kind.process() {
		others.Wait()
	} else {
		defer others.Done()
	}
	ended := n.put(work, f)
	spell.To = n.now()
	if err := errors.Join(began, ended); err != nil {
		spell.Trouble = err.Error()
	}
	n.note(event{What: "end", Fault: &f, Text: spell.Trouble})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.spells[index] = spell
	if ended != nil {
		return fmt.Errorf("ending %s: %w", f, ended)
	}
	return nil
}

// judge says what of the errors of beginning a fault is the service's own.
func (n *nemesis) judge(f Fault, err error) {
	var exit *fleet.ExitError
	if f.Kind != Restart && f.Kind != RestartAll || err == nil || errors.As(err, &exit) {
		return
	}
	n.blame(fmt.Sprintf("%s: %v", f, err))
}

func (n *nemesis) blame(what string) {
	n.report.say("WRONG: %s", what)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = append(n.faults, what)
}

// put ends a fault, and tries again for a while: other things may be broken.
func (n *nemesis) put(ctx context.Context, f Fault) error {
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	for {
		err := n.ground.end(ctx, f)
		if err == nil || !pause(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

func (n *nemesis) awaitWhole(ctx context.Context, first int) error {
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), recovery)
	defer cancel()
	began := n.now()
	if err := n.ground.agree(wait); err != nil {
		n.blame(fmt.Sprintf("not whole %v after round %d: %v", recovery, n.round, err))
	}
	calm := n.now()
	n.report.say("round %d: whole again after %v", n.round, (calm - began).Round(10*time.Millisecond))
	n.note(event{What: "whole"})
	for i := first; i < len(n.spells); i++ {
		n.spells[i].Calm = calm
	}
	return nil
}

func (n *nemesis) note(e event) {
	e.At, e.Wall, e.Round = n.now(), time.Now(), n.round
	n.report.event(e)
}
