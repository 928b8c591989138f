package peer

import (
	"sync/atomic"
	"time"
)

// remote is what a client knows of the node at one address: a lane for small
// questions and one for large ones.
type remote struct {
	client  *Client
	address string
	asks    atomic.Int64           // calls of Ask under way
	plain   chan struct{}          // one for each plain request under way
	node    atomic.Pointer[string] // its name
	metrics atomic.Pointer[peerMetrics]

	small, bulk lane

	idleTicks int // of the watch goroutine
}

func newRemote(c *Client, address string) *remote {
	r := &remote{client: c, address: address, plain: make(chan struct{}, plainSlots)}
	r.metrics.Store(c.metrics.peer(unknownPeer))
	r.small = lane{remote: r, client: c, purpose: purposeSmall}
	r.bulk = lane{remote: r, client: c, purpose: purposeBulk}
	return r
}

// named is called when the node's name has become known.
func (r *remote) named(node string) {
	r.node.Store(&node)
	r.metrics.Store(r.client.metrics.peer(node))
}

// name returns the node's name, "" before it is known.
func (r *remote) name() string {
	if n := r.node.Load(); n != nil {
		return *n
	}
	return ""
}

func (r *remote) observe(q *Question, s Status, err error, took time.Duration) {
	r.metrics.Load().observe(q.Change != nil, outcomeOf(s, err), took)
}

// tick looks at both lanes; it returns true when nothing has used the remote
// for as long as an idle connection is kept.
func (r *remote) tick() (idle bool) {
	waiting := r.small.tick() + r.bulk.tick()
	if r.name() != "" {
		r.metrics.Load().queued.Set(float64(waiting))
	}
	if !r.quiet() {
		r.idleTicks = 0
		return false
	}
	r.idleTicks++
	return r.idleTicks > r.client.idleTicks()
}

// quiet reports whether no call of Ask and no connection uses the remote.
func (r *remote) quiet() bool {
	return r.asks.Load() == 0 && r.small.quiet() && r.bulk.quiet()
}

func (r *remote) close() {
	r.small.close()
	r.bulk.close()
}

// idleTicks is IdleTimeout in intervals of the watch.
func (c *Client) idleTicks() int { return ticks(c.cfg.IdleTimeout, c.cfg.PingInterval) }

// deadTicks is PingTimeout in intervals of the watch. Silence is counted in
// intervals, not read from the clock: a process that was suspended must not
// think upon waking that its peers have been silent.
func (c *Client) deadTicks() int { return ticks(c.cfg.PingTimeout, c.cfg.PingInterval) }

func ticks(d, interval time.Duration) int { return int((d + interval - 1) / interval) }
