package sqlite

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"catbird/persistence"
)

// maxWaiting bounds how many callers wait for a connection of one pool: beyond
// it the store is overloaded, and says so at once.
const maxWaiting = 4096

var (
	errClosed   = errors.New("the store is closed")
	errTooLong  = errors.New("too many wait for a connection")
	errNoneFree = errors.New("no connection free in time")
)

// pool hands out connections in the order of asking, urgent callers first: a
// node's session must be renewed in time however many writes stand in line.
type pool struct {
	max int

	mu     sync.Mutex
	idle   []*conn
	busy   int
	urgent list.List // of *waiter
	normal list.List
	waits  int64
	closed bool
	quiet  chan struct{} // closed once the pool is closed and nothing is busy
}

// waiter waits for one connection; nil says that the pool was closed.
type waiter struct{ ready chan *conn }

func newPool(conns ...*conn) *pool {
	return &pool{max: len(conns), idle: conns, quiet: make(chan struct{})}
}

// take returns a free connection, waiting until ctx is done.
func (p *pool) take(ctx context.Context, urgent bool) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", persistence.ErrUnavailable, err)
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", persistence.ErrUnavailable, errClosed)
	}
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.busy++
		p.mu.Unlock()
		return c, nil
	}
	line := &p.normal
	if urgent {
		line = &p.urgent
	} else if line.Len() >= maxWaiting {
		p.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", persistence.ErrUnavailable, errTooLong)
	}
	w := &waiter{ready: make(chan *conn, 1)}
	place := line.PushBack(w)
	p.waits++
	p.mu.Unlock()
	return p.wait(ctx, line, place, w)
}

func (p *pool) wait(ctx context.Context, line *list.List, place *list.Element, w *waiter) (*conn, error) {
	select {
	case c := <-w.ready:
		if c == nil {
			return nil, fmt.Errorf("%w: %w", persistence.ErrUnavailable, errClosed)
		}
		return c, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	line.Remove(place) // no effect once a connection was handed over
	p.mu.Unlock()
	select {
	case c := <-w.ready:
		if c != nil {
			p.give(c)
		}
	default:
	}
	return nil, fmt.Errorf("%w: %w: %w", persistence.ErrUnavailable, errNoneFree, ctx.Err())
}

// give takes a connection back and hands it to whoever waits longest.
func (p *pool) give(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range []*list.List{&p.urgent, &p.normal} {
		if first := line.Front(); first != nil {
			line.Remove(first).(*waiter).ready <- c
			return
		}
	}
	p.busy--
	p.idle = append(p.idle, c)
	if p.closed && p.busy == 0 {
		close(p.quiet)
	}
}

// close turns everybody who waits away, waits for those who have a connection,
// and closes all connections.
func (p *pool) close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		<-p.quiet
		return nil
	}
	p.closed = true
	for _, line := range []*list.List{&p.urgent, &p.normal} {
		for first := line.Front(); first != nil; first = line.Front() {
			line.Remove(first).(*waiter).ready <- nil
		}
	}
	if p.busy == 0 {
		close(p.quiet)
	}
	p.mu.Unlock()
	<-p.quiet
	var errs []error
	for _, c := range p.idle {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

func (p *pool) stats() persistence.PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return persistence.PoolStats{Active: p.busy, Idle: len(p.idle), Max: p.max, Waits: p.waits}
}
