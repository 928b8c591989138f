package chaos

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync/atomic"

	"catbird/internal/client"
	"catbird/internal/history"
)

const suite = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"

// topic is a conversation that people talk in.
type topic struct {
	id string
	// steady never leave: first the creator, then the mute one, who never reads
	// until all is over, so that their unread count is that of the log.
	steady []string
	// coming come and go.
	coming []string

	epoch atomic.Int64 // the highest that anybody was told
	seq   atomic.Int64
	texts atomic.Int64 // numbers payloads
}

const (
	steadyMembers = 4
	comers        = 4
)

func newTopic() *topic {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	t := &topic{id: hex.EncodeToString(id[:])}
	did := func(i int) string { return fmt.Sprintf("did:plc:%s%d", t.id, i) }
	for i := range steadyMembers {
		t.steady = append(t.steady, did(i))
	}
	for i := range comers {
		t.coming = append(t.coming, did(steadyMembers+i))
	}
	return t
}

func (t *topic) creator() string { return t.steady[0] }
func (t *topic) mute() string    { return t.steady[1] }

// readers returns who reads: the steady ones but the mute.
func (t *topic) readers() []string { return []string{t.steady[0], t.steady[2], t.steady[3]} }

// payload returns bytes that no other request of the conversation has.
func (t *topic) payload() string { return fmt.Sprintf("%s-%d", t.id[:4], t.texts.Add(1)) }

// create makes the conversation, while nothing is wrong yet.
func (t *topic) create(ctx context.Context, c *client.Client) error {
	_, err := c.As(t.creator()).CreateConvo(ctx, client.CreateConvo{
		GroupID: t.id, CipherSuite: suite, InitialMembers: t.steady[1:], IdempotencyKey: "create",
	})
	if err != nil {
		return fmt.Errorf("making a conversation: %w", err)
	}
	return nil
}

// start is how it stands before the first operation.
func (t *topic) start() history.Convo {
	return history.Convo{ID: t.id, Creator: t.creator(), Members: t.steady}
}

// told notes what somebody was told, for the next who build on it.
func (t *topic) told(out history.Output) {
	raise(&t.epoch, out.Epoch)
	raise(&t.seq, out.Seq)
}

// raise makes at least n of v.
func raise(v *atomic.Int64, n int64) {
	for old := v.Load(); old < n && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}
