package rehearsal

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"catbird/internal/load"
)

// Phase is what clients saw in the course of one step.
type Phase struct {
	Name             string
	Took             time.Duration
	Requests, Failed int
	P50, P99, Max    time.Duration
	Refused          int    // evictions, by a budget
	FirstError       string // "" for none
}

// phases sort operations by what went on when they ended. Its methods may be called
// from any goroutine; all is to be read after end.
type phases struct {
	mu        sync.Mutex
	began     time.Time
	latencies []time.Duration
	now       Phase
	first     chan struct{} // closed when an operation has ended
	all       []Phase
}

// begin ends the phase that lasts, and begins another.
func (p *phases) begin(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked()
	p.now, p.began, p.latencies = Phase{Name: name}, time.Now(), nil
	p.firstLocked()
}

func (p *phases) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked()
}

func (p *phases) endLocked() {
	if p.now.Name == "" {
		return
	}
	p.now.Took = time.Since(p.began)
	slices.Sort(p.latencies)
	if n := len(p.latencies); n > 0 {
		p.now.P50, p.now.P99, p.now.Max = p.latencies[n/2], p.latencies[n*99/100], p.latencies[n-1]
	}
	p.all = append(p.all, p.now)
	p.now = Phase{}
}

func (p *phases) firstLocked() chan struct{} {
	if p.first == nil {
		p.first = make(chan struct{})
	}
	return p.first
}

// awaitFirst waits until an operation of the load has ended.
func (p *phases) awaitFirst(ctx context.Context) bool {
	p.mu.Lock()
	first := p.firstLocked()
	p.mu.Unlock()
	select {
	case <-first:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *phases) observe(o load.Operation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.firstLocked():
	default:
		close(p.first)
	}
	p.now.Requests++
	p.latencies = append(p.latencies, o.Latency())
	if o.Failed() {
		p.now.Failed++
		if p.now.FirstError == "" {
			p.now.FirstError = o.Err.Error()
		}
	}
}

// refuse counts evictions that were refused.
func (p *phases) refuse(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Refused += n
}

// Write writes the report as a table.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "step\ttook\trequests\tfailed\tp50\tp99\tlongest\trefused\t")
	for _, p := range r.Phases {
		fmt.Fprintf(t, "%s\t%.1fs\t%d\t%d\t%v\t%v\t%v\t%d\t%s\n", p.Name, p.Took.Seconds(), p.Requests, p.Failed,
			round(p.P50), round(p.P99), round(p.Max), p.Refused, p.FirstError)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range r.Findings {
		fmt.Fprintln(w, f)
	}
	if !r.Load.OK() {
		return r.Load.Write(w)
	}
	_, err := fmt.Fprintf(w, "%d messages and %d commits read back, each once, in its place\n", r.Load.Verification.Messages, r.Load.Verification.Commits)
	return err
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
