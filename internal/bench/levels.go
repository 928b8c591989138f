package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
)

// Level is how much of a resource a node used in the course of a load.
type Level struct {
	Node, Resource string
	// The medians of the first tenth, of the middle and of the last third, and
	// the most.
	First, Middle, Last, Most float64
	// Growth is by how much it rose in the second half, by the median of the slopes
	// between any two samples (Theil and Sen), and Trend how steadily it did so:
	// Kendall's tau, from -1 to 1.
	Growth, Trend float64
	// Flat says that the last third took no more than the middle one, but for what
	// is put down to chance, and that the second half did not rise steadily.
	Flat bool
}

// resource is something that a node uses. From the middle to the last third of a
// load it may grow by share, and by more beyond that. Growth that is steady is a
// leak when it comes to leak in the second half.
type resource struct {
	name, metric string
	unit         float64
	share, more  float64
	leak         float64
}

// Of fewer samples no trend is read, and above steady it is one: of 60 samples
// without a trend, tau exceeds a third of that once in twenty times.
const (
	fewest = 20
	steady = 0.5
)

var (
	ofNode = []resource{
		{"memory, MiB", "process_resident_memory_bytes", 1 << 20, .1, 16, 8},
		{"goroutines", "go_goroutines", 1, .1, 20, 10},
		{"open files and connections", "process_open_fds", 1, .1, 10, 5},
	}
	ofDatabase = resource{name: "connections to the database", share: 0, more: 2, leak: 2}
)

// levels collects samples. Its methods may be called from any goroutine.
type levels struct {
	mu     sync.Mutex
	series map[string]map[resource][]float64 // by node
}

func (l *levels) begun() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.series) > 0
}

func (l *levels) add(node string, r resource, v float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.series == nil {
		l.series = map[string]map[resource][]float64{}
	}
	if l.series[node] == nil {
		l.series[node] = map[resource][]float64{}
	}
	l.series[node][r] = append(l.series[node][r], v)
}

// sample looks at every node, and at the database through db if there is one.
func (l *levels) sample(ctx context.Context, bed *testbed, db *pgx.Conn) error {
	for _, n := range bed.Nodes() {
		for _, r := range ofNode {
			v, err := metric(n.Clients(), r.metric)
			if err != nil {
				return fmt.Errorf("looking at node %s: %w", n.Name, err)
			}
			l.add(n.Name, r, v/r.unit)
		}
	}
	if db == nil {
		return nil
	}
	var connections float64
	err := db.QueryRow(ctx, `SELECT count(*)::float8 FROM pg_stat_activity WHERE backend_type = 'client backend'`).Scan(&connections)
	if err != nil {
		return fmt.Errorf("counting connections: %w", err)
	}
	l.add("all", ofDatabase, connections)
	return nil
}

// judge says of each resource whether its use levels off.
func (l *levels) judge() (out []Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for node, of := range l.series {
		for r, all := range of {
			out = append(out, level(node, r, all))
		}
	}
	slices.SortFunc(out, func(a, b Level) int { return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Node, b.Node)) })
	return out
}

// level needs one sample at least.
func level(node string, r resource, all []float64) Level {
	n := len(all)
	l := Level{
		Node: node, Resource: r.name, Most: slices.Max(all),
		First: median(all[:max(n/10, 1)]), Middle: median(all[n/3 : max(2*n/3, n/3+1)]), Last: median(all[2*n/3:]),
	}
	l.Flat = l.Last <= l.Middle*(1+r.share)+r.more
	if half := all[n/2:]; len(half) >= fewest {
		slope, tau := trend(half)
		l.Growth, l.Trend = slope*float64(len(half)), tau
		l.Flat = l.Flat && (tau < steady || l.Growth < r.leak)
	}
	return l
}

// trend returns the median of the slopes between any two samples, and by how many
// more of these pairs rise than fall, as a share.
func trend(all []float64) (slope, tau float64) {
	var slopes []float64
	sum := 0
	for i, a := range all {
		for j := i + 1; j < len(all); j++ {
			slopes = append(slopes, (all[j]-a)/float64(j-i))
			sum += cmp.Compare(all[j], a)
		}
	}
	return median(slopes), float64(sum) / float64(len(slopes))
}
