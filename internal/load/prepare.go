package load

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"golang.org/x/sync/errgroup"

	"catbird/conversation"
	"catbird/internal/client"
)

const (
	suite = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519" // that of the recorded groups
	// createdAtOnce is how many conversations are created at the same time.
	createdAtOnce = 16
)

// prepare creates the conversations.
func (e *Engine) prepare(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(min(createdAtOnce, e.cfg.Clients))
	for i := range e.cfg.Conversations {
		c, founders := e.newConvo(i)
		e.convos = append(e.convos, c)
		eg.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if e.stopped() {
				return ErrStopped
			}
			if err := e.create(ctx, c, founders); err != nil {
				return err
			}
			e.created.Add(1)
			return nil
		})
	}
	return eg.Wait()
}

// newConvo returns the i-th conversation, with its creator in it, and who else
// is to be.
func (e *Engine) newConvo(i int) (c *convo, founders []string) {
	c = &convo{index: uint32(i), group: binary.BigEndian.AppendUint64(append([]byte(nil), e.run[:]...), uint64(i))}
	c.id = hex.EncodeToString(c.group)
	c.books = newBooks(c.id, e.findings)
	if n := len(e.cfg.People); n > 0 {
		c.strangers = []string{}
		for j := range min(n, e.most()) {
			c.strangers = append(c.strangers, e.cfg.People[(i*e.cfg.Members+j)%n])
		}
	}
	for range e.cfg.Members {
		did, _ := c.takeNewcomer(e.most())
		founders = append(founders, did)
	}
	c.join(founders[0])
	return c, founders[1:]
}

// least and most are between how many members a conversation is kept.
func (e *Engine) least() int { return max(e.cfg.Members/2, 1) }

func (e *Engine) most() int { return min(max(2*e.cfg.Members, e.cfg.Members+2), MaxMembers) }

// create makes c with founders in it, in as many steps as the API wants.
func (e *Engine) create(ctx context.Context, c *convo, founders []string) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	first := founders[:min(len(founders), conversation.MaxInitialMembers)]
	in := client.CreateConvo{GroupID: c.id, CipherSuite: suite, InitialMembers: first, IdempotencyKey: "create"}
	o := Operation{Op: Commit}
	ch := change{rowless: true}
	if e.cfg.Payload == MLS { // the commit that adds them; the group starts behind it
		ch = e.begin(c, &o, c.creator())
		in.Commit, _ = e.commit(&ch)
		in.Welcome = e.payloads.welcome
	}
	out, err := e.client.As(c.creator()).CreateConvo(ctx, in)
	if err != nil {
		return err
	}
	if !ch.rowless {
		e.settle(&ch, &o, receipt{seq: 1, epoch: out.Epoch}, nil)
	}
	for _, did := range first {
		c.join(did)
	}
	return e.addRest(ctx, c, founders[len(first):])
}

// addRest adds those that did not fit into createConvo.
func (e *Engine) addRest(ctx context.Context, c *convo, rest []string) error {
	for len(rest) > 0 {
		some := rest[:min(len(rest), conversation.MaxAddMembers)]
		rest = rest[len(some):]
		m := c.borrowCreator()
		var o Operation
		e.add(ctx, c, m, some, &o)
		c.giveBack(m)
		if o.Err != nil {
			return fmt.Errorf("add members: %w", o.Err)
		}
	}
	return nil
}
