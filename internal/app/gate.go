package app

import (
	"container/list"
	"context"
	"net"
	"sync"
)

// gate is a listener of at most so many connections at once. When all are taken
// and one more comes, the one that has waited longest for its next request gives
// way: whoever opens connections and says nothing on them, or never gets to the
// end of a header, takes no room from those who ask. Where all are being served,
// the new one waits.
type gate struct {
	net.Listener
	max int

	mu      sync.Mutex
	open    int
	waiting list.List     // of *gated that are not being served, the longest first
	room    chan struct{} // of size 1: something has changed for who waits in Accept
	closed  chan struct{}
	once    sync.Once
}

func newGate(ln net.Listener, limit int) *gate {
	return &gate{Listener: ln, max: limit, room: make(chan struct{}, 1), closed: make(chan struct{})}
}

// Accept blocks until there is a connection and room for it, or the gate is
// closed. It is for one goroutine.
func (g *gate) Accept() (net.Conn, error) {
	c, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for {
		admitted, victim := g.enter(c)
		switch {
		case admitted != nil:
			return admitted, nil
		case victim != nil:
			_ = victim.Close() // nobody is told: there was no request
			continue
		}
		select {
		case <-g.room:
		case <-g.closed:
			_ = c.Close() // it was never served
			return nil, net.ErrClosed
		}
	}
}

// enter lets c in if there is room, and else says who is to give way, if anybody.
func (g *gate) enter(c net.Conn) (admitted, victim *gated) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open >= g.max {
		if longest := g.waiting.Front(); longest != nil {
			victim = longest.Value.(*gated)
			victim.leaveLine()
			victim.evicted = true
		}
		return nil, victim
	}
	g.open++
	admitted = &gated{Conn: c, gate: g}
	admitted.place = g.waiting.PushBack(admitted)
	return admitted, nil
}

// Close stops accepting. Connections that are open stay so.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.Listener.Close()
}

// wake tells who waits in Accept to look again.
func (g *gate) wake() {
	select {
	case g.room <- struct{}{}:
	default:
	}
}

// gated is a connection that a gate has let in. Its fields are guarded by the
// gate's lock.
type gated struct {
	net.Conn
	gate    *gate
	place   *list.Element // in the line of those that wait; nil: it is being served
	evicted bool
	gone    bool
}

// leaveLine takes it out of the line. The gate's lock is held.
func (c *gated) leaveLine() {
	if c.place != nil {
		c.gate.waiting.Remove(c.place)
		c.place = nil
	}
}

// serving notes that a request is being served, and reports whether the
// connection is still there for it.
func (c *gated) serving() bool {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.leaveLine()
	return !c.evicted
}

// idle notes that the connection waits for its next request.
func (c *gated) idle() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.place == nil && !c.gone && !c.evicted {
		c.place = c.gate.waiting.PushBack(c)
		c.gate.wake()
	}
}

// Close gives the connection's place to another.
func (c *gated) Close() error {
	c.gate.mu.Lock()
	if !c.gone {
		c.gone = true
		c.gate.open--
		c.leaveLine()
		c.gate.wake()
	}
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

type gatedKey struct{}

// withGated lets handlers find the connection that their request came on.
func withGated(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, gatedKey{}, c)
}
