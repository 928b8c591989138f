package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/buraksezer/consistent"
	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// The shape of the ring. All nodes must have the same, so it is no setting.
//
// 4,099 partitions with load 1.25 do well at a few nodes, but at 1,000 there
// are but 4 partitions a node: the fullest carries 1.26 times the mean, and
// one join moves 1.8 times the ideal, 2.5 at worst. 39,989 (a prime just under
// 40 for each of 1,000 nodes, so that rounding does not raise the limit) with
// load 1.22 keep the fullest under 1.25 and move 1.2 times the ideal. More
// partitions would move less, but make a change of the ring too slow.
const (
	RingPartitions = 39989
	// MaxRingMembers is how many members a ring takes. Building one from
	// nothing takes about 6 s for 1,000 and grows with the square.
	MaxRingMembers = 4096
)

var ringShape = shape{partitions: RingPartitions, points: 100, load: 1.22}

// shape is what the library distributes by: how many partitions, how many
// points on the circle for each member, and how many partitions a member takes
// at most, in means.
type shape struct {
	partitions, points int
	load               float64
}

// ErrTooManyMembers: a ring takes MaxRingMembers.
var ErrTooManyMembers = errors.New("too many members for the ring")

// RingView is one immutable distribution of the partitions over the members.
// Two nodes that see the same members have equal views.
type RingView struct {
	version uint64
	modulus uint64   // the number of partitions
	members []string // by name
	owners  []uint16 // of each partition, an index into members; nil when empty
	counts  []int    // of partitions, by member
}

// Owner returns the member that should own convo; not ok when the ring is
// empty. It takes no lock and does not allocate.
func (v *RingView) Owner(convo string) (node string, ok bool) {
	if v.owners == nil {
		return "", false
	}
	return v.members[v.owners[v.Partition(convo)]], true
}

// Partition returns the partition of convo, 0 to RingPartitions-1. It is the
// same in every view.
func (v *RingView) Partition(convo string) int {
	return int(xxhash.Sum64String(convo) % v.modulus)
}

// Version is equal for equal views and, but for a chance of one in 2^53,
// different for different ones. Metrics can hold it exactly.
func (v *RingView) Version() uint64 { return v.version }

// Members returns the members in the order of their names. The slice is shared
// and must not be changed.
func (v *RingView) Members() []string { return v.members }

// Partitions returns how many partitions node has, 0 for one that is not in
// the ring.
func (v *RingView) Partitions(node string) int {
	i, ok := slices.BinarySearch(v.members, node)
	if !ok {
		return 0
	}
	return v.counts[i]
}

// RingConfig is what a Ring needs. Logger is required.
type RingConfig struct {
	// Node is this node's name, for the metrics.
	Node   string
	Logger *slog.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

// Ring says which member should own a conversation. It is changed by one
// goroutine at a time, [Ring.Follow] or callers of [Ring.Set], and read by any
// number through [Ring.View].
//
// The distribution depends on the set of members only, not on the order in
// which they came and went: the library places each member's points by hash,
// sorts them, and gives away the partitions anew in their own order after each
// change. So the ring may be changed member by member, which costs some 30 ms
// at 1,000, and be equal to one built from nothing, which costs seconds.
type Ring struct {
	bell
	log     *slog.Logger
	metrics *ringMetrics
	node    string
	shape   shape
	view    atomic.Pointer[RingView]

	mu  sync.Mutex
	lib *consistent.Consistent // nil: must be built from nothing
}

// NewRing returns an empty ring.
func NewRing(cfg RingConfig) *Ring {
	return newRing(cfg, ringShape)
}

func newRing(cfg RingConfig, s shape) *Ring {
	r := &Ring{
		log: cfg.Logger.With("component", "cluster"), node: cfg.Node,
		shape: s, metrics: newRingMetrics(cfg.Registerer),
	}
	r.publish(s.empty(nil))
	return r
}

// View returns the newest view; it does not block or allocate.
func (r *Ring) View() *RingView { return r.view.Load() }

// Source is what a ring follows.
type Source interface {
	View() *Roster
	Subscribe() (changes <-chan struct{}, cancel func())
}

// Follow keeps the ring equal to the members of s that are ready, until ctx
// ends. It returns the cause of ctx's end.
func (r *Ring) Follow(ctx context.Context, s Source) error {
	changes, cancel := s.Subscribe()
	defer cancel()
	for {
		if _, err := r.Set(s.View().Ready()); err != nil {
			r.log.Error("ring not changed", "error", err)
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Set makes the ring one of the given members, in any order, and returns its
// view. It blocks for 10 to 30 ms, and for seconds where hundreds are new. On an
// error the ring is what it was before.
func (r *Ring) Set(members []string) (*RingView, error) {
	want := slices.Clone(members)
	slices.Sort(want)
	want = slices.Compact(want)
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.view.Load()
	if slices.Equal(want, old.members) {
		return old, nil
	}
	if len(want) > MaxRingMembers {
		return old, fmt.Errorf("%w: %d, at most %d", ErrTooManyMembers, len(want), MaxRingMembers)
	}
	began := time.Now()
	next, err := r.distributeLocked(old.members, want)
	if err != nil {
		return old, err
	}
	r.publish(next)
	took := time.Since(began)
	r.metrics.changed(took)
	r.log.Info("ring changed", "members", len(want), "version", fmt.Sprintf("%x", next.version),
		"partitions", next.Partitions(r.node), "took", took)
	return next, nil
}

func (r *Ring) publish(v *RingView) {
	r.view.Store(v)
	r.metrics.show(v, r.node)
	r.wakeAll()
}

// distributeLocked brings the library's ring from have to want, both sorted,
// and reads the distribution. Where the library fails on the ring that it has
// changed, it is built anew.
func (r *Ring) distributeLocked(have, want []string) (*RingView, error) {
	if len(want) == 0 {
		r.lib = nil
		return r.shape.empty(nil), nil
	}
	if r.lib != nil {
		gone, come := without(have, want), without(want, have)
		if !cheaperFromNothing(len(gone)+len(come), len(want)) {
			v, err := guarded(func() (*RingView, error) {
				changeLibrary(r.lib, gone, come)
				return r.shape.read(r.lib, want)
			})
			if err == nil {
				return v, nil
			}
			r.log.Warn("ring could not be changed, building it anew", "error", err)
		}
	}
	r.lib = nil
	return guarded(func() (*RingView, error) {
		lib := r.shape.build(want)
		v, err := r.shape.read(lib, want)
		if err == nil {
			r.lib = lib
		}
		return v, err
	})
}

// version hashes the members, which are sorted, and the shape.
func (s shape) version(members []string) uint64 {
	h := xxhash.New()
	_, _ = fmt.Fprintf(h, "%d/%d/%g", s.partitions, s.points, s.load) // a hash takes everything
	var size [binary.MaxVarintLen64]byte
	for _, m := range members {
		_, _ = h.Write(size[:binary.PutUvarint(size[:], uint64(len(m)))])
		_, _ = h.WriteString(m)
	}
	return h.Sum64() >> 11 // what a float64 holds exactly
}

// empty returns a view of members, sorted, without owners.
func (s shape) empty(members []string) *RingView {
	return &RingView{version: s.version(members), modulus: uint64(s.partitions), members: members}
}

// without returns the elements of a that b lacks; both are sorted.
func without(a, b []string) []string {
	var out []string
	for _, s := range a {
		if _, found := slices.BinarySearch(b, s); !found {
			out = append(out, s)
		}
	}
	return out
}
