package rehearsal

import (
	"errors"
	"testing"
	"time"
)

// A pod is told after the wait of its hook, and killed when its grace, which runs
// from the beginning of that wait, is over.
func TestGraceRunsFromTheHook(t *testing.T) {
	for _, c := range []struct{ hook, grace, told, killed int }{{0, 45, 0, 45}, {5, 45, 5, 45}, {44, 45, 44, 46}} {
		p := three()
		p.Sets[0].Template.PreStopSeconds, p.Sets[0].Template.TerminationGracePeriodSeconds = c.hook, c.grace
		inWorld(t, p, func(t *testing.T, s *stage, w *world) {
			w.leave = time.Minute
			take(t, s, Drain("catbird-2"))
			expect(t, w.since(), []event{
				{seconds(c.told), "catbird-2", "told"}, {seconds(c.killed), "catbird-2", "killed"}, {seconds(c.killed), "catbird-2", "starts"},
			})
			expectFound(t, s, "was killed")
		})
	}
}

// A pod that ends badly is a finding, and the rollout goes on, as it does there.
func TestExitCodeIsFound(t *testing.T) {
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		w.code = 3
		take(t, s, Drain("catbird-1"))
		expectFound(t, s, "exit code 3")
	})
}

// A pod that falls silent gets no more requests when its readiness and the lag have
// passed. When its liveness has, it is told as every pod is, and started again where
// it was; the set does nothing.
func TestSilentPodIsRestarted(t *testing.T) {
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		w.silence("catbird-1", true)
		pass(2*2*time.Second + worldLag)
		if n := s.service.ready(); n != 2 {
			t.Errorf("%d pods get requests", n)
		}
		expectFound(t, s, "")
		pass(3 * 10 * time.Second)
		expectFound(t, s, "catbird-1 did not answer its liveness probe")
		w.silence("catbird-1", false)
		pass(10 * time.Second)
		got := w.since()
		if len(got) != 3 {
			t.Fatalf("%v", got)
		}
		expect(t, got, replaced(got[0].at, 0, "catbird-1"))
		if n := s.service.ready(); n != 3 {
			t.Errorf("%d pods get requests after the restart", n)
		}
	})
}

// A process that ends by itself gets no requests any more, and is started again at
// once, the next time after ten seconds, then twenty; nothing waits for such a pod.
func TestProcessThatEndsIsStartedAgain(t *testing.T) {
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		for range 4 {
			pass(time.Second)
			w.crash("catbird-0")
			pass(worldLag)
			if n := s.service.ready(); n != 2 {
				t.Errorf("%d pods get requests", n)
			}
			pass(time.Minute)
		}
		expect(t, w.since(), []event{
			{sec(1), "catbird-0", "starts"},
			{sec(2*1 + 61.5 + 10), "catbird-0", "starts"},
			{sec(3*1 + 2*61.5 + 20), "catbird-0", "starts"},
			{sec(4*1 + 3*61.5 + 40), "catbird-0", "starts"},
		})
		if f := s.cluster.found(); len(f) != 4 {
			t.Errorf("found %q", f)
		}
	})
}

// Liveness and readiness are asked for only when the startup probe has seen the
// process, which may take far longer than they would allow.
func TestSlowStart(t *testing.T) {
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		w.boot = sec(58.5)
		if took := take(t, s, Drain("catbird-0")); took != sec(6+59+5)+worldLag {
			t.Errorf("it took %v", took)
		}
		expect(t, w.since(), replaced(0, 0, "catbird-0"))
		expectFound(t, s, "")
	})
	p := three()
	p.Sets[0].Template.Startup = nil
	inWorld(t, p, func(t *testing.T, s *stage, w *world) {
		w.boot = sec(58.5)
		var stuck *stuckError
		if err := Drain("catbird-0").take(t.Context(), s); !errors.As(err, &stuck) {
			t.Errorf("without a startup probe its liveness lets it start: %v", err)
		}
	})
}

// What the startup probe does not see in time is told to end and started again. An
// update that gets nowhere is not waited for, and leaves the other pods alone.
func TestStartThatGetsNowhere(t *testing.T) {
	next := three()
	next.Sets[0] = ours("catbird", "v2", 3)
	next.Sets[0].Template.Startup = &Probe{Path: "/nothing", PeriodSeconds: 1, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 10}
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		var stuck *stuckError
		if err := Upgrade("to nothing", next).take(t.Context(), s); !errors.As(err, &stuck) {
			t.Fatalf("upgraded: %v", err)
		}
		// The tenth answer comes nine seconds after the first.
		expect(t, w.since(), []event{
			{0, "catbird-2", "told"},
			{sec(6), "catbird-2", "ended"},
			{sec(6), "catbird-2", "starts"},
			{sec(15), "catbird-2", "told"},
			{sec(21), "catbird-2", "ended"},
			{sec(21), "catbird-2", "starts"},
			{sec(30), "catbird-2", "told"},
			{sec(36), "catbird-2", "ended"},
		})
		if n := s.service.ready(); n != 2 {
			t.Errorf("%d pods get requests", n)
		}
		// The way back needs no hand: the pod is not of the revision that is wanted.
		take(t, s, Upgrade("back", three()))
		expectIn(t, w.what("FLAG"), map[string]string{"catbird-0": "v1 of v1", "catbird-1": "v1 of v1", "catbird-2": "v1 of v1"})
	})
}

// Where pods are ordered there is no way back: the set waits for the pod that never
// becomes ready, whatever is wanted.
func TestOrderedPodsThatGetNowhere(t *testing.T) {
	was, next := three(), three()
	next.Sets[0] = ours("catbird", "v2", 3)
	next.Sets[0].Template.Startup.Path = "/nothing"
	was.Sets[0].Management, next.Sets[0].Management = OrderedReady, OrderedReady
	inWorld(t, was, func(t *testing.T, s *stage, _ *world) {
		for _, p := range []Plan{next, was} {
			var stuck *stuckError
			if err := Upgrade("", p).take(t.Context(), s); !errors.As(err, &stuck) {
				t.Errorf("to %s: %v", p.Sets[0].Template.Revision, err)
			}
		}
	})
}
