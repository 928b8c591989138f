package postgres

import (
	"context"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

func envNow() conversation.Env {
	return conversation.Env{Now: time.Now().UTC().Truncate(time.Microsecond), Policy: conversation.DefaultPolicy()}
}

const suite = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"

// newConvo makes a conversation at epoch 0.
func newConvo(t testing.TB, s *Store, convo, creator string, initial ...string) {
	t.Helper()
	r := &conversation.Request{ID: newID(), Convo: convo, Caller: creator, Digest: []byte(convo)}
	c := conversation.Creation{Creator: creator, Initial: initial, CipherSuite: suite}
	_, u, err := c.Create(envNow(), r)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if _, _, err := s.Create(context.Background(), persistence.CreateRequest{Request: r, Creation: c, Unit: u}); err != nil {
		t.Fatalf("create: %v", err)
	}
}

func request(convo, caller string, c conversation.Command) *conversation.Request {
	return &conversation.Request{ID: newID(), Convo: convo, Caller: caller, Command: c, Digest: conversation.DigestOf(c)}
}

// change changes a conversation directly and demands that it works.
func change(t testing.TB, s *Store, convo, caller string, c conversation.Command) conversation.Result {
	t.Helper()
	res, err := s.Direct(context.Background(), "", request(convo, caller, c), envNow())
	if err != nil {
		t.Fatalf("%s: %v", c.Op(), err)
	}
	return res
}
