package conversation

import (
	"slices"
	"strings"
)

// Members is an immutable set of DIDs in few bytes: one string that holds them
// all in order, and where each ends. The zero value is the empty set. It is
// safe for use by several goroutines at once.
type Members struct {
	packed string
	ends   []uint32
}

// NewMembers returns the set of dids, in any order, repeats folded.
func NewMembers(dids ...string) Members {
	sorted := slices.Clone(dids)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	var b strings.Builder
	size := 0
	for _, did := range sorted {
		size += len(did)
	}
	b.Grow(size)
	ends := make([]uint32, 0, len(sorted))
	for _, did := range sorted {
		b.WriteString(did)
		ends = append(ends, uint32(b.Len()))
	}
	return Members{packed: b.String(), ends: ends}
}

// Len returns how many members there are.
func (m Members) Len() int { return len(m.ends) }

func (m Members) at(i int) string {
	start := uint32(0)
	if i > 0 {
		start = m.ends[i-1]
	}
	return m.packed[start:m.ends[i]]
}

// few is up to how many members looking at each is quicker than a search.
const few = 16

// Has reports whether did is in the set. It does not allocate.
func (m Members) Has(did string) bool {
	if len(m.ends) <= few && did != "" {
		return m.scan(did)
	}
	lo, hi := 0, len(m.ends)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := strings.Compare(m.at(mid), did); {
		case c == 0:
			return true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return false
}

// scan compares those members whose length and last character are right.
func (m Members) scan(did string) bool {
	last, start := did[len(did)-1], uint32(0)
	for _, end := range m.ends {
		if int(end-start) == len(did) && m.packed[end-1] == last && m.packed[start:end] == did {
			return true
		}
		start = end
	}
	return false
}

// List returns the members in order.
func (m Members) List() []string {
	out := make([]string, m.Len())
	for i := range out {
		out[i] = m.at(i)
	}
	return out
}

// With returns the set with dids added.
func (m Members) With(dids ...string) Members {
	return NewMembers(append(m.List(), dids...)...)
}

// Without returns the set with did taken out.
func (m Members) Without(did string) Members {
	return NewMembers(slices.DeleteFunc(m.List(), func(s string) bool { return s == did })...)
}
