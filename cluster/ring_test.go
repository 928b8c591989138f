package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/buraksezer/consistent"
	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"
)

// smallShape makes the same kind of ring at a fraction of the work.
var smallShape = shape{partitions: 211, points: 20, load: 1.22}

func newTestRing(s shape) *Ring { return newRing(RingConfig{Node: "n-0", Logger: quiet}, s) }

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

func set(t interface{ Fatal(...any) }, r *Ring, members []string) *RingView {
	v, err := r.Set(members)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The names are those of a StatefulSet: some are another's with a digit
// behind.
func TestRingDependsOnTheMembersOnly(t *testing.T) {
	t.Parallel()
	pool := names("n-", 40)
	rapid.Check(t, func(t *rapid.T) {
		r := newTestRing(smallShape)
		sets := rapid.SliceOfN(rapid.SliceOfN(rapid.SampledFrom(pool), 1, 30), 1, 8).Draw(t, "history")
		for _, members := range sets {
			v := set(t, r, members)
			other := slices.Clone(members)
			rand.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
			sameRing(t, v, set(t, newTestRing(smallShape), other))
			likeTheLibrary(t, v, other)
		}
	})
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func sameRing(t fataler, a, b *RingView) {
	t.Helper()
	if a.Version() != b.Version() || !slices.Equal(a.Members(), b.Members()) || !slices.Equal(a.owners, b.owners) {
		t.Fatalf("two rings of %v and %v differ", a.Members(), b.Members())
	}
	for _, m := range a.Members() {
		if a.Partitions(m) != b.Partitions(m) {
			t.Fatalf("%s has %d and %d partitions", m, a.Partitions(m), b.Partitions(m))
		}
	}
}

// likeTheLibrary compares v with a ring that the library alone made of members
// in the order given.
func likeTheLibrary(t fataler, v *RingView, members []string) {
	t.Helper()
	lib := consistent.New(nil, consistent.Config{
		Hasher: xxHasher{}, PartitionCount: smallShape.partitions, ReplicationFactor: smallShape.points, Load: smallShape.load,
	})
	for _, m := range members {
		lib.Add(libraryName(m))
	}
	for i := range 50 {
		convo := fmt.Sprintf("convo %d", i)
		owner, ok := v.Owner(convo)
		if want := lib.LocateKey([]byte(convo)).String(); !ok || owner+"#" != want || v.Partition(convo) != lib.FindPartitionID([]byte(convo)) {
			t.Fatalf("%s belongs to %s, to the library %s", convo, owner, want)
		}
	}
	if got, want := slices.Max(v.counts), int(lib.AverageLoad()); got > want {
		t.Fatalf("the fullest has %d partitions, at most %d are allowed", got, want)
	}
}

// Without the mark behind the names the library panics here.
func TestRingOfAStatefulSet(t *testing.T) {
	t.Parallel()
	r := newTestRing(ringShape)
	all := names("catbird-", 13)
	whole := set(t, r, all)
	set(t, r, all[:12]) // catbird-12 goes, catbird-1 stays
	sameRing(t, set(t, r, all), whole)
	set(t, r, all[2:])
	sameRing(t, set(t, r, all), whole)

	plain := consistent.New(nil, consistent.Config{Hasher: xxHasher{}, PartitionCount: 211, ReplicationFactor: 100, Load: 1.25})
	for _, m := range all {
		plain.Add(ringMember(m))
	}
	defer func() {
		if recover() == nil {
			t.Error("the library has learnt to tell such names apart: the mark is not needed any more")
		}
	}()
	plain.Remove("catbird-12")
}

func TestRingVersions(t *testing.T) {
	t.Parallel()
	r := newTestRing(smallShape)
	versions := map[uint64][]string{}
	for _, members := range [][]string{nil, {"a"}, {"b"}, {"a", "b"}, {"ab"}, {"a", "b", "c"}, {"a", "bc"}, {"ab", "c"}} {
		v := set(t, r, members)
		if other, seen := versions[v.Version()]; seen {
			t.Errorf("%v and %v have one version", members, other)
		}
		versions[v.Version()] = members
		if uint64(float64(v.Version())) != v.Version() {
			t.Errorf("version %d does not survive a gauge", v.Version())
		}
	}
	if smallShape.version([]string{"a"}) == ringShape.version([]string{"a"}) {
		t.Error("rings of different shapes have one version")
	}
}

func TestRingEmptiesAndFillsAgain(t *testing.T) {
	t.Parallel()
	r := newTestRing(smallShape)
	if owner, ok := r.View().Owner("x"); ok || r.View().Partitions("n-0") != 0 {
		t.Errorf("an empty ring has an owner, %q", owner)
	}
	p := r.View().Partition("x")
	full := set(t, r, names("n-", 3))
	if full.Partition("x") != p {
		t.Error("the partition of a conversation depends on the members")
	}
	set(t, r, nil)
	if _, ok := r.View().Owner("x"); ok {
		t.Error("an emptied ring has an owner")
	}
	sameRing(t, set(t, r, []string{"n-2", "n-0", "n-1", "n-1"}), full)
	if full.Partitions("n-1") == 0 || full.Partitions("nobody") != 0 {
		t.Errorf("partitions: %d, %d", full.Partitions("n-1"), full.Partitions("nobody"))
	}
}

func TestRingKeepsItsViewOnErrors(t *testing.T) {
	t.Parallel()
	r := newTestRing(smallShape)
	before := set(t, r, names("n-", 2))
	if v, err := r.Set(names("n-", MaxRingMembers+1)); !errors.Is(err, ErrTooManyMembers) || v != before {
		t.Errorf("too many members: %v", err)
	}
	if v, err := r.Set(names("n-", 300)); err == nil || v != before || r.View() != before {
		t.Errorf("more members than partitions: %v", err)
	}
	sameRing(t, set(t, r, names("n-", 4)), set(t, newTestRing(smallShape), names("n-", 4)))
}

// Whatever the library's ring has come to hold, the view is right.
func TestRingIsBuiltAnewWhenTheLibrarysIsWrong(t *testing.T) {
	t.Parallel()
	r := newTestRing(smallShape)
	set(t, r, names("n-", 10))
	r.lib = smallShape.build(names("x-", 10))
	want := set(t, newTestRing(smallShape), names("n-", 11))
	sameRing(t, set(t, r, names("n-", 11)), want)
	if cheaperFromNothing(1, 11) {
		t.Error("this test did not change the ring, it built one")
	}
}

func TestRingCost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		changes, n int
		build      bool
	}{{1, 1000, false}, {10, 1000, false}, {1, 3, false}, {999, 1000, true}, {3, 3, true}, {50, 100, true}} {
		if cheaperFromNothing(test.changes, test.n) != test.build {
			t.Errorf("%d changes of %d members: building is chosen %v", test.changes, test.n, !test.build)
		}
	}
}

