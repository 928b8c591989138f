package conversation_test

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"catbird/conversation"
)

// TestMembersIsASet holds Members against a map through any sequence of
// changes.
func TestMembersIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few and short names, one a prefix of another, so that they meet.
		did := rapid.StringMatching(`did:plc:[ab]{0,4}`)
		start := rapid.SliceOf(did).Draw(t, "start")
		m := conversation.NewMembers(start...)
		want := make(map[string]bool)
		for _, d := range start {
			want[d] = true
		}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			before, list := m, m.List()
			if rapid.Bool().Draw(t, "add") {
				added := rapid.SliceOfN(did, 0, 4).Draw(t, "added")
				m = m.With(added...)
				for _, d := range added {
					want[d] = true
				}
			} else {
				d := did.Draw(t, "removed")
				m = m.Without(d)
				delete(want, d)
			}
			if !slices.Equal(before.List(), list) {
				t.Fatalf("the set before was changed from %v to %v", list, before.List())
			}
			if got, want := m.List(), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
				t.Fatalf("members %v, want %v", got, want)
			}
			if m.Len() != len(want) {
				t.Fatalf("%d members, want %d", m.Len(), len(want))
			}
			probe := did.Draw(t, "probe")
			if m.Has(probe) != want[probe] {
				t.Fatalf("Has(%q) = %v, want %v", probe, m.Has(probe), want[probe])
			}
		}
	})
}

func TestMembersZeroValueIsEmpty(t *testing.T) {
	var m conversation.Members
	if m.Len() != 0 || m.Has("") || m.Has(alice) || len(m.List()) != 0 || m.Without(alice).Len() != 0 {
		t.Error("the zero value is not an empty set")
	}
	if !m.With(alice).Has(alice) {
		t.Error("nothing can be added to the zero value")
	}
}

func TestMembersHasDoesNotAllocate(t *testing.T) {
	m := conversation.NewMembers(dids(1000)...)
	if n := testing.AllocsPerRun(100, func() { m.Has("did:plc:p500"); m.Has("did:plc:absent") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
