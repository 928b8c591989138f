package rehearsal

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Two pods are evicted at once. The budget refuses one of them until the other one's
// successor is ready, which is earlier than an update would go on; who drains asks
// again every five seconds.
func TestBudgetHoldsOneBack(t *testing.T) {
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		s.clock.begin("drain")
		take(t, s, Drain("catbird-0", "catbird-1"))
		s.clock.end()
		got := w.since()
		if len(got) != 6 {
			t.Fatalf("%v", got)
		}
		first, second := got[0].pod, got[3].pod // whoever asked first
		if first == second || first == "catbird-2" || second == "catbird-2" {
			t.Errorf("%s and %s went", first, second)
		}
		expect(t, got, replaced(0, sec(10), first, second))
		if n := s.clock.all[0].Refused; n != 2 {
			t.Errorf("%d evictions were refused", n)
		}
	})
}

// How many of six pods may go at once, which is seen by how many are told when all
// are evicted together.
func TestBudgets(t *testing.T) {
	for name, c := range map[string]struct {
		unavailable, available string
		want                   int
	}{
		"one": {"1", "", 1}, "two": {"2", "", 2}, "none": {"0", "", 0}, "all": {"100%", "", 6},
		"a share, rounded up": {"20%", "", 2}, "four stay": {"", "4", 2}, "six stay": {"", "6", 0},
		"a share stays, rounded up": {"", "66%", 2}, "no budget": {"", "", 6},
	} {
		t.Run(name, func(t *testing.T) {
			p := tracks("v1", "v2")
			p.Sets[1].Replicas = 3
			p.Budgets = nil
			if name != "no budget" {
				p.Budgets = budgetOf(c.unavailable, c.available, "catbird", "canary")
			}
			inWorld(t, p, func(t *testing.T, s *stage, w *world) {
				told := 0
				for _, pod := range []string{"catbird-0", "canary-0", "catbird-1", "canary-1", "catbird-2", "canary-2"} {
					switch _, err := s.cluster.evict(pod); {
					case err == nil:
						told++
					case !errors.Is(err, errRefused):
						t.Error(err)
					}
				}
				if told != c.want {
					t.Errorf("%d went, want %d", told, c.want)
				}
			})
		})
	}
}

// A budget counts the pods of the sets that it selects: it is used up by a pod of
// either, and of no other.
func TestBudgetOfBothTracks(t *testing.T) {
	for name, c := range map[string]struct {
		sets    []string
		refused bool
	}{"both": {[]string{"catbird", "canary"}, true}, "the stable one": {[]string{"catbird"}, false}} {
		p := tracks("v1", "v2")
		p.Budgets = budgetOf("1", "", c.sets...)
		inWorld(t, p, func(t *testing.T, s *stage, _ *world) {
			if _, err := s.cluster.evict("canary-0"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.cluster.evict("catbird-0"); errors.Is(err, errRefused) != c.refused {
				t.Errorf("a budget of %s: %v", name, err)
			}
		})
	}
}

// With a pod missing already nothing that is ready is evicted, but that pod itself
// is, unless the budget is to be healthy for it.
func TestBudgetIsUsedUpByAPodThatIsNotReady(t *testing.T) {
	for _, policy := range []string{"AlwaysAllow", "IfHealthyBudget"} {
		p := three()
		p.Budgets[0].UnhealthyPods, p.Budgets[0].MaxUnavailable = policy, "0"
		p.Sets[0].Template.Liveness.PeriodSeconds = 3600
		inWorld(t, p, func(t *testing.T, s *stage, w *world) {
			w.silence("catbird-2", true)
			pass(10 * time.Second)
			if _, err := s.cluster.evict("catbird-0"); !errors.Is(err, errRefused) {
				t.Errorf("%s: evicted: %v", policy, err)
			}
			if _, err := s.cluster.evict("catbird-2"); errors.Is(err, errRefused) != (policy == "IfHealthyBudget") {
				t.Errorf("%s: the pod that is missing: %v", policy, err)
			}
		})
	}
	p := three()
	p.Budgets[0].UnhealthyPods = "IfHealthyBudget"
	p.Sets[0].Template.Liveness.PeriodSeconds = 3600
	inWorld(t, p, func(t *testing.T, s *stage, w *world) {
		w.silence("catbird-2", true)
		pass(10 * time.Second)
		if _, err := s.cluster.evict("catbird-2"); err != nil {
			t.Errorf("as many as must be are ready, and the one that is not may not go: %v", err)
		}
	})
}

// A drain that no budget will ever let through is not waited for.
func TestDrainThatGetsNowhere(t *testing.T) {
	p := three()
	p.Budgets = budgetOf("", "3", "catbird")
	inWorld(t, p, func(t *testing.T, s *stage, w *world) {
		var stuck *stuckError
		if _, err := s.cluster.drain(t.Context(), "catbird-0", "catbird-1"); !errors.As(err, &stuck) {
			t.Errorf("drained: %v", err)
		}
		expect(t, w.since(), nil)
	})
	inWorld(t, three(), func(t *testing.T, s *stage, _ *world) {
		if _, err := s.cluster.drain(t.Context(), "catbird-7"); err == nil {
			t.Error("a pod that is not there was drained")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.cluster.drain(ctx, "catbird-0", "catbird-1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a drain that was called off: %v", err)
		}
	})
}
