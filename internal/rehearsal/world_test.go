package rehearsal

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"catbird/internal/fleet"
)

// world is the processes of pods, in virtual time. It is the network that leads to
// them as well: a host is called as its pod.
type world struct {
	boot, leave time.Duration // how long each start and each end takes
	code        int           // with which all end

	mu      sync.Mutex
	began   time.Time
	running map[string]*worldProcess // the last of each pod
	silent  map[string]bool          // pods that do not answer any more
	events  []event
}

// event is what a process went through: starts, told, ended or killed.
type event struct {
	at        time.Duration
	pod, what string
}

type worldProcess struct {
	world *world
	launch
	up   bool
	over chan struct{}
}

func (w *world) note(pod, what string) {
	w.events = append(w.events, event{time.Since(w.began), pod, what})
}

// silence makes the process of a pod, and those that come after it, answer nothing.
func (w *world) silence(pod string, silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent[pod] = silent
}

// crash ends a pod's process.
func (w *world) crash(pod string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[pod].up = false
	close(w.running[pod].over)
}

func (w *world) start(_ context.Context, l launch) (process, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(l.pod, "starts")
	p := &worldProcess{world: w, launch: l, over: make(chan struct{})}
	w.running[l.pod] = p
	time.AfterFunc(w.boot, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		p.up = true
	})
	return p, nil
}

func (p *worldProcess) host() string          { return p.pod }
func (p *worldProcess) done() <-chan struct{} { return p.over }
func (p *worldProcess) exitCode() int         { return 1 }

func (p *worldProcess) stop(ctx context.Context) error {
	w := p.world
	w.mu.Lock()
	w.note(p.pod, "told")
	p.up = false
	w.mu.Unlock()
	orderly := pause(ctx, w.leave)
	w.mu.Lock()
	defer w.mu.Unlock()
	close(p.over)
	if !orderly {
		w.note(p.pod, "killed")
		return context.Cause(ctx)
	}
	w.note(p.pod, "ended")
	if w.code != 0 {
		return &fleet.ExitError{Name: p.pod, Code: w.code}
	}
	return nil
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.running[req.URL.Host]; p == nil || !p.up || w.silent[req.URL.Host] {
		return nil, errors.New("nobody answers")
	}
	if req.URL.Path == "/nothing" {
		return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody, Request: req}, nil
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
}

// since returns what has happened since the last call, in order of time and name.
func (w *world) since() []event {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.events
	w.events, w.began = nil, time.Now()
	slices.SortStableFunc(out, func(a, b event) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return strings.Compare(a.pod, b.pod)
	})
	return out
}

// what returns what runs in each pod: its image and one of its variables.
func (w *world) what(variable string) map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]string{}
	for name, p := range w.running {
		select {
		case <-p.over:
		default:
			out[name] = p.image + " " + p.variables[variable]
		}
	}
	return out
}

// sec is a virtual time in seconds, without what floats add to it.
func sec(n float64) time.Duration { return time.Duration(n*1000) * time.Millisecond }

const worldLag = 1500 * time.Millisecond

// ours is a set of n pods of one version.
func ours(name, version string, n int) Set {
	return Set{
		Name: name, Replicas: n, Management: Parallel, Update: RollingUpdate, MinReadySeconds: 5, Clients: true,
		Settings: map[string]string{"SETTING": "of " + version},
		Template: Template{
			Revision: version, Image: version, Env: map[string]string{"FLAG": "of " + version}, TerminationGracePeriodSeconds: 45,
			Startup:   &Probe{Path: "/live", PeriodSeconds: 1, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: 60},
			Liveness:  &Probe{Path: "/live", PeriodSeconds: 10, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 3},
			Readiness: &Probe{Path: "/ready", PeriodSeconds: 2, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: 2},
		},
	}
}

// budgetOf is one of the form "maxUnavailable", or "minAvailable" if that is said.
func budgetOf(maxUnavailable, minAvailable string, sets ...string) []Budget {
	return []Budget{{Name: "catbird", Sets: sets, MaxUnavailable: maxUnavailable, MinAvailable: minAvailable, UnhealthyPods: "AlwaysAllow"}}
}

// three is a plan of three pods of v1.
func three() Plan {
	return Plan{Sets: []Set{ours("catbird", "v1", 3)}, Budgets: budgetOf("1", "", "catbird")}
}

// tracks is a plan of three pods of a version, and one of another.
func tracks(stable, canary string) Plan {
	return Plan{Sets: []Set{ours("catbird", stable, 3), ours("canary", canary, 1)}, Budgets: budgetOf("1", "", "catbird", "canary")}
}

// inWorld gives test the pods of a plan, which are available, in virtual time. A
// boot takes 2.9 s, after which the startup probe sees it at 3 s and the readiness
// probe at once; an end takes 6 s, and a pod has to be ready for 5 s.
func inWorld(t *testing.T, p Plan, test func(t *testing.T, s *stage, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{boot: sec(2.9), leave: sec(6), began: time.Now(), running: map[string]*worldProcess{}, silent: map[string]bool{}}
		s := &stage{service: newService(worldLag), o: Options{Lag: worldLag, Log: io.Discard, Plan: p}}
		defer s.service.close()
		s.cluster = newCluster(w, s.service, s.say)
		s.cluster.probes.Transport = w
		defer s.cluster.close()
		if err := p.check(); err != nil {
			t.Fatal(err)
		}
		s.cluster.apply(p)
		ctx, cancel := bounded(t)
		defer cancel()
		if err := s.await(ctx); err != nil {
			t.Fatal(err)
		}
		w.since()
		test(t, s, w)
	})
}

// bounded ends what would go on for ever: probes let virtual time pass without end.
func bounded(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), time.Hour)
}

// take goes through a step and returns how long it took.
func take(t *testing.T, s *stage, step Step) time.Duration {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	began := time.Now()
	if err := step.take(ctx, s); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

func expect(t *testing.T, got, want []event) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
}

// replaced is what is seen of pods that are replaced one after another.
func replaced(at, each time.Duration, pods ...string) (out []event) {
	for i, pod := range pods {
		told := at + time.Duration(i)*each
		out = append(out, event{told, pod, "told"}, event{told + sec(6), pod, "ended"}, event{told + sec(6), pod, "starts"})
	}
	return out
}

func expectIn(t *testing.T, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
}

// expectFound expects one finding of that text, or none if it is empty.
func expectFound(t *testing.T, s *stage, text string) {
	t.Helper()
	f := s.cluster.found()
	if text == "" && len(f) != 0 || text != "" && (len(f) != 1 || !strings.Contains(f[0], text)) {
		t.Errorf("found %q, want %q", f, text)
	}
}

// pass lets virtual time pass, and what is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
