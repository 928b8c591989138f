package rehearsal

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// kept is a plan of the chart's: the chart's own tests hold it to what the chart
// renders.
func kept(t *testing.T, name string) Plan {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".json"))
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

// told are the lines that a rehearsal has said.
type told struct {
	t  *testing.T
	mu sync.Mutex
	s  strings.Builder
}

func (l *told) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.Write(b)
	return l.t.Output().Write(b)
}

// took returns how long after it was to the pod has ended.
func (l *told) took(pod string) time.Duration {
	l.t.Helper()
	m := regexp.MustCompile(`(?m)^` + pod + ` has ended (\S+) after it was to$`).FindStringSubmatch(l.s.String())
	if m == nil {
		l.t.Fatalf("%s has not ended", pod)
	}
	d, err := time.ParseDuration(m[1])
	if err != nil {
		l.t.Fatal(err)
	}
	return d
}

// rehearse rehearses with processes, beside other rehearsals: what they do most is
// wait. A moderate load leaves time for all of them.
func rehearse(t *testing.T, o Options) (*Report, *told) {
	t.Helper()
	log := &told{t: t}
	o.Lag, o.Clients, o.Rate, o.Program, o.Log = cmp.Or(o.Lag, lag), 16, 30, program(t), log
	// Twice what the longest one takes on a slow machine.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, err := Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(log); err != nil {
		t.Error(err)
	}
	for _, p := range r.Phases {
		if p.Requests == 0 {
			t.Errorf("%s: nobody asked", p.Name)
		}
	}
	return r, log
}

// mustBeFine expects that no request failed in any of the steps.
func mustBeFine(t *testing.T, r *Report, steps []Step) {
	t.Helper()
	if !r.OK() {
		t.Errorf("not as it should: %q, %+v", r.Findings, r.Phases)
	}
	if len(r.Phases) != 1+len(steps) {
		t.Errorf("%d phases of %d steps", len(r.Phases), len(steps))
	}
}

const (
	// share is the share of the conversations that a pod's flags give to actors.
	share = "actor_rollout_percent"
	// version is the lease of a pod, which differs in what stands for another version.
	version = "session_ttl_seconds"
)

// look is a step that sees what the pods say of themselves: for each pod the values
// of some metrics.
func look(t *testing.T, want map[string]string, metrics ...string) Step {
	return Step{Name: "look at " + strings.Join(metrics, " and "), do: func(ctx context.Context, s *stage) error {
		got := map[string]string{}
		for _, n := range s.fleet.Nodes() {
			values, err := read(ctx, n.Clients(), metrics)
			if err != nil {
				return err
			}
			got[n.Name] = strings.Join(values, " ")
		}
		if !maps.Equal(got, want) {
			t.Errorf("%v: %v, want %v", metrics, got, want)
		}
		return nil
	}}
}

func read(ctx context.Context, host string, metrics []string) (values []string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	for _, metric := range metrics {
		m := regexp.MustCompile(`(?m)^` + metric + ` (\S+)$`).FindSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("%s has no metric %s", host, metric)
		}
		values = append(values, string(m[1]))
	}
	return values, nil
}

// With the chart's own waits no request fails: not in a rolling update, nor when
// the set grows and shrinks, nor when pods are evicted, of which the chart's budget
// refuses one.
func TestRolloutFailsNoRequest(t *testing.T) {
	t.Parallel()
	p := kept(t, "default")
	r, _ := rehearse(t, Options{Plan: p})
	mustBeFine(t, r, Steps(p))
	if drained := r.Phases[len(r.Phases)-1]; drained.Refused == 0 {
		t.Errorf("no eviction was refused: %+v", drained)
	}
}

// With the example for production no request fails either. What is not as there: the
// set is the smallest that its autoscaler allows, three pods, and grows by one; a
// node has 8 connections to its database instead of 20; and probes are asked from
// beside the pods. Waits, probes, the budget and all other settings are the
// example's.
func TestProductionFailsNoRequest(t *testing.T) {
	t.Parallel()
	steps := []Step{Restart("catbird"), Scale("catbird", 1), Scale("catbird", -1)}
	r, _ := rehearse(t, Options{Plan: kept(t, "production"), Steps: steps})
	mustBeFine(t, r, steps)
}

// A canary is put in beside the others, who are then replaced, is drained together
// with one of them, and is taken out.
func TestCanaryFailsNoRequest(t *testing.T) {
	t.Parallel()
	steps := []Step{
		Upgrade("canary in", kept(t, "canary")),
		look(t, map[string]string{"catbird-0": "100", "catbird-1": "100", "catbird-2": "100", "catbird-canary-0": "25"}, share),
		Restart("catbird"),
		Drain("catbird-0", "catbird-canary-0"),
		Upgrade("canary out", kept(t, "default")),
	}
	r, _ := rehearse(t, Options{Plan: kept(t, "default"), Steps: steps})
	mustBeFine(t, r, steps)
	if drained := r.Phases[4]; drained.Refused == 0 {
		t.Errorf("the budget counts pods of one track alone: %+v", drained)
	}
}

// A change that both sets get rolls both at the same time.
func TestSetsThatRollAtOnceFailNoRequest(t *testing.T) {
	t.Parallel()
	steps := []Step{
		Upgrade("both sets", kept(t, "both")),
		look(t, map[string]string{"catbird-0": "75", "catbird-1": "75", "catbird-2": "75", "catbird-canary-0": "50"}, share),
	}
	r, _ := rehearse(t, Options{Plan: kept(t, "canary"), Steps: steps})
	mustBeFine(t, r, steps)
}

