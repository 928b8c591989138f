package router

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"catbird/conversation"
	"catbird/router/wire"
)

// inFlight bounds the requests in work, in number and in bytes held (rule 24 of
// docs/architecture.md). It never makes anybody wait.
type inFlight struct {
	maxRequests, maxBytes int64
	requests, bytes       atomic.Int64
}

func (f *inFlight) enter() bool {
	if f.requests.Add(1) > f.maxRequests {
		f.requests.Add(-1)
		return false
	}
	return true
}

// leave gives back what the call took.
func (f *inFlight) leave(c *call) {
	f.requests.Add(-1)
	f.bytes.Add(-c.held)
	c.held = 0
}

// hold counts n more bytes to the call, until it ends.
func (f *inFlight) hold(c *call, n int64) error {
	if f.bytes.Add(n) > f.maxBytes {
		f.bytes.Add(-n)
		return conversation.Refuse(conversation.Overloaded, "too many bytes are in work")
	}
	c.held += n
	return nil
}

// limitRate takes the call out of its caller's rate and says what is left.
func (rt *Router) limitRate(c *call) error {
	if rt.limiter == nil {
		return nil
	}
	q := rt.limiter.Take(c.caller)
	h := c.writer.Header()
	h.Set("RateLimit-Limit", strconv.Itoa(q.Limit))
	h.Set("RateLimit-Remaining", strconv.Itoa(q.Remaining))
	h.Set("RateLimit-Reset", seconds(q.Reset))
	if q.OK {
		return nil
	}
	h.Set("Retry-After", seconds(q.Retry))
	return conversation.Refuse(conversation.RateLimitExceeded, "too many requests; try again in %s s", seconds(q.Retry))
}

// unreadBody is how long the rest of a body may take that nobody has asked for:
// net/http reads it before it sends the answer, so that the connection can be
// used again.
const unreadBody = time.Second

// leaveBody keeps a client that holds back its body from holding up its answer,
// and with it the connection. What does not come ends the connection.
func (c *call) leaveBody() {
	if c.bodyRead || c.request.ContentLength == 0 {
		return
	}
	// Without support for deadlines (tests), the server's own time-outs hold.
	_ = http.NewResponseController(c.writer).SetReadDeadline(time.Now().Add(unreadBody))
}

// firstRead is how much is read at first of a body whose length nobody said.
const firstRead = 16 << 10

// slowBody is how long a body may take to come in before that is not counted
// to the call's time any more.
const slowBody = time.Second

// withBody reads the body, hands it to decode and takes it back: what decode
// keeps must share no memory with it.
func (rt *Router) withBody(c *call, decode func([]byte) error) error {
	controller := http.NewResponseController(c.writer)
	// Without support for deadlines (tests), the server's own time-outs hold.
	start := time.Now()
	_ = controller.SetReadDeadline(start.Add(rt.config.RequestTimeout))
	b := buffers.Get().(*bytes.Buffer)
	defer putBuffer(b)
	c.bodyRead = true // or is late, or too long
	if err := rt.readBody(c, b); err != nil {
		return bodyError(err, c.endpoint.maxBody)
	}
	_ = controller.SetReadDeadline(time.Time{})
	if time.Since(start) > slowBody {
		c.startTime(rt.config.RequestTimeout)
	}
	return decode(b.Bytes())
}

// readBody reads the body into b and holds its bytes. Memory is taken for what
// the client says is coming, but never beyond what is held.
func (rt *Router) readBody(c *call, b *bytes.Buffer) error {
	limit := c.endpoint.maxBody
	if c.request.ContentLength > limit {
		return &http.MaxBytesError{Limit: limit}
	}
	body := http.MaxBytesReader(c.writer, c.request.Body, limit)
	chunk := c.request.ContentLength
	if chunk < 0 {
		chunk = firstRead
	}
	for {
		if err := rt.inFlight.hold(c, chunk); err != nil {
			return err
		}
		b.Grow(int(chunk) + bytes.MinRead) // ReadFrom grows by itself where less is free
		n, err := b.ReadFrom(io.LimitReader(body, chunk))
		if err != nil {
			return err
		}
		if n < chunk || c.request.ContentLength >= 0 {
			return nil
		}
		chunk = int64(b.Len()) // twice as much as before
	}
}

func bodyError(err error, limit int64) error {
	var tooLong *http.MaxBytesError
	var told *conversation.Error
	switch {
	case errors.As(err, &tooLong):
		return conversation.Refuse(conversation.MessageTooLarge, "body: more than %d bytes", limit)
	case errors.As(err, &told):
		return told
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &wire.Error{Field: "body", Problem: "took too long to come in"}
	default:
		return &wire.Error{Field: "body", Problem: "ended early"}
	}
}
