package rehearsal

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"catbird/internal/load"
)

func TestPlansThatCannotBeRehearsed(t *testing.T) {
	for name, spoil := range map[string]func(*Plan){
		"one pod":              func(p *Plan) { p.Sets = p.Sets[1:]; p.Budgets = nil },
		"pods for nobody":      func(p *Plan) { p.Sets[0].Clients = false },
		"no pods":              func(p *Plan) { p.Sets[0].Replicas = 0 },
		"fewer at most":        func(p *Plan) { p.Sets[0].MaxReplicas = 2 },
		"no name":              func(p *Plan) { p.Sets[0].Name = "" },
		"one name twice":       func(p *Plan) { p.Sets[1].Name = p.Sets[0].Name },
		"no probe":             func(p *Plan) { p.Sets[1].Template.Readiness = nil },
		"no period":            func(p *Plan) { p.Sets[0].Template.Liveness.PeriodSeconds = 0 },
		"no startup threshold": func(p *Plan) { p.Sets[0].Template.Startup.FailureThreshold = 0 },
		"another update":       func(p *Plan) { p.Sets[0].Update = "Recreate" },
		"another management":   func(p *Plan) { p.Sets[0].Management = "" },
		"a partition below 0":  func(p *Plan) { p.Sets[0].Partition = -1 },
		"no time to leave": func(p *Plan) {
			p.Sets[0].Template.PreStopSeconds = p.Sets[0].Template.TerminationGracePeriodSeconds
		},
		"a budget of both kinds":      func(p *Plan) { p.Budgets[0].MinAvailable = "1" },
		"a budget of neither":         func(p *Plan) { p.Budgets[0].MaxUnavailable = "" },
		"a budget of nothing known":   func(p *Plan) { p.Budgets[0].MaxUnavailable = "some" },
		"a budget of an unknown set":  func(p *Plan) { p.Budgets[0].Sets[0] = "other" },
		"two budgets of the same pod": func(p *Plan) { p.Budgets = append(p.Budgets, p.Budgets[0]); p.Budgets[1].Name = "other" },
	} {
		p := kept(t, "canary")
		spoil(&p)
		if _, err := Run(t.Context(), Options{Plan: p, Log: t.Output()}); err == nil {
			t.Errorf("%s: rehearsed", name)
		}
		if _, err := Run(t.Context(), Options{Plan: kept(t, "canary"), Steps: []Step{Upgrade("", p)}, Log: t.Output()}); err == nil {
			t.Errorf("%s: rehearsed an upgrade to it", name)
		}
	}
	if _, err := ReadPlan(strings.NewReader("{")); err == nil {
		t.Error("half a plan was read")
	}
}

// What is written out in a template, or comes from elsewhere, wins over settings, and
// addresses are not those of a cluster.
func TestVariables(t *testing.T) {
	one := Template{Env: map[string]string{"A": "1", "B_PORT": "1", "GOSSIP_JOIN": "x"}, From: map[string]string{"C": "secret"}}
	got := here(one.variables(map[string]string{"A": "2", "C": "2", "D": "2", "E_HOST": "2"}))
	if !slices.Equal(got, []string{"A=1", "D=2"}) {
		t.Errorf("%v", got)
	}
}

// The plans that are kept name their steps as they are meant.
func TestSteps(t *testing.T) {
	for plan, want := range map[string]string{
		"default": `["rolling restart of catbird","scale catbird by +2","scale catbird by -2","drain a node of catbird-0 and catbird-1"]`,
		"canary":  `["rolling restart of catbird","rolling restart of catbird-canary","rolling restart of catbird and catbird-canary","scale catbird by +2","scale catbird by -2","drain a node of catbird-0 and catbird-canary-0"]`,
	} {
		var names []string
		for _, step := range Steps(kept(t, plan)) {
			names = append(names, step.Name)
		}
		if got, err := json.Marshal(names); err != nil || string(got) != want {
			t.Errorf("%s: %s (%v)", plan, got, err)
		}
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
	p.refuse(2)
	p.end()
	if len(p.all) != 2 || p.all[0].Requests != 1 || p.all[0].Failed != 0 || p.all[0].Refused != 0 {
		t.Fatalf("%+v", p.all)
	}
	if s := p.all[1]; s.Requests != 101 || s.Failed != 1 || s.P50 != 51*time.Millisecond || s.P99 != 100*time.Millisecond ||
		s.Max != time.Second || s.Refused != 2 || s.FirstError == "" {
		t.Errorf("%+v", s)
	}
}
