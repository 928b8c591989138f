package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults. Those that hit a node, hit one of [Fault.Node].
const (
	Restart         Kind = "restart"          // SIGTERM, and started again
	RestartAll      Kind = "restart-all"      // the same, one node after another
	Crash           Kind = "kill"             // SIGKILL, and started again at once or later
	Freeze          Kind = "freeze"           // SIGSTOP for longer than the lease, SIGCONT
	RedisKill       Kind = "redis-kill"       // and started again, empty
	RedisRestart    Kind = "redis-restart"    // in order, empty
	RedisFlush      Kind = "redis-flush"      // it forgets everything
	RedisFreeze     Kind = "redis-freeze"     // it keeps its connections and says nothing
	PostgresKill    Kind = "postgres-kill"    // and started again: it recovers
	PostgresRestart Kind = "postgres-restart" // in order
	PostgresFreeze  Kind = "postgres-freeze"  // every process of it
	CutNodes        Kind = "cut-nodes"        // between Node and Peer
	CutRedis        Kind = "cut-redis"        // between Node and Redis
	CutPostgres     Kind = "cut-postgres"     // between Node and PostgreSQL
	SlowNodes       Kind = "slow-nodes"       // between Node and Peer
	SlowRedis       Kind = "slow-redis"
	SlowPostgres    Kind = "slow-postgres"
	FlagOff         Kind = "flag-off" // and on again
	FlagPercent     Kind = "flag-percent"
	Scale           Kind = "scale" // 3 to 5 to 2 and back
)

// Kinds are all kinds, in the order in which tables list them.
var Kinds = []Kind{
	Restart, RestartAll, Crash, Freeze, RedisKill, RedisRestart, RedisFlush, RedisFreeze, PostgresKill, PostgresRestart, PostgresFreeze,
	CutNodes, CutRedis, CutPostgres, SlowNodes, SlowRedis, SlowPostgres, FlagOff, FlagPercent, Scale,
}

// The ways in which a stretch of network is cut or slowed.
const (
	both    = "both"    // what is sent is lost or late, either way
	there   = "there"   // what Node sends is
	back    = "back"    // what Node is sent is
	refused = "refused" // connections break, new ones too
)

// What happens while the cluster grows and shrinks.
const (
	undisturbed = ""
	oneKilled   = "and one that came is killed" // and one of those that leave
	oneFrozen   = "and one that came is frozen"
)

// Fault is one fault to come: what, where, and in which of several ways.
type Fault struct {
	Kind Kind   `json:"kind"`
	Node string `json:"node,omitempty"`
	Peer string `json:"peer,omitempty"`
	Way  string `json:"way,omitempty"`
	// Percent is the flag's, for FlagPercent.
	Percent int `json:"percent,omitempty"`
}

// String says the fault in a few words.
func (f Fault) String() string {
	parts := []string{string(f.Kind)}
	if f.Node != "" {
		parts = append(parts, f.Node)
	}
	if f.Peer != "" {
		parts = append(parts, "to "+f.Peer)
	}
	if f.Way != "" {
		parts = append(parts, f.Way)
	}
	if f.Kind == FlagPercent {
		parts = append(parts, fmt.Sprintf("%d%%", f.Percent))
	}
	return strings.Join(parts, " ")
}

// process reports whether the fault takes a process of ours away: it is undone
// last, when the node finds everything in order.
func (k Kind) process() bool {
	return k == Restart || k == RestartAll || k == Crash || k == Scale
}

// places are what the fault takes for itself: faults that come together take
// different ones.
func (f Fault) places() []string {
	switch f.Kind {
	case Restart, Crash, Freeze, FlagOff, FlagPercent:
		return []string{"node " + f.Node}
	case Scale, RestartAll:
		var all []string
		for _, name := range slices.Concat(baseNodes, extraNodes) {
			all = append(all, "node "+name)
		}
		return all
	case RedisKill, RedisRestart, RedisFlush, RedisFreeze:
		return []string{"redis"}
	case PostgresKill, PostgresRestart, PostgresFreeze:
		return []string{"postgres"}
	case CutRedis, SlowRedis:
		return []string{"redis of " + f.Node}
	case CutPostgres, SlowPostgres:
		return []string{"postgres of " + f.Node}
	}
	return []string{"network of " + f.Node, "network of " + f.Peer}
}

