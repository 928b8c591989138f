package history

import (
	"context"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Verdict is what came of checking one conversation.
type Verdict string

// The verdicts.
const (
	OK        Verdict = "ok"
	Violated  Verdict = "violated"
	Undecided Verdict = "undecided" // the time was up: not known to be right
)

// CheckConfig bounds a check. The zero value is useful.
type CheckConfig struct {
	// PerConvo is the longest that deciding one conversation may take; 0: a
	// minute. Reducing a violation may take as long again.
	PerConvo time.Duration
	// Workers is how many conversations are checked at once; 0: GOMAXPROCS.
	Workers int
	// Dir is where a violation is left, in files of the conversation's name: its
	// smallest history as text and as lines of JSON, and a picture of it as
	// HTML. It must exist. "": nowhere, Violation holds the text all the same.
	Dir string
	// AnyMemberRemoves is how the service was configured: REMOVE_POLICY=member.
	AnyMemberRemoves bool
}

// Report is what [Check] found.
type Report struct {
	Results    []Result    // one for each conversation, in the order of History.Convos
	Violations []Violation // of all rules; none if all is well
}

// OK reports whether everything was decided and nothing is wrong.
func (r Report) OK() bool {
	for _, one := range r.Results {
		if one.Verdict != OK {
			return false
		}
	}
	return len(r.Violations) == 0
}

// Result is what was found of the operations of one conversation.
type Result struct {
	Convo   string
	Verdict Verdict
	Ops     int // that were checked: what failed says nothing and is left out
	Took    time.Duration
}

// Violation is a promise that was broken.
type Violation struct {
	Convo string
	Rule  string // a sentence: what should have held
	// Text is the smallest history that was found to break the rule, one
	// operation or tenure a line, in the order of their beginnings.
	Text string
	// Ops are the same, of a rule about operations.
	Ops []Op
	// Files are what was left in CheckConfig.Dir.
	Files []string
}

// Check holds a history to what is promised. It returns when all conversations
// are decided or their time is up, and blocks as long as that takes; when ctx
// ends, what is not decided is Undecided. The error is of a history that cannot
// be checked, such as an operation of a conversation that was not started, or
// of files that cannot be written: never of a history that is wrong.
func Check(ctx context.Context, h History, cfg CheckConfig) (Report, error) {
	if cfg.PerConvo <= 0 {
		cfg.PerConvo = time.Minute
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	all, err := subjects(h)
	if err != nil {
		return Report{}, err
	}
	found := make([]finding, len(all))
	work := make(chan int, len(all))
	for i := range all {
		work <- i
	}
	close(work)
	var wg sync.WaitGroup
	for range cfg.Workers {
		wg.Go(func() {
			for i := range work {
				found[i] = all[i].check(ctx, cfg)
			}
		})
	}
	wg.Wait()
	r, err := gather(found)
	r.Violations = append(r.Violations, checkTenures(h.Tenures)...)
	return r, err
}

// finding is what came of one conversation.
type finding struct {
	result     Result
	violations []Violation
	err        error
}

func gather(found []finding) (Report, error) {
	var r Report
	for _, f := range found {
		if f.err != nil {
			return Report{}, f.err
		}
		r.Results = append(r.Results, f.result)
		r.Violations = append(r.Violations, f.violations...)
	}
	return r, nil
}

// check decides one conversation.
func (s subject) check(ctx context.Context, cfg CheckConfig) finding {
	begin := time.Now()
	checked := len(s.ops)
	s = s.resolve()
	v, err := s.decide(ctx, cfg.PerConvo, cfg.AnyMemberRemoves)
	f := finding{err: err, result: Result{Convo: s.convo.ID, Verdict: v, Ops: checked}}
	f.result.Took = time.Since(begin)
	if f.violations = s.checkPages(); len(f.violations) > 0 {
		f.result.Verdict = Violated
	}
	if v != Violated || err != nil {
		return f
	}
	one, err := s.reduce(ctx, cfg.PerConvo, cfg.AnyMemberRemoves).violation(cfg)
	f.violations, f.err = append(f.violations, one), err
	return f
}

// decide searches for an order in which the model gives the same answers.
func (s subject) decide(ctx context.Context, limit time.Duration, anyMemberRemoves bool) (Verdict, error) {
	m, calls, err := s.prepare(anyMemberRemoves)
	if err != nil {
		return Undecided, err
	}
	return m.decide(ctx, limit, calls), nil
}

func (m *model) decide(ctx context.Context, limit time.Duration, calls []*call) Verdict {
	stop := func() bool { return ctx.Err() != nil }
	result := porcupine.CheckOperationsTimeout(m.porcupine(stop), operations(calls), limit)
	switch {
	case stop() || result == porcupine.Unknown:
		return Undecided
	case result == porcupine.Illegal:
		return Violated
	}
	return OK
}

// operations puts calls into the checker's terms.
func operations(calls []*call) []porcupine.Operation {
	out := make([]porcupine.Operation, len(calls))
	for i, c := range calls {
		out[i] = porcupine.Operation{ClientId: c.op.Client, Input: c, Call: int64(c.op.Call), Return: int64(c.op.Return)}
		if c.op.Output.Outcome == Unknown {
			out[i].Return = math.MaxInt64
		}
	}
	return out
}
