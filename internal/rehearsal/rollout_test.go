package rehearsal

import (
	"context"
	"errors"
	"io"
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

	mu     sync.Mutex
	began  time.Time
	up     map[string]bool
	events []event
}

// event is what a process went through: starts, told, ended or killed.
type event struct {
	at        time.Duration
	pod, what string
}

func (w *world) note(pod, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, event{time.Since(w.began), pod, what})
	w.up[pod] = false
}

func (w *world) answers(pod string, up bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up[pod] = up
}

func (w *world) start(ctx context.Context, name string) (string, error) {
	w.note(name, "starts")
	if !pause(ctx, w.boot) {
		return "", context.Cause(ctx)
	}
	w.answers(name, true)
	return name, nil
}

func (w *world) stop(ctx context.Context, name string) error {
	w.note(name, "told")
	if !pause(ctx, w.leave) {
		w.note(name, "killed")
		return context.Cause(ctx)
	}
	w.note(name, "ended")
	if w.code != 0 {
		return &fleet.ExitError{Name: name, Code: w.code}
	}
	return nil
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.up[req.URL.Host] {
		return nil, errors.New("nobody answers")
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

// sec is a virtual time in seconds, without what floats add to it.
func sec(n float64) time.Duration { return time.Duration(n*1000) * time.Millisecond }

const worldLag = 1500 * time.Millisecond

// inWorld gives test a set whose three pods are available, in virtual time. A boot
// takes 3.1 s, an end 6 s, and a pod has to be ready for 5 s.
func inWorld(t *testing.T, test func(t *testing.T, s *stage, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{boot: sec(3.1), leave: sec(6), began: time.Now(), up: map[string]bool{}}
		s := &stage{service: newService(worldLag), o: Options{Lag: worldLag, Log: io.Discard, Plan: Plan{
			Replicas: 3, Order: []int{2, 1, 0}, MinReadySeconds: 5, TerminationGracePeriodSeconds: 45,
			Liveness:  &Probe{PeriodSeconds: 10, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 3},
			Readiness: &Probe{PeriodSeconds: 2, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: 2},
		}}}
		defer s.service.close()
		s.pods = newPods(s.o.Plan, w, s.service, s.say)
		s.pods.probes = &http.Client{Transport: w}
		defer s.pods.close()
		all := upTo(0, 3)
		if err := s.pods.each(all, func(i int) error { return s.pods.create(t.Context(), i) }); err != nil {
			t.Fatal(err)
		}
		if err := s.await(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		w.since()
		test(t, s, w)
	})
}

func take(t *testing.T, s *stage, step Step) {
	t.Helper()
	if err := s.take(t.Context(), step); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, got, want []event) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
}

// The highest ordinal first, and the next one only when it has been ready for as
// long as the set wants.
func TestUpdateInOrder(t *testing.T) {
	inWorld(t, func(t *testing.T, s *stage, w *world) {
		began := time.Now()
		take(t, s, Update)
		if took := time.Since(began); took != sec(3*14.1) {
			t.Errorf("it took %v", took)
		}
		expect(t, w.since(), []event{
			{0, "catbird-2", "told"}, {sec(6), "catbird-2", "ended"}, {sec(6), "catbird-2", "starts"},
			{sec(14.1), "catbird-1", "told"}, {sec(20.1), "catbird-1", "ended"}, {sec(20.1), "catbird-1", "starts"},
			{sec(28.2), "catbird-0", "told"}, {sec(34.2), "catbird-0", "ended"}, {sec(34.2), "catbird-0", "starts"},
		})
	})
}

// Pods that are managed in parallel come and go at once, and no other is touched.
func TestScaleAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, s *stage, w *world) {
		take(t, s, ScaleOut)
		expect(t, w.since(), []event{{0, "catbird-3", "starts"}, {0, "catbird-4", "starts"}})
		if n := s.service.ready(); n != 5 {
			t.Errorf("%d pods get requests", n)
		}
		take(t, s, ScaleIn)
		expect(t, w.since(), []event{
			{0, "catbird-3", "told"}, {0, "catbird-4", "told"}, {sec(6), "catbird-3", "ended"}, {sec(6), "catbird-4", "ended"},
		})
		if n := s.service.ready(); n != 3 {
			t.Errorf("%d pods get requests", n)
		}
	})
}

