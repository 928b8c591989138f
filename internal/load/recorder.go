package load

import (
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"catbird/internal/client"
)

const (
	// Histograms hold latencies from a microsecond to an hour, whatever is longer
	// as that; those of the whole run within 0.1 %, those of an interval within
	// 1 %.
	longest        = time.Hour
	digits         = 3
	intervalDigits = 2

	// maxSamples is about how many intervals a run is cut into, maxErrorNames
	// how many names of errors are told apart.
	maxSamples    = 600
	maxErrorNames = 200
)

// intervals are the lengths that the intervals of a run may have.
var intervals = []time.Duration{
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
}

func intervalFor(d time.Duration) time.Duration {
	for _, i := range intervals {
		if d/i <= maxSamples {
			return i
		}
	}
	return intervals[len(intervals)-1]
}

// latencies is a histogram of bounded size. It is not safe for use by several
// goroutines at once.
type latencies struct{ h *hdrhistogram.Histogram }

func newLatencies(digits int) latencies {
	return latencies{hdrhistogram.New(1, longest.Microseconds(), digits)}
}

func (l latencies) record(d time.Duration) {
	_ = l.h.RecordValue(min(max(d, time.Microsecond), longest).Microseconds()) // in range, so it fits
}

// quantile returns the latency that the share q of 100 stayed within.
func (l latencies) quantile(q float64) float64 {
	if l.h.TotalCount() == 0 {
		return 0
	}
	return millis(time.Duration(l.h.ValueAtQuantile(q)) * time.Microsecond)
}

func (l latencies) max() float64 { return millis(time.Duration(l.h.Max()) * time.Microsecond) }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// track is what was measured of one operation, or of all.
type track struct {
	ok, conflicts, failed int64
	whole, interval       latencies
	sum                   time.Duration
	current               Sample // counts of the interval
	series                []Sample
}

func newTrack() *track {
	return &track{whole: newLatencies(digits), interval: newLatencies(intervalDigits)}
}

func (t *track) record(o *Operation) {
	switch {
	case o.Conflict:
		t.conflicts++
		t.current.Conflicts++
	case o.Err != nil:
		t.failed++
		t.current.Failed++
	default:
		t.ok++
		t.current.OK++
	}
	t.whole.record(o.Latency())
	t.interval.record(o.Latency())
	t.sum += o.Latency()
}

// turn ends an interval.
func (t *track) turn() {
	s := t.current
	s.P50, s.P99, s.Max = t.interval.quantile(50), t.interval.quantile(99), t.interval.max()
	t.series = append(t.series, s)
	t.current = Sample{}
	t.interval.h.Reset()
}

type errorKey struct {
	op   string
	name ErrorName
}

type errorCount struct {
	count   int64
	example string
}

// errorCounts counts errors by name, and keeps an example of each.
type errorCounts map[errorKey]*errorCount

func (c errorCounts) add(op string, err error) {
	key := errorKey{op, NameError(err)}
	if c[key] == nil {
		if len(c) >= maxErrorNames {
			key = errorKey{"", ErrorName{Origin: FromHere, Name: "others"}}
		}
		if c[key] == nil {
			c[key] = &errorCount{example: err.Error()}
		}
	}
	c[key].count++
}

// recorder measures a run. It is safe for use by several goroutines at once.
type recorder struct {
	every time.Duration

	mu         sync.Mutex
	start      time.Time // zero: not measuring
	last       time.Time // when the latest operation ended
	recent     latencies // since the last standing
	all        *track
	byOp       map[Op]*track
	errors     errorCounts
	attempts   errorCounts
	requests   int64
	repeated   int64
	nodes      map[string]*NodeCount
	late       int64 // operations that found all clients busy
	latest     time.Duration
	neverBegun int64 // due, and never begun
}

// lateness is from when on an operation counts as begun late.
const lateness = 10 * time.Millisecond

func newRecorder(cfg *Config) *recorder {
	r := &recorder{
		every: intervalFor(cfg.Duration), recent: newLatencies(intervalDigits), all: newTrack(), byOp: map[Op]*track{},
		errors: errorCounts{}, attempts: errorCounts{}, nodes: map[string]*NodeCount{},
	}
	for _, op := range Ops() {
		r.byOp[op] = newTrack()
	}
	return r
}

// begin starts measuring.
func (r *recorder) begin(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.start, r.last = at, at
}

// record takes an operation that has ended.
func (r *recorder) record(o *Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turnTo(o.Done)
	if o.Done.After(r.last) {
		r.last = o.Done
	}
	r.recent.record(o.Latency())
	r.all.record(o)
	r.byOp[o.Op].record(o)
	if late := o.Sent.Sub(o.Due); late > lateness {
		r.late++
		r.latest = max(r.latest, late)
	}
	if o.Err != nil {
		r.errors.add(string(o.Op), o.Err)
	}
}

// turnTo ends the intervals that are over at at. One that ended with nothing in
// it has a sample too.
func (r *recorder) turnTo(at time.Time) {
	for at.Sub(r.start) >= time.Duration(len(r.all.series)+1)*r.every {
		r.all.turn()
		for _, t := range r.byOp {
			t.turn()
		}
	}
}

// attempt takes an attempt of a request.
func (r *recorder) attempt(o client.Observation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.start.IsZero() {
		return
	}
	n := r.nodes[o.Node]
	if n == nil {
		n = &NodeCount{URL: o.Node}
		r.nodes[o.Node] = n
	}
	r.requests++
	n.Requests++
	if o.Attempt > 1 {
		r.repeated++
	}
	if o.Err == nil {
		return
	}
	if o.Status == 0 {
		n.Unanswered++
	}
	r.attempts.add(o.Endpoint, o.Err)
}

// skipped enters operations that were due and never begun.
func (r *recorder) skipped(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.neverBegun += n
}

// end stops measuring.
func (r *recorder) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.byOp {
		t.turn()
	}
	r.all.turn()
}

// standing sums up for the progress, with the latencies since it was called last.
func (r *recorder) standing() (p Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.OK, p.Conflicts, p.Failed, p.Late = r.all.ok, r.all.conflicts, r.all.failed, r.late
	p.P50, p.P99, p.Max = r.recent.quantile(50), r.recent.quantile(99), r.recent.max()
	r.recent.h.Reset()
	return p
}

// counted returns the error counts, the most frequent first.
func (c errorCounts) counted() []ErrorCount {
	out := make([]ErrorCount, 0, len(c))
	for key, n := range c {
		out = append(out, ErrorCount{Operation: key.op, ErrorName: key.name, Count: n.count, Example: n.example})
	}
	slices.SortFunc(out, func(a, b ErrorCount) int {
		switch {
		case a.Count != b.Count:
			return int(b.Count - a.Count)
		case a.Operation != b.Operation:
			return compare(a.Operation, b.Operation)
		default:
			return compare(a.Name, b.Name)
		}
	})
	return out
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}
