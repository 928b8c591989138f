package rehearsal

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// The highest ordinal first, and the next one only when it has been ready for as
// long as the set wants.
func TestUpdateInOrder(t *testing.T) {
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		if took := take(t, s, Restart("catbird")); took != sec(3*14)+worldLag {
			t.Errorf("it took %v", took)
		}
		expect(t, w.since(), replaced(0, sec(14), "catbird-2", "catbird-1", "catbird-0"))
		expectFound(t, s, "")
	})
}

// Pods that are managed in parallel come and go at once, and no other is touched.
func TestScaleAtOnce(t *testing.T) {
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		take(t, s, Scale("catbird", 2))
		expect(t, w.since(), []event{{0, "catbird-3", "starts"}, {0, "catbird-4", "starts"}})
		if n := s.service.ready(); n != 5 {
			t.Errorf("%d pods get requests", n)
		}
		take(t, s, Scale("catbird", -2))
		expect(t, w.since(), []event{
			{0, "catbird-3", "told"}, {0, "catbird-4", "told"}, {sec(6), "catbird-3", "ended"}, {sec(6), "catbird-4", "ended"},
		})
		if n := s.service.ready(); n != 3 {
			t.Errorf("%d pods get requests", n)
		}
	})
}

// Pods that are ordered come one after another, and go the same way back.
func TestScaleInOrder(t *testing.T) {
	p := three()
	p.Sets[0].Management = OrderedReady
	inWorld(t, p, func(t *testing.T, s *stage, w *world) {
		take(t, s, Scale("catbird", 2))
		expect(t, w.since(), []event{{0, "catbird-3", "starts"}, {sec(8), "catbird-4", "starts"}})
		take(t, s, Scale("catbird", -2))
		expect(t, w.since(), []event{
			{0, "catbird-4", "told"}, {sec(6), "catbird-3", "told"}, {sec(6), "catbird-4", "ended"}, {sec(12), "catbird-3", "ended"},
		})
	})
}

// An autoscaler's limits hold, and an upgrade leaves it the number of pods, the one
// that turns it on too.
func TestAutoscaledSet(t *testing.T) {
	p := three()
	p.Sets[0].MaxReplicas = 4
	inWorld(t, p, func(t *testing.T, s *stage, w *world) {
		take(t, s, Scale("catbird", 1))
		for _, by := range []int{1, -2} {
			if err := Scale("catbird", by).take(t.Context(), s); err == nil {
				t.Errorf("scaled by %d", by)
			}
			s.cluster.sets[0].replicas = 4
		}
		w.since()
		take(t, s, Upgrade("nothing new", p))
		expect(t, w.since(), nil)
	})
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		take(t, s, Upgrade("autoscaled", p))
		expect(t, w.since(), nil)
	})
}

// A set that comes is a second one behind the same service, with its own version,
// and the other one is left alone. When it goes its pods go.
func TestCanaryComesAndGoes(t *testing.T) {
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		take(t, s, Upgrade("in", tracks("v1", "v2")))
		expect(t, w.since(), []event{{0, "canary-0", "starts"}})
		expectIn(t, w.what("FLAG"), map[string]string{
			"catbird-0": "v1 of v1", "catbird-1": "v1 of v1", "catbird-2": "v1 of v1", "canary-0": "v2 of v2",
		})
		if n := s.service.ready(); n != 4 {
			t.Errorf("%d pods get requests", n)
		}
		take(t, s, Restart("catbird"))
		expect(t, w.since(), replaced(0, sec(14), "catbird-2", "catbird-1", "catbird-0"))
		take(t, s, Upgrade("out", three()))
		expect(t, w.since(), []event{{0, "canary-0", "told"}, {sec(6), "canary-0", "ended"}})
		if n := s.service.ready(); n != 3 {
			t.Errorf("%d pods get requests", n)
		}
	})
}

// Pods that the clients' service does not select get no requests.
func TestPodsBesideTheService(t *testing.T) {
	p := tracks("v1", "v2")
	p.Sets[1].Clients = false
	inWorld(t, p, func(t *testing.T, s *stage, _ *world) {
		if n := s.service.ready(); n != 3 {
			t.Errorf("%d pods get requests", n)
		}
	})
}

