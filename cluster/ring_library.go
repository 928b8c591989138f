package cluster

import (
	"fmt"
	"slices"

	"github.com/buraksezer/consistent"
	"github.com/cespare/xxhash/v2"
)

type xxHasher struct{}

// Sum64 hashes b.
func (xxHasher) Sum64(b []byte) uint64 { return xxhash.Sum64(b) }

// ringMember is a member as the library knows it: its name with a # behind.
//
// The library makes a member's points by hashing its name with a number
// behind. Without a mark between, catbird-1 with number 25 and catbird-12 with
// number 5 are one point, which belongs to whichever came last, and after the
// removal of either the library runs into a point that is nobody's and
// panics. With the mark the texts of different members differ.
type ringMember string

// String returns what the library hashes.
func (m ringMember) String() string { return string(m) }

func libraryName(member string) ringMember { return ringMember(member + "#") }

// build builds a ring from nothing.
func (s shape) build(members []string) *consistent.Consistent {
	list := make([]consistent.Member, len(members))
	for i, m := range members {
		list[i] = libraryName(m)
	}
	return consistent.New(list, consistent.Config{
		Hasher:            xxHasher{},
		PartitionCount:    s.partitions,
		ReplicationFactor: s.points,
		Load:              s.load,
	})
}

// changeLibrary takes members out and puts others in. Those that come go
// first, so that the ring is never empty in between.
func changeLibrary(lib *consistent.Consistent, gone, come []string) {
	for _, m := range come {
		lib.Add(libraryName(m))
	}
	for _, m := range gone {
		lib.Remove(libraryName(m).String())
	}
}

// cheaperFromNothing compares the cost of changing a ring one by one, which
// distributes all partitions and sorts all points each time, with that of
// building one of n members, which sorts n times a growing number of points
// and distributes once. In microseconds, as measured; only the ratio counts.
func cheaperFromNothing(changes, n int) bool {
	const distribute, sortEach = 16_000, 12
	return changes*(distribute+sortEach*n) > distribute+sortEach*n*n/2
}

// read copies the distribution over members, which are sorted.
func (s shape) read(lib *consistent.Consistent, members []string) (*RingView, error) {
	v := s.empty(members)
	v.owners = make([]uint16, s.partitions)
	v.counts = make([]int, len(members))
	for p := range v.owners {
		owner, ok := lib.GetPartitionOwner(p).(ringMember)
		if !ok {
			return nil, fmt.Errorf("partition %d belongs to nobody", p)
		}
		i, ok := slices.BinarySearch(members, string(owner[:len(owner)-1]))
		if !ok {
			return nil, fmt.Errorf("partition %d belongs to %q, who is no member", p, owner)
		}
		v.owners[p] = uint16(i)
		v.counts[i]++
	}
	return v, nil
}

// guarded runs f and makes an error of a panic: the library panics where points
// of two members collide (one chance in four billion at 1,000 members), and
// where it finds no room.
func guarded(f func() (*RingView, error)) (v *RingView, err error) {
	defer func() {
		if p := recover(); p != nil {
			v, err = nil, fmt.Errorf("consistent: %v", p)
		}
	}()
	return f()
}
