package chaos

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

const testLease = 2 * time.Second

// rounds draws the rounds in which every kind comes so many times.
func rounds(seed uint64, kinds []Kind, times int) (out []Round) {
	s := NewSchedule(seed, testLease, kinds)
	for range times {
		out = append(out, s.Next())
		for !s.Whole() {
			out = append(out, s.Next())
		}
	}
	return out
}

func TestScheduleIsTheSameForTheSameSeed(t *testing.T) {
	if !reflect.DeepEqual(rounds(7, Kinds, 2), rounds(7, Kinds, 2)) {
		t.Error("two schedules of one seed differ")
	}
	if reflect.DeepEqual(rounds(7, Kinds, 2), rounds(8, Kinds, 2)) {
		t.Error("the schedules of two seeds are the same")
	}
}

func TestEveryKindComesBeforeAnyComesAgain(t *testing.T) {
	for seed := range uint64(100) {
		times := map[Kind]int{}
		for _, r := range rounds(seed, Kinds, 3) {
			for _, f := range r.Faults {
				times[f.Kind]++
			}
		}
		for _, k := range Kinds {
			if times[k] != 3 {
				t.Fatalf("seed %d: %s came %d times in three", seed, k, times[k])
			}
		}
	}
}

func TestFaultsTogetherTakeDifferentPlaces(t *testing.T) {
	together := 0
	for seed := range uint64(100) {
		for _, r := range rounds(seed, Kinds, 1) {
			var taken []string
			for _, f := range r.Faults {
				for _, p := range f.places() {
					if slices.Contains(taken, p) {
						t.Fatalf("seed %d: %v take the same place: %s", seed, r.Faults, p)
					}
					taken = append(taken, p)
				}
			}
			together = max(together, len(r.Faults))
			if len(r.Faults) == 0 || len(r.Lags) != len(r.Faults) || r.Hold < testLease {
				t.Fatalf("seed %d: a round of %+v", seed, r)
			}
		}
	}
	if together != maxTogether {
		t.Errorf("at most %d faults come together, want %d", together, maxTogether)
	}
}

func TestScheduleKeepsToItsKinds(t *testing.T) {
	only := []Kind{Freeze, CutNodes}
	seen := map[Fault]bool{}
	for seed := range uint64(200) {
		for _, r := range rounds(seed, only, 1) {
			for _, f := range r.Faults {
				seen[f] = true
				if !slices.Contains(only, f.Kind) {
					t.Fatalf("%s came", f)
				}
			}
		}
	}
	if want := len(baseNodes) + 2*len(baseNodes)*(len(baseNodes)-1); len(seen) != want {
		t.Errorf("%d different faults came, want %d: every node, and every pair in either direction and in both", len(seen), want)
	}
}

func TestFaultsAreTold(t *testing.T) {
	for want, f := range map[string]Fault{
		"freeze b":              {Kind: Freeze, Node: "b"},
		"cut-nodes a to c both": {Kind: CutNodes, Node: "a", Peer: "c", Way: both},
		"flag-percent c 35%":    {Kind: FlagPercent, Node: "c", Percent: 35},
		"redis-flush":           {Kind: RedisFlush},
	} {
		if got := f.String(); got != want {
			t.Errorf("told as %q, want %q", got, want)
		}
	}
}
