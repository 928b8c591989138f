package cluster

import (
	"sync/atomic"
	"time"
)

// Session is one life of this node in the database. What a node holds in
// memory under a session may be believed only while the session is trusted.
//
// It is safe for use by several goroutines at once.
type Session struct {
	id    string
	began time.Time
	// The deadline on both clocks: a suspended machine stops the monotonic one,
	// somebody who sets the time moves the other. Memory is distrusted when
	// either has passed.
	wall atomic.Int64 // Unix nanoseconds
	mono atomic.Int64 // nanoseconds since monoStart
}

var monoStart = time.Now()

// ID returns the session's id, which is never used again.
func (s *Session) ID() string { return s.id }

// Trusted reports whether at now, which must come from time.Now, what was
// loaded under this session may still be believed. It does not allocate or
// block.
func (s *Session) Trusted(now time.Time) bool {
	return now.UnixNano() < s.wall.Load() && int64(now.Sub(monoStart)) < s.mono.Load()
}

// extend moves the deadline to trust after sent. On the wall clock that may be
// back: somebody has set it back, and a deadline from before would hide that the
// machine slept.
func (s *Session) extend(sent time.Time, trust time.Duration) {
	until := sent.Add(trust)
	s.wall.Store(until.UnixNano())
	s.mono.Store(int64(until.Sub(monoStart)))
}

// end makes the session untrusted for good. Only the keeper's renewing
// goroutine calls extend and end, and Stop once that has ended.
func (s *Session) end() {
	s.wall.Store(0)
	s.mono.Store(0)
}