// Round is what comes together: each fault begins Lag after the round does, and
// all of them last for Hold.
type Round struct {
	Faults []Fault
	Lags   []time.Duration
	Hold   time.Duration
}

// maxTogether is how many faults come together at most.
const maxTogether = 3

// Schedule draws rounds from a seed: the same one for the same arguments. Every
// one of kinds comes once before any comes again.
type Schedule struct {
	rand  *rand.Rand
	kinds []Kind
	lease time.Duration
	deck  []Kind
}

// NewSchedule returns the schedule of a seed. lease is what faults are measured
// by; kinds is not changed.
func NewSchedule(seed uint64, lease time.Duration, kinds []Kind) *Schedule {
	return &Schedule{rand: rand.New(rand.NewPCG(seed, 0)), kinds: kinds, lease: lease}
}

// Next returns the next round.
func (s *Schedule) Next() Round {
	r := Round{Hold: s.lease*3/2 + time.Duration(s.rand.Int64N(int64(s.lease)*3/2))}
	taken := map[string]bool{}
	for size := 1 + s.rand.IntN(maxTogether); len(r.Faults) < size; {
		f, ok := s.fitting(taken)
		if !ok {
			break
		}
		for _, p := range f.places() {
			taken[p] = true
		}
		r.Faults = append(r.Faults, f)
		r.Lags = append(r.Lags, time.Duration(s.rand.Int64N(int64(s.lease)/2)))
	}
	return r
}

// Whole reports whether every kind has come as often as the others.
func (s *Schedule) Whole() bool { return len(s.deck) == 0 }

// fitting takes the first kind of the deck that finds a place beside those that
// are taken.
func (s *Schedule) fitting(taken map[string]bool) (Fault, bool) {
	if len(s.deck) == 0 {
		if len(taken) > 0 {
			return Fault{}, false // a round does not go over the end of a deck
		}
		s.deck = slices.Clone(s.kinds)
		s.rand.Shuffle(len(s.deck), func(i, j int) { s.deck[i], s.deck[j] = s.deck[j], s.deck[i] })
	}
	for i, k := range s.deck {
		f := s.draw(k)
		if slices.ContainsFunc(f.places(), func(p string) bool { return taken[p] }) {
			continue
		}
		s.deck = slices.Delete(s.deck, i, i+1)
		return f, true
	}
	return Fault{}, false
}

// draw draws where and how a fault comes.
func (s *Schedule) draw(k Kind) Fault {
	f := Fault{Kind: k}
	nodes := s.rand.Perm(len(baseNodes))
	switch k {
	case Restart, Freeze, FlagOff:
		f.Node = baseNodes[nodes[0]]
	case Scale:
		f.Node, f.Way = baseNodes[nodes[0]], s.one(undisturbed, oneKilled, oneFrozen)
	case SlowRedis, SlowPostgres:
		f.Node, f.Way = baseNodes[nodes[0]], s.one(both, there, back)
	case Crash:
		f.Node, f.Way = baseNodes[nodes[0]], s.one(atOnce, later)
	case FlagPercent:
		f.Node, f.Percent = baseNodes[nodes[0]], 10+s.rand.IntN(80)
	case CutRedis, CutPostgres:
		f.Node, f.Way = baseNodes[nodes[0]], s.one(both, there, back, refused)
	case CutNodes, SlowNodes:
		f.Node, f.Peer, f.Way = baseNodes[nodes[0]], baseNodes[nodes[1]], s.one(both, there)
	}
	return f
}

// When a node that was killed comes back.
const (
	atOnce = "and back at once"
	later  = "and back later"
)

func (s *Schedule) one(ways ...string) string { return ways[s.rand.IntN(len(ways))] }
