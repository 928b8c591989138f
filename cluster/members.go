package cluster

import (
	"context"
	"slices"
	"strings"
	"time"
)

// MemberState is where a node is in its life, as it tells the others.
type MemberState uint8

// The states of a member. A node that is gone is no member.
const (
	Joining MemberState = iota + 1 // answers, but owns nothing yet
	Ready                          // may own conversations: is in the ring
	Leaving                        // hands over what it owns
)

// String returns the state as operators see it.
func (s MemberState) String() string {
	switch s {
	case Joining:
		return "joining"
	case Ready:
		return "ready"
	case Leaving:
		return "leaving"
	default:
		return "unknown"
	}
}

// memberStates are all of them, for metrics.
var memberStates = [...]MemberState{Joining, Ready, Leaving}

// Member is one node as the others know it.
type Member struct {
	Name string
	// Started is when this life of the node began, to the microsecond. Of two
	// lives of one name the later one counts. It is the node's own clock, moved
	// on where needed to come after a life before.
	Started         time.Time
	State           MemberState
	InternalAddress string // host:port of the internal API
	GossipAddress   string // host:port, UDP and TCP
	ActorsEnabled   bool
	RolloutPercent  int // 0 to 100
	Version         string
}

// Roster is one immutable picture of the members, this node included. It may
// be kept and read by any number of goroutines.
type Roster struct {
	self    string
	members []Member // by name
	ready   []string // by name
}

// newRoster takes over members, which have distinct names.
func newRoster(self string, members []Member) *Roster {
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	r := &Roster{self: self, members: members}
	for _, m := range members {
		if m.State == Ready {
			r.ready = append(r.ready, m.Name)
		}
	}
	return r
}

// Members returns all members in the order of their names. The slice is shared
// and must not be changed.
func (r *Roster) Members() []Member { return r.members }

// Ready returns the names of the members that may own conversations, in order.
// The slice is shared and must not be changed.
func (r *Roster) Ready() []string { return r.ready }

// Member returns the member of that name.
func (r *Roster) Member(name string) (Member, bool) {
	i, ok := slices.BinarySearchFunc(r.members, name, func(m Member, name string) int {
		return strings.Compare(m.Name, name)
	})
	if !ok {
		return Member{}, false
	}
	return r.members[i], true
}

// Self returns this node.
func (r *Roster) Self() Member {
	m, _ := r.Member(r.self)
	return m
}

func (r *Roster) equal(o *Roster) bool {
	return r.self == o.self && slices.Equal(r.members, o.members)
}

// Membership is knowing who is alive. [Members] does it by gossip, [Alone] is
// a cluster of one. All methods may be called from any goroutine.
type Membership interface {
	// Start makes this node known. ctx bounds starting, not what runs after.
	Start(ctx context.Context) error
	// View returns the newest picture; it does not block or allocate.
	View() *Roster
	// Subscribe returns a channel that is woken after each change of the view,
	// with several changes in one; cancel ends it.
	Subscribe() (changes <-chan struct{}, cancel func())
	// SetState and SetActors tell the others about this node. They return at
	// once; the own view has changed then, the others' follow.
	SetState(MemberState)
	SetActors(enabled bool, rolloutPercent int)
	// Evicted is closed when this life must end because another node bears its
	// name; Err says which.
	Evicted() <-chan struct{}
	Err() error
	// Leave tells the others that this node is gone. It goes on answering.
	Leave(ctx context.Context) error
	// Stop ends everything; without Leave before, to the others it is a crash.
	// It may be called twice, and without Start.
	Stop(ctx context.Context) error
}

var (
	_ Membership = (*Members)(nil)
	_ Membership = (*Alone)(nil)
)
