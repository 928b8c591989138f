package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = time.Second
	// plainFor is how long a peer that cannot be asked over a stream is asked by
	// plain requests before a stream is tried again.
	plainFor = time.Minute
)

var errSilent = errors.New("peer does not react")

// lane is the way to one peer for questions of one sort: a queue, and the
// stream that it flows into. A stream that must end takes no more questions but
// stays, beside the next one, until its answers have come.
//
//	         Ask, none there            handshake done
//	nothing ---------------> dialing ------------------> open
//	  ^  ^                      |                        |  |
//	  |  '-- refused: back off -'      lost, or leaving  |  | the peer goes away,
//	  '---------------------------------------------------  | idle, or used up
//	  '--- leaving (answers still come) <-------------------'
type lane struct {
	remote  *remote
	client  *Client
	purpose purpose

	mu         sync.Mutex
	queue      []*call
	queueBytes int
	stream     *stream   // takes questions; nil: none
	leaving    []*stream // take none any more
	dialing    bool
	closed     bool
	backoff    time.Duration // after the last failure, 0: none
	retryAt    time.Time
	refused    error // why, until retryAt
	plainUntil time.Time
}

func (l *lane) ask(ctx context.Context, q *Question, size int) (Answer, error) {
	c := l.client.calls.get(ctx, q, size)
	if err := l.submit(c); err != nil {
		return Answer{}, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if kind := l.abandon(c); kind != nil {
			return Answer{}, fail(kind, context.Cause(ctx))
		}
		<-c.done
	}
	if c.err != nil {
		return Answer{}, c.err
	}
	a := c.answer
	l.client.calls.put(c)
	return a, nil
}

// submit queues c and sees to it that there is, or will be, a stream.
func (l *lane) submit(c *call) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fail(ErrUnreachable, ErrClosed)
	}
	if l.stream == nil && !l.dialing {
		if err := l.dialLocked(); err != nil {
			return err
		}
	}
	cfg := &l.client.cfg
	if len(l.queue) >= cfg.MaxQueued || len(l.queue) > 0 && l.queueBytes+c.size > cfg.MaxQueuedBytes {
		return fail(ErrBusy, fmt.Errorf("%d questions of %d bytes wait", len(l.queue), l.queueBytes))
	}
	c.state = callQueued
	l.queue = append(l.queue, c)
	l.queueBytes += c.size
	if l.stream != nil {
		l.stream.wakeUp()
	}
	return nil
}

// abandon ends c from the side of Ask: it returns ErrUnreachable for a call
// that was not written, ErrLost for one that was, and nil for one that has
// ended, whose done is, or will at once be, there.
func (l *lane) abandon(c *call) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch c.state {
	case callQueued:
		c.state = callEnded
		if i := slices.Index(l.queue, c); i >= 0 {
			l.queue = slices.Delete(l.queue, i, i+1)
			l.queueBytes -= c.size
		}
		return ErrUnreachable
	case callSent:
		c.state = callEnded
		delete(c.stream.calls, c.id)
		c.stream.cancelLocked(c.id)
		return ErrLost
	default:
		return nil
	}
}

// takeLocked moves calls from the queue to batch, about limit bytes and at
// most n.
func (l *lane) takeLocked(batch []*call, n, limit int) []*call {
	taken, size := 0, 0
	for taken < min(n, len(l.queue)) && size < limit {
		size += l.queue[taken].size
		taken++
	}
	batch = append(batch, l.queue[:taken]...)
	l.queueBytes -= size
	if taken == len(l.queue) {
		clear(l.queue)
		l.queue = l.queue[:0]
	} else {
		l.queue = slices.Delete(l.queue, 0, taken)
	}
	return batch
}

// failQueueLocked ends everything that waits in the queue.
func (l *lane) failQueueLocked(err error) {
	for _, c := range l.queue {
		c.state = callEnded
		c.end(Answer{}, err)
	}
	clear(l.queue)
	l.queue, l.queueBytes = l.queue[:0], 0
}

// dialLocked starts to connect, or says why it is not worth trying now.
func (l *lane) dialLocked() error {
	now := time.Now()
	if now.Before(l.plainUntil) {
		return errNoStream
	}
	if now.Before(l.retryAt) {
		return fail(ErrUnreachable, l.refused)
	}
	l.dialing = true
	l.client.wg.Go(l.dial)
	return nil
}

