package actor

import (
	"time"

	"catbird/conversation"
	"catbird/internal/broken"
)

// Session is one life of this node in the database, see cluster.Session.
type Session interface {
	ID() string
	// Trusted reports whether what was loaded under the session may be believed
	// at now. It must not block or allocate.
	Trusted(now time.Time) bool
}

// Sessions gives the session to claim under, nil while there is none.
type Sessions interface {
	Current() Session
}

// snapshot is what an actor lets readers see. It is immutable; what changes is
// which one the actor points to.
type snapshot struct {
	state   conversation.State
	fence   int64
	session Session
	// silent: a change of epoch or members is on its way to the database, which
	// is to be asked instead.
	silent bool
	// void: nothing is known but the claim, which is to be given back one day or
	// claimed anew. A void snapshot is silent.
	void bool
}

// without returns the void snapshot of s's claim.
func (s *snapshot) without() *snapshot {
	return &snapshot{fence: s.fence, session: s.session, silent: true, void: true}
}

// trusted is the check of rule 11. The caller has loaded the snapshot before:
// first the load, then the clock, then the comparison with that very session.
func (s *snapshot) trusted() bool { return s.trustedAt(time.Now()) }

func (s *snapshot) trustedAt(now time.Time) bool {
	return s.session.Trusted(now) || broken.Is(broken.ReadWithoutDeadline)
}
