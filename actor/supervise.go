package actor

import (
	"sync"
	"time"

	"catbird/conversation"
)

const (
	firstBackoff = 100 * time.Millisecond
	// maxRestarts within restartWindow; then the conversation rests until the
	// window has passed.
	maxRestarts   = 5
	restartWindow = time.Minute
	maxCrashed    = 10_000 // conversations remembered
)

// supervisor remembers which actors crashed, and holds new ones of the same
// conversation back: exponentially longer, and after too many crashes within a
// window until the window has passed.
type supervisor struct {
	mu      sync.Mutex
	crashes map[string]*crashRecord
}

type crashRecord struct {
	windowStart time.Time
	count       int
	notBefore   time.Time
}

func (s *supervisor) init() { s.crashes = map[string]*crashRecord{} }

// crashed notes a crash.
func (s *supervisor) crashed(convo string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.crashes[convo]
	if c == nil || now.Sub(c.windowStart) > restartWindow {
		s.shrink(now)
		c = &crashRecord{windowStart: now}
		s.crashes[convo] = c
	}
	c.count++
	if c.count >= maxRestarts {
		c.notBefore = c.windowStart.Add(restartWindow)
		return
	}
	c.notBefore = now.Add(firstBackoff << (c.count - 1))
}

// shrink makes room, for more than one: what has passed goes first, then
// anything.
func (s *supervisor) shrink(now time.Time) {
	if len(s.crashes) < maxCrashed {
		return
	}
	for convo, c := range s.crashes {
		if now.Sub(c.windowStart) > restartWindow {
			delete(s.crashes, convo)
		}
	}
	for convo := range s.crashes {
		if len(s.crashes) < maxCrashed*7/8 {
			return
		}
		delete(s.crashes, convo)
	}
}

// allow refuses a conversation that is held back.
func (s *supervisor) allow(convo string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.crashes[convo]
	if c == nil || !now.Before(c.notBefore) {
		return nil
	}
	return conversation.Refuse(conversation.Unavailable, "the conversation failed and is held back for a moment")
}