// Two pods are evicted at once. The budget holds one of them back until the other
// one's successor is ready, which is earlier than an update would go on.
func TestBudgetHoldsOneBack(t *testing.T) {
	inWorld(t, func(t *testing.T, s *stage, w *world) {
		take(t, s, Evict)
		got := w.since()
		if len(got) != 6 {
			t.Fatalf("%v", got)
		}
		first, second := got[0].pod, got[3].pod // whoever asked first
		if first == second || first == "catbird-2" || second == "catbird-2" {
			t.Errorf("%s and %s went", first, second)
		}
		expect(t, got, []event{
			{0, first, "told"}, {sec(6), first, "ended"}, {sec(6), first, "starts"},
			{sec(9.1), second, "told"}, {sec(15.1), second, "ended"}, {sec(15.1), second, "starts"},
		})
	})
}

// pass lets virtual time pass, and what is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// With a pod missing already nothing is evicted.
func TestBudgetIsUsedUpByAPodThatIsNotReady(t *testing.T) {
	inWorld(t, func(t *testing.T, s *stage, w *world) {
		w.answers("catbird-2", false)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := s.pods.until(ctx, func() time.Duration {
			if s.pods.all[2].ready {
				return -1
			}
			return 0
		}); err != nil {
			t.Fatal(err)
		}
		if err := s.pods.evict(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("evicted: %v", err)
		}
		expect(t, w.since(), nil)
	})
}

// A pod is told after the wait of its hook, and killed when its grace, which runs
// from the beginning of that wait, is over.
func TestGraceRunsFromTheHook(t *testing.T) {
	inWorld(t, func(t *testing.T, s *stage, w *world) {
		w.leave, s.pods.plan.PreStopSeconds = time.Minute, 5
		if err := s.pods.remove(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		expect(t, w.since(), []event{{sec(5), "catbird-2", "told"}, {sec(45), "catbird-2", "killed"}})
		if f := s.pods.found(); len(f) != 1 || !strings.Contains(f[0], "was killed") {
			t.Errorf("found %q", f)
		}
	})
}

// What stands before the pods hears of a deletion its lag after it, not after the
// pod's end.
func TestEndpointGoesWithTheDeletion(t *testing.T) {
	inWorld(t, func(t *testing.T, s *stage, _ *world) {
		var removed sync.WaitGroup
		removed.Go(func() {
			if err := s.pods.remove(t.Context(), 2); err != nil {
				t.Error(err)
			}
		})
		pass(worldLag - time.Millisecond)
		if n := s.service.ready(); n != 3 {
			t.Errorf("%d pods get requests already", n)
		}
		pass(time.Millisecond)
		if n := s.service.ready(); n != 2 {
			t.Errorf("%d pods get requests still", n)
		}
		removed.Wait()
	})
}

// A pod that ends badly is a finding, and the rollout goes on, as it does there.
func TestExitCodeIsFound(t *testing.T) {
	inWorld(t, func(t *testing.T, s *stage, w *world) {
		w.code = 3
		if err := s.pods.replace(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if f := s.pods.found(); len(f) != 1 || !strings.Contains(f[0], "exit code 3") {
			t.Errorf("found %q", f)
		}
	})
}

// A pod that falls silent gets no more requests when its readiness and the lag have
// passed, and its liveness is a finding later.
func TestSilentPodIsFound(t *testing.T) {
	inWorld(t, func(t *testing.T, s *stage, w *world) {
		w.answers("catbird-1", false)
		pass(2*2*time.Second + worldLag)
		if n, f := s.service.ready(), s.pods.found(); n != 2 || len(f) != 0 {
			t.Errorf("%d pods get requests, found %q", n, f)
		}
		pass(3 * 10 * time.Second)
		if f := s.pods.found(); len(f) != 1 || !strings.Contains(f[0], "catbird-1 did not answer") {
			t.Errorf("found %q", f)
		}
	})
}
