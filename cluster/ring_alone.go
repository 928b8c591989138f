package cluster

// RingOfOne returns the view of a ring whose only member is node: equal to what
// a [Ring] would give, without building one.
func RingOfOne(node string) *RingView {
	v := ringShape.empty([]string{node})
	v.owners = make([]uint16, ringShape.partitions) // all of them the first member's
	v.counts = []int{ringShape.partitions}
	return v
}
