package chaos

import (
	"context"
	"crypto/rand"
	mrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"catbird/internal/client"
	"catbird/internal/history"
)

// doors are where requests go in: the nodes, or a load balancer before them.
type doors interface {
	// open returns the names of the doors that are open, at least one of which
	// a client may try.
	open() []string
	// through returns the client of a door.
	through(name string) *client.Client
}

// open and through make the nodes themselves the doors.
func (g *ground) open() []string                     { return g.running() }
func (g *ground) through(name string) *client.Client { return g.clients[name] }

// crowd is the clients of a run. Each asks for one thing after another, of
// conversations that all share.
type crowd struct {
	rec    *history.Recorder
	doors  doors // those through which everything is read back
	topics []*topic
	pace   time.Duration // between two requests of one client, on average

	next atomic.Int64 // numbers clients
	stop context.CancelFunc
	wg   sync.WaitGroup
}

const (
	// A request that is not answered for certain is asked again, with its key,
	// this often in all.
	maxAttempts = 8
	retryPause  = 150 * time.Millisecond
	// in percent
	shareKeyless = 20 // of the changes have no idempotency key, and one attempt
	shareTwins   = 4  // of the changes with a key are asked for twice at once
	shareAfter   = 40 // of all requests are followed by a getEpoch at once
	shareBehind  = 10 // of what is built on an epoch is built on one before
)

// start lets so many clients begin, who take turns with through: each goes in by
// one set of doors all the time. It is to be called once; whoever does calls end.
func (c *crowd) start(clients int, through ...doors) {
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	for i := range clients {
		me, d := int(c.next.Add(1)-1), through[i%len(through)]
		c.wg.Go(func() {
			for pause(ctx, c.pace/2+mrand.N(c.pace)) {
				c.request(ctx, me, d)
			}
		})
	}
}

// end asks for nothing more and waits for what is due.
func (c *crowd) end() {
	c.stop()
	c.wg.Wait()
}

// request makes one request, attempts and all.
func (c *crowd) request(ctx context.Context, me int, d doors) {
	t := c.topics[mrand.N(len(c.topics))]
	op := draw(t)
	op.Client = me
	if op.Input.Key != "" && percent(shareTwins) {
		twin := op
		twin.Client = int(c.next.Add(1) - 1)
		var wg sync.WaitGroup
		wg.Go(func() { c.persist(ctx, t, twin, d) })
		defer wg.Wait()
	}
	c.persist(ctx, t, op, d)
	if percent(shareAfter) {
		// Whoever has just been told how far the conversation is finds a node out
		// that is behind.
		c.persist(ctx, t, history.Op{Client: me, Convo: t.id, Caller: one(t.steady), Kind: history.GetEpoch}, d)
	}
}

// persist asks until there is an answer that counts, at one node after another.
// An attempt that was begun gets its time, also when ctx ends.
func (c *crowd) persist(ctx context.Context, t *topic, op history.Op, d doors) {
	first := mrand.N(len(baseNodes) + len(extraNodes))
	for attempt := range maxAttempts {
		open := d.open()
		if len(open) == 0 {
			return
		}
		op.Node = open[(first+attempt)%len(open)]
		out := ask(context.WithoutCancel(ctx), c.rec, d.through(op.Node), op)
		t.told(out)
		if out.Outcome == history.Succeeded || out.Outcome == history.Refused {
			return
		}
		harmless := op.Input.Key != "" || !changes(op.Kind) || out.Outcome == history.Failed
		if !harmless || !pause(ctx, retryPause/2+mrand.N(retryPause)) {
			return
		}
	}
}

// draw draws what to ask for.
func draw(t *topic) history.Op {
	op := history.Op{Convo: t.id, Caller: one(t.steady)}
	dice := mrand.N(100)
	switch {
	case dice < 14:
		op.Kind = history.GetEpoch
		if percent(15) {
			op.Caller = one(t.coming)
		}
		return op
	case dice < 36:
		op.Kind, op.Caller = history.GetMessages, one(t.readers())
		if percent(10) {
			op.Caller = one(t.coming)
		}
		op.Input.Limit = 1 + mrand.N(12)
		if percent(50) {
			op.Input.Since = new(max(0, t.seq.Load()-mrand.Int64N(12)))
		}
		return op
	case dice < 70:
		op.Kind = history.SendMessage
		op.Input.Epoch = builtOn(t)
		if percent(10) {
			op.Caller = one(t.coming)
		}
	case dice < 82:
		op.Kind = history.Commit
	case dice < 92:
		op.Kind, op.Input.DIDs = history.AddMembers, []string{one(t.coming)}
	default:
		op.Kind = history.LeaveConvo
		op = leaver(t, op)
	}
	return complete(t, op)
}

// leaver says who goes: by themselves, or taken out by the creator, who alone
// may, which others find out.
func leaver(t *topic, op history.Op) history.Op {
	switch dice := mrand.N(100); {
	case dice < 40:
		op.Caller = one(t.coming)
		return op
	case dice < 90:
		op.Caller = t.creator()
	}
	op.Input.DIDs = []string{one(t.coming)}
	return op
}

// complete gives a change its bytes, its key, and the epoch it is built on.
func complete(t *topic, op history.Op) history.Op {
	op.Input.Payload = t.payload()
	if op.Kind != history.SendMessage && percent(40) {
		op.Input.Epoch = builtOn(t)
	}
	if (op.Kind == history.AddMembers || op.Kind == history.LeaveConvo) && percent(10) {
		op.Input.Payload = "" // without a commit
	}
	if !percent(shareKeyless) {
		op.Input.Key = rand.Text()
	}
	return op
}

func builtOn(t *topic) *int64 {
	epoch := t.epoch.Load()
	if percent(shareBehind) {
		epoch = max(0, epoch-1)
	}
	return &epoch
}

func one(list []string) string { return list[mrand.N(len(list))] }

func percent(n int) bool { return mrand.N(100) < n }