// Two sets roll at once, one pod of each: no budget holds a rollout back.
func TestSetsRollAtTheSameTime(t *testing.T) {
	inWorld(t, tracks("v1", "v2"), func(t *testing.T, s *stage, w *world) {
		take(t, s, Upgrade("both", tracks("v3", "v4")))
		want := slices.Concat(replaced(0, sec(14), "canary-0"), replaced(0, sec(14), "catbird-2", "catbird-1", "catbird-0"))
		slices.SortStableFunc(want, func(a, b event) int { return int(a.at - b.at) })
		expect(t, w.since(), want)
		expectIn(t, w.what("FLAG"), map[string]string{
			"catbird-0": "v3 of v3", "catbird-1": "v3 of v3", "catbird-2": "v3 of v3", "canary-0": "v4 of v4",
		})
	})
}

// Only what has another revision is replaced.
func TestUpgradeThatChangesOneSet(t *testing.T) {
	inWorld(t, tracks("v1", "v2"), func(t *testing.T, s *stage, w *world) {
		take(t, s, Upgrade("the canary", tracks("v1", "v3")))
		expect(t, w.since(), replaced(0, 0, "canary-0"))
		take(t, s, Upgrade("nothing", tracks("v1", "v3")))
		expect(t, w.since(), nil)
	})
}

// What a partition holds back keeps its version and its flags, also when it is
// started anew; settings are those of the set. The rest follows later, and what was
// replaced already is left alone.
func TestPartition(t *testing.T) {
	next := three()
	next.Sets[0] = ours("catbird", "v2", 3)
	part := three()
	part.Sets[0] = ours("catbird", "v2", 3)
	part.Sets[0].Partition = 2
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		take(t, s, Upgrade("a part", part))
		expect(t, w.since(), replaced(0, 0, "catbird-2"))
		take(t, s, Drain("catbird-0"))
		expect(t, w.since(), replaced(0, 0, "catbird-0"))
		expectIn(t, w.what("FLAG"), map[string]string{"catbird-0": "v1 of v1", "catbird-1": "v1 of v1", "catbird-2": "v2 of v2"})
		expectIn(t, w.what("SETTING"), map[string]string{"catbird-0": "v1 of v2", "catbird-1": "v1 of v1", "catbird-2": "v2 of v2"})
		take(t, s, Restart("catbird"))
		expect(t, w.since(), replaced(0, 0, "catbird-2"))
		take(t, s, Upgrade("the rest", next))
		expect(t, w.since(), replaced(0, sec(14), "catbird-1", "catbird-0"))
		expectIn(t, w.what("FLAG"), map[string]string{"catbird-0": "v2 of v2", "catbird-1": "v2 of v2", "catbird-2": "v2 of v2"})
	})
}

// With OnDelete nothing is replaced, and what is deleted becomes what is wanted.
func TestOnDelete(t *testing.T) {
	next := three()
	next.Sets[0] = ours("catbird", "v2", 3)
	next.Sets[0].Update = OnDelete
	inWorld(t, three(), func(t *testing.T, s *stage, w *world) {
		take(t, s, Upgrade("nothing yet", next))
		expect(t, w.since(), nil)
		take(t, s, Drain("catbird-1"))
		expectIn(t, w.what("FLAG"), map[string]string{"catbird-0": "v1 of v1", "catbird-1": "v2 of v2", "catbird-2": "v1 of v1"})
	})
}

// What stands before the pods hears of a deletion its lag after it, while the hook
// still waits and nobody has told the process.
func TestEndpointGoesWithTheDeletion(t *testing.T) {
	p := three()
	p.Sets[0].Template.PreStopSeconds = 5
	inWorld(t, p, func(t *testing.T, s *stage, w *world) {
		var removed sync.WaitGroup
		removed.Go(func() { take(t, s, Drain("catbird-2")) })
		pass(worldLag - time.Millisecond)
		if n := s.service.ready(); n != 3 {
			t.Errorf("%d pods get requests already", n)
		}
		pass(time.Millisecond)
		if n := s.service.ready(); n != 2 {
			t.Errorf("%d pods get requests still", n)
		}
		expect(t, w.since(), nil)
		removed.Wait()
		expect(t, w.since()[:1], []event{{sec(5) - worldLag, "catbird-2", "told"}})
	})
}
