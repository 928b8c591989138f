package actor

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// phase is where an actor is in its life, see the package comment.
type phase uint8

const (
	loading phase = iota
	active
	releasing // what comes now is told to ask again
	gone
)

// actor is one conversation in memory. While it is idle this struct, its
// snapshot and its place in the registry are all there is of it.
type actor struct {
	convo string
	snap  atomic.Pointer[snapshot] // nil: nothing is known, load first
	used  atomic.Int64             // Unix nanoseconds of the last use

	mu      sync.Mutex
	phase   phase
	running bool // a goroutine works on the mailbox
	box     *mailbox
	// fresh is set until the first load, for the log.
	fresh bool
	// ended is closed when a busy actor that was told to release is gone; nil
	// while nobody asked for that.
	ended chan struct{}
}

func newActor(convo string, now time.Time) *actor {
	a := &actor{convo: convo, fresh: true}
	a.used.Store(now.UnixNano())
	return a
}

// enqueue puts l into the mailbox. start says that the caller must start a
// goroutine for the actor.
func (a *actor) enqueue(l *letter, maxLetters, maxBytes int) (start bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.phase {
	case gone:
		return false, errGone
	case releasing:
		return false, ErrMoving
	}
	if a.box == nil {
		a.box = &mailbox{}
	}
	if !a.box.put(l, maxLetters, maxBytes) {
		return false, errMailboxFull
	}
	start = !a.running
	a.running = true
	return start, nil
}

// next takes the next batch. With nothing left the actor comes to rest, or, if
// it is to be released, is marked as gone: "empty, so release" and enqueue
// exclude each other.
func (a *actor) next(maxRows, maxBytes int) (batch []*letter, end bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.box == nil || len(a.box.letters) == 0 {
		a.box = nil
		a.running = false
		if a.phase == releasing {
			a.goLocked()
			return nil, true
		}
		return nil, false
	}
	return a.box.take(maxRows, maxBytes), false
}

// release begins the actor's end. done says that it is idle and has ended here
// and now; otherwise its goroutine ends it after the batch it works on, and
// what still waits, which is returned, is to be told to ask again.
func (a *actor) release() (done bool, waiting []*letter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase == gone {
		return false, nil
	}
	if !a.running {
		a.goLocked()
		return true, nil
	}
	a.phase = releasing
	if a.ended == nil {
		a.ended = make(chan struct{})
	}
	return false, a.drain()
}

// releaseIfIdle ends the actor if nothing is going on.
func (a *actor) releaseIfIdle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.idleLocked() {
		return false
	}
	a.goLocked()
	return true
}

// goLocked marks the actor as gone, and its memory with it: from now on another
// actor of the conversation may change it, and a reader that has found this one
// before must not be told what was.
func (a *actor) goLocked() {
	a.phase = gone
	a.drop()
}

// drop forgets what is known of the conversation, but for the claim.
func (a *actor) drop() {
	if s := a.snap.Load(); s != nil && !s.void {
		a.snap.Store(s.without())
	}
}

// idleLocked includes actors that never came to load: whoever asked gave up
// before.
func (a *actor) idleLocked() bool {
	return !a.running && (a.phase == active || a.phase == loading)
}

// awaitEnd waits until an actor that was told to release while it was busy is
// gone and its claim is given back.
func (a *actor) awaitEnd(ctx context.Context) error {
	a.mu.Lock()
	ended := a.ended
	a.mu.Unlock()
	if ended == nil {
		return nil
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tellEnded wakes those who wait for the end.
func (a *actor) tellEnded() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended != nil {
		close(a.ended)
		a.ended = nil
	}
}

// end marks the actor as gone whatever it was doing, and returns what waited.
func (a *actor) end() []*letter {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.goLocked()
	a.running = false
	return a.drain()
}

func (a *actor) drain() []*letter {
	if a.box == nil {
		return nil
	}
	waiting := a.box.letters
	a.box = nil
	return waiting
}

// loaded notes that the conversation was loaded and reports whether that was
// for the first time.
func (a *actor) loaded() (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase == loading {
		a.phase = active
	}
	first, a.fresh = a.fresh, false
	return first
}

// idle reports whether nothing is going on, and since when.
func (a *actor) idle() (since int64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used.Load(), a.idleLocked()
}

func (a *actor) waiting() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.box == nil {
		return 0
	}
	return len(a.box.letters)
}