// The last pod alone gets another version and the flag, a pod that is held back and
// started anew does not, and the rest follows.
func TestPartitionedUpdateFailsNoRequest(t *testing.T) {
	t.Parallel()
	// Another version is one that says so by another lease.
	next := filepath.Join(t.TempDir(), "next")
	if err := os.WriteFile(next, []byte("#!/bin/sh\nLEASE_TTL=9s exec "+program(t)+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	pods := func(first, second, third string) map[string]string {
		return map[string]string{"catbird-0": first, "catbird-1": second, "catbird-2": third}
	}
	steps := []Step{
		Upgrade("the last pod", kept(t, "partition")), Drain("catbird-0"), look(t, pods("100 5", "100 5", "0 9"), share, version),
		Upgrade("the rest", kept(t, "next")), look(t, pods("0 9", "0 9", "0 9"), share, version),
	}
	r, _ := rehearse(t, Options{Plan: kept(t, "default"), Steps: steps, Programs: map[string]string{"catbird:next": next}})
	mustBeFine(t, r, steps)
}

// Where the kubelet waits instead of the server no request fails: what stands before
// a pod hears of its deletion while it waits.
func TestHookFailsNoRequest(t *testing.T) {
	t.Parallel()
	steps := []Step{Drain("catbird-2")}
	r, log := rehearse(t, Options{Plan: kept(t, "hook"), Steps: steps})
	mustBeFine(t, r, steps)
	if took := log.took("catbird-2"); took < 5*time.Second || !strings.Contains(log.s.String(), "catbird-2 is told after its hook's 5s") {
		t.Errorf("it had ended %v after its deletion", took)
	}
}

// Where neither waits, what stands before the pods still sends requests to one that
// has gone. If this went well, the tests above would show nothing.
func TestRolloutWithoutDelayFailsRequests(t *testing.T) {
	t.Parallel()
	p := kept(t, "hook")
	p.Sets[0].Template.PreStopSeconds = 0
	r, _ := rehearse(t, Options{Plan: p, Steps: []Step{Drain("catbird-2")}, Lag: 3 * time.Second})
	if r.Load.Total.Failed == 0 || r.OK() {
		t.Errorf("no request failed: %+v", r.Phases)
	}
	if !r.Load.OK() {
		t.Error("something that was acknowledged is not there")
	}
}

// A grace that is shorter than what a node is told to wait is noticed: the hook's
// wait is part of it.
func TestTooShortGraceIsNoticed(t *testing.T) {
	t.Parallel()
	p := kept(t, "hook")
	p.Sets[0].Settings["DRAIN_DELAY"], p.Sets[0].Template.PreStopSeconds, p.Sets[0].Template.TerminationGracePeriodSeconds = "5s", 3, 6
	r, log := rehearse(t, Options{Plan: p, Steps: []Step{Drain("catbird-2")}})
	if r.OK() || len(r.Findings) != 1 || !strings.Contains(r.Findings[0], "catbird-2 had not ended when its grace of 6s was over, and was killed") {
		t.Errorf("found %q", r.Findings)
	}
	if took := log.took("catbird-2"); took < 6*time.Second || took > 8*time.Second {
		t.Errorf("it was killed after %v", took)
	}
}

// A version whose startup probe sees nothing is restarted in the place of the first
// pod that it is to replace, and goes no further. Clients see nothing of it.
func TestUpdateThatDoesNotStart(t *testing.T) {
	t.Parallel()
	p := kept(t, "next")
	p.Sets[0].Template.Startup = &Probe{Path: "/health/nothing", PeriodSeconds: 1, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: 3}
	r, log := rehearse(t, Options{Plan: kept(t, "default"), Steps: []Step{Upgrade("an upgrade", p), Restart("catbird")}})
	const restarted = "catbird-2 did not answer its startup probe, and is restarted"
	if len(r.Phases) != 2 || len(r.Findings) != 3 || r.Findings[0] != restarted || r.Findings[1] != restarted ||
		!strings.Contains(r.Findings[2], "catbird-2 is started again and again") {
		t.Errorf("found %q", r.Findings)
	}
	if r.OK() || !r.Load.OK() || r.Load.Total.Failed > 0 || strings.Contains(log.s.String(), "catbird-1 has ended") {
		t.Errorf("clients saw it: %+v", r.Phases)
	}
}

// A pod that does not answer its liveness probe is told to stop as any other one,
// and started again where it was.
func TestPodThatIsNotAliveIsRestarted(t *testing.T) {
	t.Parallel()
	p := kept(t, "partition")
	p.Sets[0].Template.Liveness = &Probe{Path: "/health/nothing", PeriodSeconds: 1, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 12}
	ended := Step{Name: "it is restarted", do: func(ctx context.Context, s *stage) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return s.cluster.until(ctx, func() time.Duration {
			if len(s.cluster.findings) == 0 || s.cluster.pods["catbird-2"].ready {
				return never
			}
			return 0
		})
	}}
	r, log := rehearse(t, Options{Plan: kept(t, "default"), Steps: []Step{Upgrade("an upgrade", p), ended}})
	if len(r.Findings) != 1 || r.Findings[0] != "catbird-2 did not answer its liveness probe, and is restarted" || r.OK() || !r.Load.OK() {
		t.Errorf("found %q", r.Findings)
	}
	// Once because it was to be replaced, and once for the probe.
	if n := strings.Count(log.s.String(), "catbird-2 has ended"); n != 2 {
		t.Errorf("it has ended %d times", n)
	}
}
