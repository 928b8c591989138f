package sqlite

import (
	"testing"

	"catbird/conversation"
)

// FuzzParseCursor: what is taken for a cursor is one that this store could have
// given, and comes back as it is; everything else is refused as such.
func FuzzParseCursor(f *testing.F) {
	f.Add(cursor{No: 7, Active: 5, ID: "00ff"}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		cur, err := parseCursor(s)
		if err != nil {
			if conversation.CodeOf(err) != conversation.InvalidCursor || cur != (cursor{}) {
				t.Fatalf("%q: got %+v, %v", s, cur, err)
			}
			return
		}
		if again, err := parseCursor(cur.String()); err != nil || again != cur || cur.ID == "" || cur.No < 0 {
			t.Fatalf("%+v came back as %+v, %v", cur, again, err)
		}
	})
}
