package postgres

import (
	"testing"

	"catbird/conversation"
)

// FuzzParseCursor: what is taken for a cursor is one that this store could have
// given, and comes back as it is; everything else is refused as such.
func FuzzParseCursor(f *testing.F) {
	f.Add(place{Snapshot: "10:20:11,12", Began: 5, Activity: 4, ID: "00ff"}.cursor())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseCursor(s)
		if err != nil {
			if conversation.CodeOf(err) != conversation.InvalidCursor || p != (place{}) {
				t.Fatalf("%q: got %+v, %v", s, p, err)
			}
			return
		}
		if again, err := parseCursor(p.cursor()); err != nil || again != p || !snapshotForm.MatchString(p.Snapshot) {
			t.Fatalf("%+v came back as %+v, %v", p, again, err)
		}
	})
}
