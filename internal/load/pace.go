package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// pace says when operations begin. In an open loop the n-th is due at
// start + n/rate, whatever became of those before it; in a closed one, when a
// client asks for it.
type pace struct {
	start, end time.Time
	gap        float64 // nanoseconds from one to the next; 0: a closed loop
	stop       <-chan struct{}
	next       atomic.Int64
}

func newPace(start time.Time, d time.Duration, rate float64, stop <-chan struct{}) *pace {
	p := &pace{start: start, end: start.Add(d), stop: stop}
	if rate > 0 {
		p.gap = float64(time.Second) / rate
	}
	return p
}

// take waits until the next operation is to begin and returns its number and
// when it was due. ok is false when there are no more. There is no queue: where
// all clients are busy, take is called late, and due says by how much.
func (p *pace) take(ctx context.Context) (n int64, due time.Time, ok bool) {
	if p.stopped(ctx) || !time.Now().Before(p.end) {
		return 0, due, false
	}
	n = p.next.Add(1) - 1
	if p.gap == 0 {
		return n, time.Now(), true
	}
	due = p.due(n)
	if !due.Before(p.end) {
		return n, due, false
	}
	wait := time.Until(due)
	if wait <= 0 {
		return n, due, true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return n, due, true
	case <-p.stop:
	case <-ctx.Done():
	}
	return n, due, false
}

func (p *pace) due(n int64) time.Time { return p.start.Add(time.Duration(float64(n) * p.gap)) }

func (p *pace) stopped(ctx context.Context) bool {
	select {
	case <-p.stop:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// skipped returns how many operations were due by now and never begun; taken are
// those that were.
func (p *pace) skipped(now time.Time, begun int64) int64 {
	if p.gap == 0 {
		return 0
	}
	if now.After(p.end) {
		now = p.end
	}
	due := int64(0)
	if now.After(p.start) {
		due = int64(float64(now.Sub(p.start))/p.gap) + 1
		if !p.due(due - 1).Before(p.end) { // the last one would be due at the end
			due--
		}
	}
	return max(due-begun, 0)
}

// run has clients take operations and do them until there are no more, and
// returns when all are done.
func (p *pace) run(ctx context.Context, clients int, do func(n int64, due time.Time)) (begun int64) {
	var count atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for {
				n, due, ok := p.take(ctx)
				if !ok {
					return
				}
				count.Add(1)
				do(n, due)
			}
		})
	}
	wg.Wait()
	return count.Load()
}
