package rehearsal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Plan is what an orchestrator does to the pods of one set. Its JSON form has
// seconds.
type Plan struct {
	Replicas int `json:"replicas"`
	// Order are the ordinals that an update replaces, one after another: each must
	// have been ready for MinReadySeconds before the next one is stopped.
	Order           []int `json:"order"`
	MinReadySeconds int   `json:"minReadySeconds"`
	// A pod is stopped by a wait of PreStopSeconds, then SIGTERM; it is killed
	// TerminationGracePeriodSeconds after the beginning of that wait.
	PreStopSeconds                int `json:"preStopSeconds"`
	TerminationGracePeriodSeconds int `json:"terminationGracePeriodSeconds"`

	Liveness  *Probe `json:"livenessProbe"`
	Readiness *Probe `json:"readinessProbe"`

	// Env are the variables of a pod's container that are known.
	Env map[string]string `json:"env"`
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
	switch {
	case p.Replicas < 2:
		return fmt.Errorf("a plan of %d pods: there must be two at least", p.Replicas)
	case p.Liveness == nil || p.Readiness == nil:
		return errors.New("a plan without a liveness or a readiness probe")
	case p.TerminationGracePeriodSeconds <= p.PreStopSeconds:
		return errors.New("a plan that kills a pod before it was told to stop")
	}
	for _, ordinal := range p.Order {
		if ordinal < 0 || ordinal >= p.Replicas {
			return fmt.Errorf("a plan that replaces pod %d of %d", ordinal, p.Replicas)
		}
	}
	for _, probe := range []*Probe{p.Liveness, p.Readiness} {
		if probe.PeriodSeconds < 1 || probe.TimeoutSeconds < 1 || probe.SuccessThreshold < 1 || probe.FailureThreshold < 1 {
			return fmt.Errorf("a plan with a probe of %s that lacks a period, a time-out or a threshold", probe.Path)
		}
	}
	return nil
}

// settings are the variables that a process on this machine shares with the
// pods: addresses and ports are of another world.
func (p Plan) settings() (env []string) {
	for name, value := range p.Env {
		if strings.HasSuffix(name, "_HOST") || strings.HasSuffix(name, "_PORT") || strings.HasPrefix(name, "GOSSIP_") {
			continue
		}
		env = append(env, name+"="+value)
	}
	return env
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
