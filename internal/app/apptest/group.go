package apptest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"testing"

	"catbird/internal/client"
)

const suite = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"

// Group is a conversation of a test, whose commits are opaque bytes or none.
type Group struct {
	ID      string
	Members []string // the creator first
}

// DID returns the n-th person's DID; prefix keeps tests on one database apart.
func DID(prefix string, n int) string { return fmt.Sprintf("did:plc:%s%d", prefix, n) }

// NewGroup creates a conversation of n members at epoch 0.
func NewGroup(t testing.TB, c *client.Client, n int) *Group {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	g := &Group{ID: hex.EncodeToString(id[:])}
	for i := range n {
		g.Members = append(g.Members, DID(g.ID[:8], i))
	}
	_, err := c.As(g.Members[0]).CreateConvo(ctx, client.CreateConvo{
		GroupID: g.ID, CipherSuite: suite, InitialMembers: g.Members[1:], IdempotencyKey: "create",
	})
	if err != nil {
		t.Fatalf("creating a conversation: %v", err)
	}
	return g
}

// NewGroups creates several.
func NewGroups(t testing.TB, c *client.Client, groups, members int) []*Group {
	t.Helper()
	out := make([]*Group, groups)
	for i := range out {
		out[i] = NewGroup(t, c, members)
	}
	return out
}

// ReadLog returns the whole log as did sees it, oldest first.
func ReadLog(t testing.TB, c *client.Client, convo, did string) []client.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), Patience)
	defer cancel()
	var log []client.Message
	since := int64(0)
	for {
		page, err := c.As(did).GetMessages(ctx, client.GetMessages{ConvoID: convo, Limit: 100, SinceSeq: &since})
		if err != nil {
			t.Fatalf("reading the log of %s: %v", convo, err)
		}
		log = append(log, page.Messages...)
		if len(page.Messages) == 0 {
			return log
		}
		if since = page.Messages[len(page.Messages)-1].Seq; since >= page.LastSeq {
			return log
		}
	}
}

// Unread returns did's unread count of convo.
func Unread(t testing.TB, c *client.Client, convo, did string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), Patience)
	defer cancel()
	cursor := ""
	for {
		page, err := c.As(did).GetConvos(ctx, 100, cursor)
		if err != nil {
			t.Fatalf("reading the conversations of %s: %v", did, err)
		}
		for _, v := range page.Conversations {
			if v.ID == convo {
				return v.UnreadCount
			}
		}
		if cursor = page.Cursor; cursor == "" {
			t.Fatalf("%s is not in conversation %s", did, convo)
		}
	}
}