func TestRingFollowsMembers(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	r := NewRing(RingConfig{Node: "a", Logger: quiet, Registerer: reg})
	a := NewAlone(AloneConfig{Name: "a"})
	changes, cancel := r.Subscribe()
	defer cancel()
	ctx, end := context.WithCancelCause(within(t))
	done := make(chan error)
	go func() { done <- r.Follow(ctx, a) }()

	a.SetState(Ready)
	<-changes
	if owner, ok := r.View().Owner("x"); !ok || owner != "a" {
		t.Errorf("x belongs to %q", owner)
	}
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 5 {
		t.Errorf("%d metrics, %v", n, err)
	}
	if got := testutil.ToFloat64(r.metrics.partitions); got != RingPartitions {
		t.Errorf("%v partitions are shown", got)
	}
	a.SetState(Leaving)
	<-changes
	if _, ok := r.View().Owner("x"); ok {
		t.Error("a leaving node is in the ring")
	}
	over := errors.New("over")
	end(over)
	if err := <-done; !errors.Is(err, over) {
		t.Errorf("Follow returned %v", err)
	}
}

func TestOwnerDoesNotAllocate(t *testing.T) {
	r := newTestRing(smallShape)
	set(t, r, names("n-", 3))
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := r.View().Owner("8a3f0c6e5b7d41929c4e1f2a3b4c5d6e"); !ok {
			t.Fatal("no owner")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What 1,000 nodes reach is measured by BenchmarkRing1000.
func TestRingIsBalanced(t *testing.T) {
	t.Parallel()
	report, err := SimulateRing(30, 300_000)
	if err != nil {
		t.Fatal(err)
	}
	if report.Fullest > 1.25 || report.Moved > 1.5 || report.WorstMoved < report.Moved || report.Fullest < 1 || report.Moved < 0.5 {
		t.Error(report)
	}
	t.Log(report)
}

func TestPartitionIsTheHash(t *testing.T) {
	t.Parallel()
	v := newTestRing(ringShape).View()
	for _, convo := range []string{"", "a", "8a3f0c6e"} {
		if got, want := v.Partition(convo), int(xxhash.Sum64String(convo)%RingPartitions); got != want {
			t.Errorf("%q is in %d, not %d", convo, got, want)
		}
	}
}
