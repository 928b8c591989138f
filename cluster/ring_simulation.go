package cluster

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// RingReport is what SimulateRing found out.
type RingReport struct {
	Nodes, Conversations int
	// Fullest is the most conversations of a node, in means.
	Fullest float64
	// Moved is how many conversations change their node when one node joins, in
	// shares of the newcomer's fair part (the ideal is 1): the mean over some
	// joins, and the worst of them.
	Moved, WorstMoved float64
	// Change is how long one node takes to apply one join or leave, roster and
	// ring together: the mean, and the slowest.
	Change, WorstChange time.Duration
	// Build is how long the ring took from nothing.
	Build time.Duration
}

// String returns the report as one line.
func (r RingReport) String() string {
	return fmt.Sprintf("%d nodes, %d conversations: fullest %.3f x mean, a join moves %.2f x ideal (worst %.2f), a change takes %v (worst %v), from nothing %v",
		r.Nodes, r.Conversations, r.Fullest, r.Moved, r.WorstMoved,
		r.Change.Round(10*time.Microsecond), r.WorstChange.Round(10*time.Microsecond), r.Build.Round(time.Millisecond))
}

// simulatedJoins is how many nodes join, each alone, and leave again.
const simulatedJoins = 10

// SimulateRing distributes conversations over nodes as every node of such a
// cluster would, with the ring and the roster that run in production, and lets
// single nodes join and leave. At 1,000 nodes it takes about 10 s.
func SimulateRing(nodes, conversations int) (RingReport, error) {
	s, err := newSimulation(nodes)
	if err != nil {
		return RingReport{}, err
	}
	weights := simulatedWeights(conversations)
	report := RingReport{Nodes: nodes, Conversations: conversations, Build: s.build}
	before := s.ring.View()
	report.Fullest = fullest(before, weights) * float64(nodes) / float64(conversations)
	ideal := float64(conversations) / float64(nodes+1)
	for i := range simulatedJoins {
		name := simulatedName(nodes + i)
		if err := s.change(&report, func() { s.members.arrive(name) }); err != nil {
			return report, err
		}
		moved := float64(movedWeight(before, s.ring.View(), weights)) / ideal
		report.Moved += moved / simulatedJoins
		report.WorstMoved = max(report.WorstMoved, moved)
		if err := s.change(&report, func() { s.members.vanish(name) }); err != nil {
			return report, err
		}
	}
	report.Change /= 2 * simulatedJoins
	return report, nil
}

// simulation is one node's roster and ring, with members that gossip would
// have told it about.
type simulation struct {
	members *Members
	ring    *Ring
	build   time.Duration
}

func newSimulation(nodes int) (*simulation, error) {
	quiet := slog.New(slog.DiscardHandler)
	members, err := NewMembers(MembersConfig{Name: simulatedName(0), Logger: quiet})
	if err != nil {
		return nil, err
	}
	members.SetState(Ready)
	for i := 1; i < nodes; i++ {
		members.arrive(simulatedName(i))
	}
	members.rebuild()
	s := &simulation{members: members, ring: NewRing(RingConfig{Node: simulatedName(0), Logger: quiet})}
	began := time.Now()
	_, err = s.ring.Set(members.View().Ready())
	s.build = time.Since(began)
	return s, err
}

// change applies one change of the members as a node does that hears of it.
func (s *simulation) change(report *RingReport, f func()) error {
	began := time.Now()
	f()
	s.members.rebuild()
	_, err := s.ring.Set(s.members.View().Ready())
	took := time.Since(began)
	report.Change += took
	report.WorstChange = max(report.WorstChange, took)
	return err
}

// arrive and vanish do what gossip's callbacks do.
func (m *Members) arrive(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lives[name] = life{Member: Member{Name: name, Started: m.self.Started, State: Ready}}
}

func (m *Members) vanish(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.lives, name)
}

func simulatedName(i int) string { return fmt.Sprintf("catbird-%d", i) }

// simulatedWeights counts conversations by partition. Their ids look like
// those of MLS groups: 32 hexadecimal digits.
func simulatedWeights(conversations int) []int {
	weights := make([]int, RingPartitions)
	var raw [16]byte
	id := make([]byte, 32)
	for i := range conversations {
		for j := range raw {
			raw[j] = byte(i >> (j % 4 * 8) * (2*j + 1))
		}
		hex.Encode(id, raw[:])
		weights[xxhash.Sum64(id)%RingPartitions]++
	}
	return weights
}

func fullest(v *RingView, weights []int) float64 {
	load := make([]int, len(v.members))
	for p, owner := range v.owners {
		load[owner] += weights[p]
	}
	return float64(slices.Max(load))
}

func movedWeight(a, b *RingView, weights []int) int {
	moved := 0
	for p := range a.owners {
		if a.members[a.owners[p]] != b.members[b.owners[p]] {
			moved += weights[p]
		}
	}
	return moved
}
