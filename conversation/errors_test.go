package conversation_test

import (
	"errors"
	"fmt"
	"testing"

	"catbird/conversation"
)

func TestErrorFinal(t *testing.T) {
	mismatch := func(expected int64) error {
		_, _, err := conversation.Decide(testEnv(), stateOf(4, 9, alice),
			request(alice, conversation.Send{Ciphertext: []byte("x"), Epoch: expected}))
		return err
	}
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"behind the current epoch", mismatch(3), true},
		{"ahead of the current epoch: may be right later", mismatch(5), false},
		{"another body under the key", conversation.Refuse(conversation.IdempotencyConflict, ""), true},
		{"not a member: may become one", conversation.Refuse(conversation.NotMember, ""), false},
		{"already a member: may leave", conversation.Refuse(conversation.AlreadyMember, ""), false},
		{"no such conversation: may be created", conversation.Refuse(conversation.ConvoNotFound, ""), false},
		{"mailbox full", conversation.Refuse(conversation.MailboxFull, ""), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e *conversation.Error
			if !errors.As(tt.err, &e) {
				t.Fatalf("%v is no *Error", tt.err)
			}
			if got := e.Final(); got != tt.want {
				t.Errorf("Final() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestErrorIsComparesCodes(t *testing.T) {
	err := fmt.Errorf("deciding: %w", conversation.Refuse(conversation.NotMember, "%s is no member", "x"))
	if !errors.Is(err, conversation.Refuse(conversation.NotMember, "")) {
		t.Error("an error is not its own code's")
	}
	if errors.Is(err, conversation.Refuse(conversation.LastMember, "")) {
		t.Error("an error is another code's")
	}
	if got := conversation.CodeOf(err); got != conversation.NotMember {
		t.Errorf("CodeOf = %q", got)
	}
	if got := conversation.CodeOf(errors.New("x")); got != "" {
		t.Errorf("CodeOf of a fault = %q, want none", got)
	}
	if got, want := err.Error(), "deciding: NotMember: x is no member"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}

func TestRepeat(t *testing.T) {
	first := conversation.Result{ID: "id-0", Epoch: 3, Seq: 7, At: now}
	tests := []struct {
		name    string
		key     string
		digest  string
		earlier []byte
		want    conversation.Code
	}{
		{"same body", "k", "d", []byte("d"), ""},
		{"another body", "k", "d", []byte("e"), conversation.IdempotencyConflict},
		{"nothing stored to compare with", "k", "d", nil, ""},
		{"found by id, not by key", "", "d", []byte("e"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request(alice, conversation.Leave{})
			r.Key, r.Digest = tt.key, []byte(tt.digest)
			got, err := conversation.Repeat(r, conversation.Earlier{Result: first, Digest: tt.earlier})
			wantCode(t, err, tt.want)
			if err == nil && got != first {
				t.Errorf("result %+v, want the first one's %+v", got, first)
			}
		})
	}
}

func TestDigestTellsBodiesApart(t *testing.T) {
	send := conversation.Send{Ciphertext: []byte("x"), Epoch: 4, ClientID: "m"}
	same := conversation.Send{Ciphertext: []byte("x"), Epoch: 4, ClientID: "m"}
	if string(conversation.DigestOf(send)) != string(conversation.DigestOf(same)) {
		t.Error("equal commands have different digests")
	}
	seen := make(map[string]int)
	for i, c := range []conversation.Command{
		send,
		conversation.Send{Ciphertext: []byte("y"), Epoch: 4, ClientID: "m"},
		conversation.Send{Ciphertext: []byte("x"), Epoch: 5, ClientID: "m"},
		conversation.Send{Ciphertext: []byte("x"), Epoch: 4, ClientID: "n"},
		conversation.Send{Ciphertext: []byte("x"), Epoch: 4, ClientID: "m", EmbedType: "e"},
		conversation.Send{Ciphertext: []byte("x"), Epoch: 4, ClientID: "m", EmbedURI: "e"},
		conversation.Leave{},
		conversation.Leave{Target: bob},
		conversation.Leave{Expected: epoch(0)},
		conversation.AddMembers{DIDs: []string{bob}},
		conversation.AddMembers{DIDs: []string{bob, carol}},
		conversation.AddMembers{DIDs: []string{bob}, Welcome: []byte("w")},
		conversation.AddMembers{DIDs: []string{bob}, Commit: []byte("w")},
	} {
		d := string(conversation.DigestOf(c))
		if j, ok := seen[d]; ok {
			t.Errorf("commands %d and %d have one digest", j, i)
		}
		seen[d] = i
	}
}
