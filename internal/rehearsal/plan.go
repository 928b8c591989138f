package rehearsal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Plan is what an orchestrator does to the pods of one cluster, which all get their
// requests from one service. Its JSON form has seconds.
type Plan struct {
	Sets    []Set    `json:"sets"`
	Budgets []Budget `json:"budgets"`
}

// Set is a set of pods that are told apart by ordinals.
type Set struct {
	Name string `json:"name"`
	// Replicas are the pods at first. An autoscaler keeps between that and
	// MaxReplicas; 0: there is none.
	Replicas    int `json:"replicas"`
	MaxReplicas int `json:"maxReplicas"`
	// Management is Parallel or OrderedReady, Update RollingUpdate or OnDelete. A
	// rolling update goes down to the ordinal Partition, and each pod must have been
	// ready for MinReadySeconds before the next one is stopped.
	Management      string `json:"management"`
	Update          string `json:"update"`
	Partition       int    `json:"partition"`
	MinReadySeconds int    `json:"minReadySeconds"`
	// Clients says whether the clients' service selects the pods.
	Clients bool `json:"clients"`
	// Settings are variables that are read when a container starts, whichever
	// template it is of.
	Settings map[string]string `json:"settings"`

	Template Template `json:"template"`
}

// The values of Management and Update.
const (
	Parallel      = "Parallel"
	OrderedReady  = "OrderedReady"
	RollingUpdate = "RollingUpdate"
	OnDelete      = "OnDelete"
)

// Template is what pods of one revision have in common.
type Template struct {
	// Revision differs wherever two templates do.
	Revision string `json:"revision"`
	Image    string `json:"image"`
	// A pod is stopped by a wait of PreStopSeconds, then SIGTERM; it is killed
	// TerminationGracePeriodSeconds after the beginning of that wait.
	PreStopSeconds                int `json:"preStopSeconds"`
	TerminationGracePeriodSeconds int `json:"terminationGracePeriodSeconds"`

	Startup   *Probe `json:"startupProbe"` // nil: the others begin at once
	Liveness  *Probe `json:"livenessProbe"`
	Readiness *Probe `json:"readinessProbe"`

	// Env are the variables that are known of those that come before the settings;
	// those of From come from elsewhere, and come before them as well.
	Env  map[string]string `json:"env"`
	From map[string]string `json:"envFrom"`
}

// Probe asks by GET, again and again.
type Probe struct {
	Path                string `json:"path"`
	InitialDelaySeconds int    `json:"initialDelaySeconds"`
	PeriodSeconds       int    `json:"periodSeconds"`
	TimeoutSeconds      int    `json:"timeoutSeconds"`
	SuccessThreshold    int    `json:"successThreshold"`
	FailureThreshold    int    `json:"failureThreshold"`
}

// ReadPlan reads a plan in its JSON form, and refuses one that nothing can be
// rehearsed with. What it does not know it leaves out.
func ReadPlan(r io.Reader) (Plan, error) {
	var p Plan
	if err := json.NewDecoder(r).Decode(&p); err != nil {
		return p, fmt.Errorf("reading a plan: %w", err)
	}
	return p, p.check()
}

func (p Plan) check() error {
	pods := 0
	for i, s := range p.Sets {
		if err := s.check(); err != nil {
			return err
		}
		if slices.ContainsFunc(p.Sets[:i], func(o Set) bool { return o.Name == s.Name }) {
			return fmt.Errorf("a plan with two sets %s", s.Name)
		}
		if s.Clients {
			pods += s.Replicas
		}
	}
	if pods < 2 {
		return fmt.Errorf("a plan of %d pods for clients: there must be two at least", pods)
	}
	for _, b := range p.Budgets {
		if err := b.check(p); err != nil {
			return err
		}
	}
	return nil
}

func (s Set) check() error {
	t := s.Template
	switch {
	case s.Name == "":
		return errors.New("a set without a name")
	case s.Replicas < 1 || s.MaxReplicas != 0 && s.MaxReplicas < s.Replicas:
		return fmt.Errorf("%s: a set of %d to %d pods", s.Name, s.Replicas, s.MaxReplicas)
	case s.Management != Parallel && s.Management != OrderedReady:
		return fmt.Errorf("%s: pods are managed %q", s.Name, s.Management)
	case s.Update != RollingUpdate && s.Update != OnDelete:
		return fmt.Errorf("%s: pods are updated %q", s.Name, s.Update)
	case s.Partition < 0:
		return fmt.Errorf("%s: a partition of %d", s.Name, s.Partition)
	case t.Liveness == nil || t.Readiness == nil:
		return fmt.Errorf("%s: a plan without a liveness or a readiness probe", s.Name)
	case t.TerminationGracePeriodSeconds <= t.PreStopSeconds:
		return fmt.Errorf("%s: a plan that kills a pod before it was told to stop", s.Name)
	}
	for _, probe := range []*Probe{t.Startup, t.Liveness, t.Readiness} {
		if probe != nil && (probe.PeriodSeconds < 1 || probe.TimeoutSeconds < 1 || probe.SuccessThreshold < 1 || probe.FailureThreshold < 1) {
			return fmt.Errorf("%s: a probe of %s that lacks a period, a time-out or a threshold", s.Name, probe.Path)
		}
	}
	return nil
}

// set returns the set of that name, nil for none.
func (p Plan) set(name string) *Set {
	for i := range p.Sets {
		if p.Sets[i].Name == name {
			return &p.Sets[i]
		}
	}
	return nil
}

// variables are those of a container of a template that starts when these are the
// settings.
func (t Template) variables(settings map[string]string) map[string]string {
	all := maps.Clone(settings)
	for name := range t.From {
		delete(all, name)
	}
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, t.Env)
	return all
}

// here are the variables that a process on this machine shares with the pods, as
// NAME=value: addresses and ports are of another world.
func here(variables map[string]string) (env []string) {
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if strings.HasSuffix(name, "_HOST") || strings.HasSuffix(name, "_PORT") || strings.HasPrefix(name, "GOSSIP_") {
			continue
		}
		env = append(env, name+"="+variables[name])
	}
	return env
}

// amount is a number of pods, or a percentage of them.
type amount struct {
	n       int
	percent bool
}

func parseAmount(text string) (amount, error) {
	digits, percent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 {
		return amount{}, fmt.Errorf("%q is no number of pods", text)
	}
	return amount{n, percent}, nil
}

// of returns how many pods of so many it is. Parts of one are rounded up.
func (a amount) of(pods int) int {
	if a.percent {
		return (a.n*pods + 99) / 100
	}
	return a.n
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
