package rehearsal

import (
	"os"
	"strings"
	"testing"
	"time"

	"catbird/internal/load"
)

// kept is the plan of the chart's defaults: the chart's own tests hold it to what
// the chart renders.
func kept(t *testing.T) Plan {
	t.Helper()
	f, err := os.Open("testdata/plan.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := ReadPlan(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// lag is what a proxy in a cluster may take to hear of a change, or more.
const lag = 1500 * time.Millisecond

func rehearse(t *testing.T, p Plan, lag time.Duration, steps ...Step) *Report {
	t.Helper()
	r, err := Run(t.Context(), Options{Plan: p, Steps: steps, Lag: lag, Clients: 6, Program: program(t), Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(t.Output()); err != nil {
		t.Error(err)
	}
	return r
}

// With the chart's own waits no request fails: not in a rolling update, nor when
// the set grows and shrinks, nor when pods are evicted.
func TestRolloutFailsNoRequest(t *testing.T) {
	r := rehearse(t, kept(t), lag)
	if !r.OK() {
		t.Errorf("not as it should: %v, %+v", r.Findings, r.Phases)
	}
	if len(r.Phases) != 1+len(Steps) {
		t.Errorf("%d phases", len(r.Phases))
	}
	for _, p := range r.Phases {
		if p.Requests == 0 {
			t.Errorf("%s: nobody asked", p.Name)
		}
	}
}

// Without the delay after SIGTERM what stands before the pods still sends requests
// to one that has gone. If this went well, the test above would show nothing.
func TestRolloutWithoutDelayFailsRequests(t *testing.T) {
	p := kept(t)
	p.Env["DRAIN_DELAY"], p.MinReadySeconds, p.Order = "0s", 0, p.Order[:1]
	r := rehearse(t, p, 3*time.Second, Update)
	if r.Load.Total.Failed == 0 || r.OK() {
		t.Errorf("no request failed: %+v", r.Phases)
	}
	if !r.Load.OK() {
		t.Error("something that was acknowledged is not there")
	}
}

// A grace that is shorter than what a node is told to wait is noticed.
func TestTooShortGraceIsNoticed(t *testing.T) {
	p := kept(t)
	p.TerminationGracePeriodSeconds, p.MinReadySeconds, p.Order = 2, 0, p.Order[:1]
	r := rehearse(t, p, 0, Update)
	if r.OK() || len(r.Findings) != 1 || !strings.Contains(r.Findings[0], "was killed") {
		t.Errorf("found %q", r.Findings)
	}
}

func TestPlansThatCannotBeRehearsed(t *testing.T) {
	for name, spoil := range map[string]func(*Plan){
		"one pod":          func(p *Plan) { p.Replicas = 1 },
		"no probe":         func(p *Plan) { p.Readiness = nil },
		"no period":        func(p *Plan) { p.Liveness.PeriodSeconds = 0 },
		"an unknown pod":   func(p *Plan) { p.Order = []int{3} },
		"no time to leave": func(p *Plan) { p.PreStopSeconds = p.TerminationGracePeriodSeconds },
	} {
		p := kept(t)
		spoil(&p)
		if _, err := Run(t.Context(), Options{Plan: p, Log: t.Output()}); err == nil {
			t.Errorf("%s: rehearsed", name)
		}
	}
	if _, err := ReadPlan(strings.NewReader("{")); err == nil {
		t.Error("half a plan was read")
	}
}

func TestPhases(t *testing.T) {
	var p phases
	at := time.Now()
	op := func(took time.Duration, err error) load.Operation {
		return load.Operation{Due: at, Done: at.Add(took), Err: err}
	}
	p.begin("calm")
	p.observe(op(time.Millisecond, nil))
	p.begin("storm")
	for i := range 100 {
		p.observe(op(time.Duration(i+1)*time.Millisecond, nil))
	}
	p.observe(op(time.Second, os.ErrDeadlineExceeded))
	p.end()
	if len(p.all) != 2 || p.all[0].Requests != 1 || p.all[0].Failed != 0 {
		t.Fatalf("%+v", p.all)
	}
	if s := p.all[1]; s.Requests != 101 || s.Failed != 1 || s.P50 != 51*time.Millisecond || s.P99 != 100*time.Millisecond ||
		s.Max != time.Second || s.FirstError == "" {
		t.Errorf("%+v", s)
	}
}
