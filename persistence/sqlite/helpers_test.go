package sqlite_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"catbird/conversation"
	"catbird/persistence"
	"catbird/persistence/sqlite"
)

const alice = "did:plc:alice"

func env() conversation.Env {
	return conversation.Env{Now: time.Now().UTC().Truncate(time.Microsecond), Policy: conversation.DefaultPolicy()}
}

func request(convo string, c conversation.Command) *conversation.Request {
	return &conversation.Request{ID: uuid.Must(uuid.NewV7()).String(), Convo: convo, Caller: alice, Command: c}
}

// create makes a conversation of alice alone.
func create(t testing.TB, s *sqlite.Store, convo string) {
	t.Helper()
	r := request(convo, nil)
	c := conversation.Creation{Creator: alice, CipherSuite: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"}
	_, u, err := c.Create(env(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Create(t.Context(), persistence.CreateRequest{Request: r, Creation: c, Unit: u}); err != nil {
		t.Fatal(err)
	}
}

func send(t testing.TB, s *sqlite.Store, convo string, ciphertext []byte) {
	t.Helper()
	_, err := s.Direct(t.Context(), "", request(convo, conversation.Send{Ciphertext: ciphertext}), env())
	if err != nil {
		t.Fatal(err)
	}
}

func readLog(t testing.TB, s *sqlite.Store, q persistence.MessagesQuery) persistence.MessagesPage {
	t.Helper()
	q.Caller, q.Limit = alice, conversation.MaxPage
	p, err := s.Messages(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func seqs(p persistence.MessagesPage) string {
	var out []int64
	for _, m := range p.Messages {
		out = append(out, m.Seq)
	}
	return fmt.Sprint(out)
}

func ptr[T any](v T) *T { return &v }
