package peer

import (
	"context"
	"sync"
	"time"
)

// callState is where a call stands.
type callState uint8

const (
	callNew    callState = iota
	callQueued           // in its lane's queue: certainly not received
	callSent             // given to a stream: may have been received
	callEnded            // answer or err are set
)

// call is one question under way. The lane's lock guards it, except that who
// takes from done owns answer and err.
type call struct {
	q        Question
	deadline time.Time // zero: none
	size     int

	state  callState
	stream *stream // once sent
	id     uint64  // in that stream

	done   chan struct{} // of size 1
	answer Answer
	err    error
}

// calls hands out calls. The zero value is ready.
type calls struct{ pool sync.Pool }

func (p *calls) get(ctx context.Context, q *Question, size int) *call {
	c, _ := p.pool.Get().(*call)
	if c == nil {
		c = &call{done: make(chan struct{}, 1)}
	}
	c.q, c.size = *q, size
	c.deadline, _ = ctx.Deadline()
	return c
}

// put takes a call back. Only one that was answered: one that failed may still
// be in the hands of the goroutine that writes.
func (p *calls) put(c *call) {
	*c = call{done: c.done}
	p.pool.Put(c)
}

// end is called once, by who has set the state to callEnded.
func (c *call) end(a Answer, err error) {
	c.answer, c.err = a, err
	c.done <- struct{}{}
}

// left returns the time to the deadline, negative if there is none.
func (c *call) left(now time.Time) time.Duration {
	if c.deadline.IsZero() {
		return -1
	}
	return max(c.deadline.Sub(now), 0)
}
