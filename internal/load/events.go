package load

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"catbird/internal/client"
)

// maxEvents is how many events a run keeps; what comes after is counted only.
const maxEvents = 1000

// Event is something that happened while the load ran, for people to read.
type Event struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
	// Noted says that the engine saw it by itself, and was not told.
	Noted bool `json:"noted,omitempty"`
}

// diary keeps events. It is safe for use by several goroutines at once.
type diary struct {
	mu      sync.Mutex
	events  []Event
	dropped int64
}

func (d *diary) add(e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.events) >= maxEvents {
		d.dropped++
		return
	}
	d.events = append(d.events, e)
}

// list returns the events in the order of their times.
func (d *diary) list() []Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := slices.Clone(d.events)
	slices.SortStableFunc(out, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return out
}

// notReached is how many attempts in a row must find no answer at a node before
// that is an event.
const notReached = 3

// watcher notes when a node is not reached and when it is again.
type watcher struct {
	diary *diary

	mu    sync.Mutex
	nodes map[string]*reach
}

type reach struct {
	misses int
	since  time.Time // of the first miss
	down   bool
}

func newWatcher(d *diary) *watcher { return &watcher{diary: d, nodes: map[string]*reach{}} }

// observe looks at an attempt of a request.
func (w *watcher) observe(o client.Observation) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[o.Node]
	if n == nil {
		n = &reach{}
		w.nodes[o.Node] = n
	}
	if o.Status != 0 {
		if n.down {
			w.diary.add(Event{Time: now, Noted: true, Text: fmt.Sprintf("%s answers again after %.1f s", o.Node, now.Sub(n.since).Seconds())})
		}
		*n = reach{}
		return
	}
	if n.misses++; n.misses == 1 {
		n.since = now.Add(-o.Duration)
	}
	if n.misses >= notReached && !n.down {
		n.down = true
		w.diary.add(Event{Time: n.since, Noted: true, Text: fmt.Sprintf("%s is not reached: %s", o.Node, NameError(o.Err).Name)})
	}
}
