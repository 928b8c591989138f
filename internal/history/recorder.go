package history

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"sync"
	"time"
)

// Recorder takes down what clients see. All methods may be called at once from
// any goroutine; none waits for anything but the disk.
//
// It keeps the whole history in memory, some 300 bytes for each operation and
// 150 for each row of a page: who makes the requests bounds their number.
type Recorder struct {
	clock func() time.Duration

	mu   sync.Mutex // of what follows
	next int64
	out  *lineWriter // nil: kept in memory only
	err  error       // the first that writing met
	open map[*Pending]struct{}
	h    History
}

// RecorderConfig configures a Recorder. The zero value is useful.
type RecorderConfig struct {
	// Out gets every record as a line of JSON when it is complete, see [Read];
	// nil: none.
	Out io.Writer
	// Clock says how much time has passed since some instant; it must not go
	// backwards. nil: the monotonic clock, from the call of NewRecorder.
	Clock func() time.Duration
}

// NewRecorder returns a Recorder with an empty history.
func NewRecorder(cfg RecorderConfig) *Recorder {
	r := &Recorder{clock: cfg.Clock, open: map[*Pending]struct{}{}}
	if r.clock == nil {
		start := time.Now()
		r.clock = func() time.Duration { return time.Since(start) }
	}
	if cfg.Out != nil {
		r.out = &lineWriter{w: bufio.NewWriterSize(cfg.Out, 64<<10)}
	}
	return r
}

// Now is the time on the recorder's clock, for those who record tenures.
func (r *Recorder) Now() time.Duration { return r.clock() }

// Start records how a conversation is before anybody asks for it.
func (r *Recorder) Start(c Convo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Convos = append(r.h.Convos, c)
	r.write(record{Convo: &c})
}

// Serving records that a node served a conversation from memory.
func (r *Recorder) Serving(t Tenure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Tenures = append(r.h.Tenures, t)
	r.write(record{Tenure: &t})
}

// Pending is an operation that has not returned.
type Pending struct {
	r  *Recorder
	op Op
}

// Invoke records that a request is about to be sent. ID, Call, Return and
// Output of op are not looked at. Every Pending is to be returned; one that is
// not counts as unknown.
func (r *Recorder) Invoke(op Op) *Pending {
	p := &Pending{r: r, op: op}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	p.op.ID = r.next
	p.op.Output = Lost()
	r.open[p] = struct{}{}
	p.op.Call = r.clock()
	return p
}

// Return records what became of the request, at the moment of the call. The
// first call counts.
func (p *Pending) Return(out Output) {
	now := p.r.clock() // before the lock: others may hold it
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.r.finish(p, out, now)
}

func (r *Recorder) finish(p *Pending, out Output, now time.Duration) {
	if _, open := r.open[p]; !open {
		return
	}
	delete(r.open, p)
	p.op.Output, p.op.Return = out, now
	r.h.Ops = append(r.h.Ops, p.op)
	r.write(record{Op: &p.op})
}

// History returns what is recorded so far, what is still pending left out. The
// slices are the caller's; what they refer to must not be changed.
func (r *Recorder) History() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return History{Convos: slices.Clone(r.h.Convos), Ops: slices.Clone(r.h.Ops), Tenures: slices.Clone(r.h.Tenures)}
}

// Close records what is still pending as unknown and flushes what is to be
// written. It returns the first error that writing met; the history in memory
// is whole all the same. Out is the caller's to close. What is recorded after
// Close may not be written.
func (r *Recorder) Close() error {
	now := r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	left := make([]*Pending, 0, len(r.open))
	for p := range r.open {
		left = append(left, p)
	}
	slices.SortFunc(left, func(a, b *Pending) int { return int(a.op.ID - b.op.ID) })
	for _, p := range left {
		r.finish(p, Lost(), now)
	}
	if r.out == nil {
		return nil
	}
	return errors.Join(r.err, r.out.flush())
}

// write is called with the lock held.
func (r *Recorder) write(rec record) {
	if r.out == nil || r.err != nil {
		return
	}
	r.err = r.out.write(rec)
}
