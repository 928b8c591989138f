package memstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"catbird/persistence"
)

// Op names a method of the store.
type Op string

// The methods of the store.
const (
	StartSession Op = "start session"
	RenewSession Op = "renew session"
	LiveSessions Op = "live sessions"
	EndStalled   Op = "end stalled"
	EndSession   Op = "end session"
	Want         Op = "want"
	Wanted       Op = "wanted"
	Claim        Op = "claim"
	Release      Op = "release"
	Append       Op = "append"
	Lookup       Op = "lookup"
	Direct       Op = "direct"
	Create       Op = "create"
	Fold         Op = "fold"
	ResetUnread  Op = "reset unread"
	Epoch        Op = "epoch"
)

// reads are the methods that change nothing: a lost reply leaves nothing in
// doubt.
var reads = map[Op]bool{LiveSessions: true, Lookup: true, Epoch: true}

// Call is a statement that is about to be sent.
type Call struct {
	Op Op
	// Session is whose session the statement is about, "" where it is about
	// none.
	Session string
	// Convos are the conversations that it is about.
	Convos []string
}

// Fate is what becomes of a statement.
type Fate uint8

// The fates of a statement.
const (
	// Runs and is answered.
	Runs Fate = iota
	// ReplyLost: it runs, and the caller never learns of it.
	ReplyLost
	// RequestLost: it does not run, and the caller never learns that.
	RequestLost
	// RunsLater: the caller is told at once that contact is lost, and the
	// statement runs all the same when [Fault.Hold] is closed or Before has
	// passed.
	RunsLater
	// Refused: it does not run, and the caller gets [Fault.Err].
	Refused
	// PanicsBefore: the call panics without having run.
	PanicsBefore
	// PanicsAfter: it runs, and then the call panics.
	PanicsAfter
)

// Fault says how a statement fares. The zero value is no fault.
type Fault struct {
	Fate Fate
	Err  error // for Refused; nil is persistence.ErrUnavailable

	// Before is how long the statement takes to the database, Hold holds it up
	// there until it is closed, and After is how long the reply takes. A caller
	// whose context ends meanwhile gives up; the statement does not.
	Before time.Duration
	Hold   <-chan struct{}
	After  time.Duration
}

// SetFaults lets f decide the fate of every statement that is sent from now on.
// It is called from many goroutines at once; nil ends all faults.
func (s *Store) SetFaults(f func(Call) Fault) {
	if f == nil {
		f = func(Call) Fault { return Fault{} }
	}
	s.faults.Store(&f)
}

// Fail gives each statement of a kind its fault in turn, and none to those
// beyond, instead of what SetFaults did.
func (s *Store) Fail(op Op, faults ...Fault) {
	var mu sync.Mutex
	s.SetFaults(func(c Call) Fault {
		mu.Lock()
		defer mu.Unlock()
		if c.Op != op || len(faults) == 0 {
			return Fault{}
		}
		f := faults[0]
		faults = faults[1:]
		return f
	})
}

// FailAlways gives every statement of a kind a fault, instead of what SetFaults did.
func (s *Store) FailAlways(op Op, fault Fault) {
	s.SetFaults(func(c Call) Fault {
		if c.Op == op {
			return fault
		}
		return Fault{}
	})
}

// Wait waits until every statement has run, those that nobody waits for
// included.
func (s *Store) Wait() { s.running.Wait() }

// Calls returns how many statements of a kind were sent.
func (s *Store) Calls(op Op) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// lost is what a caller learns who gets no reply.
func lost(op Op) error {
	if reads[op] {
		return fmt.Errorf("%s: %w: no reply", op, persistence.ErrUnavailable)
	}
	return fmt.Errorf("%s: %w: no reply", op, persistence.ErrOutcomeUnknown)
}

type outcome[T any] struct {
	value T
	err   error
}

// exec sends a statement. do runs under the store's lock.
func exec[T any](ctx context.Context, s *Store, c Call, do func() (T, error)) (T, error) {
	var none T
	s.mu.Lock()
	s.calls[c.Op]++
	s.mu.Unlock()
	f := (*s.faults.Load())(c)
	if err := ctx.Err(); err != nil { // the driver does not even send it
		return none, fmt.Errorf("%s: %w: %w", c.Op, persistence.ErrUnavailable, err)
	}
	switch f.Fate {
	case Refused:
		return none, refuse(ctx, c.Op, f)
	case PanicsBefore:
		panic("memstore: " + string(c.Op) + " panics before it has run")
	}
	if f.Before == 0 && f.Hold == nil && f.After == 0 && f.Fate == Runs {
		s.mu.Lock()
		defer s.mu.Unlock()
		return do()
	}
	reply := make(chan outcome[T], 1)
	s.running.Go(func() { run(s, f, do, reply) })
	if f.Fate == RunsLater {
		return none, lost(c.Op)
	}
	select {
	case o := <-reply:
		switch f.Fate {
		case ReplyLost, RequestLost:
			return none, lost(c.Op)
		case PanicsAfter:
			panic("memstore: " + string(c.Op) + " panics after it has run")
		}
		return o.value, o.err
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", lost(c.Op), ctx.Err())
	}
}

func refuse(ctx context.Context, op Op, f Fault) error {
	pause(ctx, f.Before)
	if f.Err != nil {
		return f.Err
	}
	return fmt.Errorf("%s: %w", op, persistence.ErrUnavailable)
}

// run is a statement's way: to the database, through it, and back. Nobody can
// call it back.
func run[T any](s *Store, f Fault, do func() (T, error), reply chan<- outcome[T]) {
	pause(context.Background(), f.Before)
	if f.Hold != nil {
		<-f.Hold
	}
	var o outcome[T]
	if f.Fate != RequestLost {
		s.mu.Lock()
		o.value, o.err = do()
		s.mu.Unlock()
	}
	pause(context.Background(), f.After)
	reply <- o
}

func pause(ctx context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
