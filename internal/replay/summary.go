package replay

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"catbird/internal/client"
)

// Summary is what a replay did.
type Summary struct {
	Groups    []GroupSummary
	Endpoints []EndpointSummary // by name
	Requests  EndpointSummary   // all of them
	Elapsed   time.Duration
}

// GroupSummary is what one group came to.
type GroupSummary struct {
	Name    string
	ConvoID string
	Members int // active at the end
	Left    int
	Commits int
	// Messages are application messages.
	Messages int
	Epoch    int64 // at the end
	Seq      int64
	// Wrote and Verified are how long each took; Wrote is 0 where nothing was
	// written.
	Wrote, Verified time.Duration
}

// EndpointSummary is about the requests to one endpoint, each attempt counted.
type EndpointSummary struct {
	Endpoint string
	Requests int
	// Repeated are those of Requests that repeated one before.
	Repeated      int
	P50, P99, Max time.Duration
}

// Print writes the summary as two tables.
func (s Summary) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "group\tmembers\tleft\tcommits\tmessages\tepoch\tseq\twritten in\tread back in\t\n")
	for _, g := range s.Groups {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t\n", g.Name, g.Members, g.Left, g.Commits, g.Messages,
			g.Epoch, g.Seq, spent(g.Wrote), spent(g.Verified))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the summary: %w", err)
	}
	fmt.Fprint(t, "\nendpoint\trequests\trepeated\tp50\tp99\tmax\t\n")
	for _, e := range append(slices.Clone(s.Endpoints), s.Requests) {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\t\n", e.Endpoint, e.Requests, e.Repeated, spent(e.P50), spent(e.P99), spent(e.Max))
	}
	fmt.Fprintf(t, "\n")
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the summary: %w", err)
	}
	return nil
}

func spent(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Second:
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	default:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
}

func (g *group) summary() GroupSummary {
	n := len(commits(g.h.rows))
	out := GroupSummary{
		Name: g.t.Name, ConvoID: g.t.GroupID, Members: len(g.h.members()), Commits: n, Messages: len(g.h.rows) - n,
		Epoch: g.h.epoch, Seq: g.h.seq(), Wrote: g.wrote, Verified: g.verified,
	}
	for _, s := range g.h.stays {
		if s.left {
			out.Left++
		}
	}
	return out
}

// stats keeps how long each request took. A replay makes as many as its
// recordings have steps and people, so they are few enough to keep.
type stats struct {
	mu       sync.Mutex
	took     map[string][]time.Duration
	repeated map[string]int
}

func newStats() *stats {
	return &stats{took: make(map[string][]time.Duration), repeated: make(map[string]int)}
}

func (s *stats) observe(o client.Observation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took[o.Endpoint] = append(s.took[o.Endpoint], o.Duration)
	if o.Attempt > 1 {
		s.repeated[o.Endpoint]++
	}
}

func (s *stats) summary() (byEndpoint []EndpointSummary, all EndpointSummary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var took []time.Duration
	repeated := 0
	for endpoint, d := range s.took {
		byEndpoint = append(byEndpoint, summarize(endpoint, d, s.repeated[endpoint]))
		took = append(took, d...)
		repeated += s.repeated[endpoint]
	}
	slices.SortFunc(byEndpoint, func(a, b EndpointSummary) int {
		if a.Endpoint < b.Endpoint {
			return -1
		}
		return 1
	})
	return byEndpoint, summarize("all", took, repeated)
}

func summarize(endpoint string, took []time.Duration, repeated int) EndpointSummary {
	out := EndpointSummary{Endpoint: endpoint, Requests: len(took), Repeated: repeated}
	if len(took) > 0 {
		sorted := slices.Sorted(slices.Values(took))
		out.P50, out.P99, out.Max = quantile(sorted, 0.50), quantile(sorted, 0.99), sorted[len(sorted)-1]
	}
	return out
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