// redialLocked sees to what is left in the queue when the stream has ended:
// none of it was written.
func (l *lane) redialLocked() {
	if len(l.queue) == 0 || l.dialing || l.stream != nil {
		return
	}
	if l.closed {
		l.failQueueLocked(fail(ErrUnreachable, ErrClosed))
	} else if err := l.dialLocked(); err != nil {
		l.failQueueLocked(err)
	}
}

func (l *lane) dial() {
	ctx, cancel := context.WithTimeout(l.client.ctx, l.client.cfg.DialTimeout)
	defer cancel()
	s, err := l.client.connect(ctx, l.remote.address, l.purpose)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dialing = false
	switch {
	case l.closed:
		if err == nil {
			s.close()
		}
		l.failQueueLocked(fail(ErrUnreachable, ErrClosed))
	case err == nil:
		l.remote.named(s.node)
		l.stream = newStream(l, s)
		l.stream.start()
		l.log("connected to peer", "stream", l.purpose.String())
	case errors.Is(err, errNoStream):
		l.plainUntil = time.Now().Add(plainFor)
		l.failQueueLocked(errNoStream)
		l.log("peer has no stream of ours, asking it by plain requests", "reason", err)
	default:
		l.backOffLocked(err)
		l.failQueueLocked(fail(ErrUnreachable, err))
	}
	l.remote.metrics.Load().connected(err)
}

// backOffLocked makes the lane refuse to connect for a while.
func (l *lane) backOffLocked(err error) {
	if l.backoff == 0 {
		l.client.log.Warn("cannot reach peer", "peer", l.remote.name(), "address", l.remote.address, "error", err)
	}
	l.backoff = min(max(2*l.backoff, firstBackoff), lastBackoff)
	l.refused = err
	l.retryAt = time.Now().Add(l.backoff/2 + rand.N(l.backoff/2))
}

func (l *lane) log(msg string, args ...any) {
	l.client.log.Info(msg, append([]any{"peer", l.remote.name(), "address", l.remote.address}, args...)...)
}

// detachLocked lets s take no more questions; it ends when its answers are
// there.
func (l *lane) detachLocked(s *stream) {
	if l.stream != s {
		return
	}
	l.stream = nil
	l.leaving = append(l.leaving, s)
	s.finishLocked()
	l.redialLocked()
}

// endedLocked takes out a stream that has ended for err; graceful says that
// nothing was lost.
func (l *lane) endedLocked(s *stream, err error, graceful bool) {
	l.leaving = slices.DeleteFunc(l.leaving, func(o *stream) bool { return o == s })
	if l.stream == s {
		l.stream = nil
		if !s.proven {
			l.backOffLocked(err)
		}
	}
	if !graceful {
		l.log("lost connection to peer", "stream", l.purpose.String(), "error", err)
	}
	l.redialLocked()
}

// tick is called by the watch at every interval. It returns how many questions
// wait.
func (l *lane) tick() (waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var silent []*stream
	for _, s := range l.streamsLocked() {
		if s.silentLocked() {
			silent = append(silent, s)
		}
	}
	for _, s := range silent {
		s.endLocked(errSilent)
	}
	if s := l.stream; s != nil && (s.idleLocked() || s.session.usedUp()) {
		l.detachLocked(s)
	}
	return len(l.queue)
}

// streamsLocked returns all streams of the lane, in a slice of the caller's.
func (l *lane) streamsLocked() []*stream {
	if l.stream == nil && len(l.leaving) == 0 {
		return nil
	}
	out := slices.Clone(l.leaving)
	if l.stream != nil {
		out = append(out, l.stream)
	}
	return out
}

// quiet reports whether nothing goes on in the lane.
func (l *lane) quiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream == nil && !l.dialing && len(l.leaving) == 0 && len(l.queue) == 0
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, s := range l.streamsLocked() {
		s.endLocked(ErrClosed)
	}
	if !l.dialing {
		l.failQueueLocked(fail(ErrUnreachable, ErrClosed))
	}
}
