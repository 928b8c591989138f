package load

import (
	"bytes"
	"testing"

	"catbird/conversation"
)

func TestPayloads(t *testing.T) {
	run := [8]byte{1, 2, 3}
	group := bytes.Repeat([]byte{7}, 16)
	for _, kind := range []Payload{Random, MLS} {
		p, err := newPayloads(kind, run, 1, 61)
		if err != nil {
			t.Fatal(err)
		}
		other, _ := newPayloads(kind, [8]byte{9}, 1, 61)
		seen := map[string]bool{}
		for serial := range uint32(200) {
			id := identity{convo: 3, serial: serial}
			m, c := p.message(group, id, 5), p.commit(group, id, 5)
			if !bytes.Equal(m, p.message(group, id, 5)) {
				t.Fatalf("%s: a message is not the same each time", kind)
			}
			if got, ok := p.identify(m); !ok || got != id {
				t.Fatalf("%s: %+v is taken for %+v", kind, id, got)
			}
			if _, ok := other.identify(m); ok {
				t.Fatalf("%s: another run takes a message for its own", kind)
			}
			if seen[string(m)] {
				t.Fatalf("%s: a message is like another", kind)
			}
			seen[string(m)] = true
			checkHeaders(t, kind, group, m, c)
		}
	}
}

// checkHeaders checks what the service reads of a message and a commit.
func checkHeaders(t *testing.T, kind Payload, group, message, commit []byte) {
	t.Helper()
	m, isMessage := conversation.ParseHeader(message)
	c, isCommit := conversation.ParseHeader(commit)
	if kind == Random {
		if isMessage || isCommit || len(message) != 61 {
			t.Fatalf("random bytes pass for MLS, or are %d", len(message))
		}
		return
	}
	if !isMessage || m.Content != conversation.ContentApplication || m.Epoch != 5 || !bytes.Equal(m.GroupID, group) {
		t.Fatalf("a message has the header %+v", m)
	}
	if !isCommit || c.Content != conversation.ContentCommit || c.Epoch != 5 || !bytes.Equal(c.GroupID, group) {
		t.Fatalf("a commit has the header %+v", c)
	}
}
