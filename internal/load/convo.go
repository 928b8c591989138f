package load

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
)

// convo is a conversation of the run: who is in it, and what its clients know.
type convo struct {
	index uint32
	id    string
	group []byte // the id's bytes
	books *books

	mu        sync.Mutex
	members   []*member // the creator, who never leaves, first
	strangers []string  // of a given list of people: who is no member; nil: made up
	born      int       // people made up so far
	epoch     int64     // what its clients build on

	// What the reading back has seen so far. One goroutine reads at a time.
	reading sync.Mutex
	scan    scan
}

// member is somebody who can be asked to do something. busy counts what they are
// doing: who is busy does not leave, so that nobody is refused for having left.
type member struct {
	did  string
	busy int
}

func (c *convo) creator() string { return c.members[0].did } // never changes

// borrow returns a member to do something as. giveBack must follow.
func (c *convo) borrow(rng *rand.Rand) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[rng.IntN(len(c.members))]
	m.busy++
	return m
}

func (c *convo) borrowCreator() *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[0].busy++
	return c.members[0]
}

func (c *convo) giveBack(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.busy--
}

// takeLeaver takes somebody idle out of the members, where more than least are
// left. Whoever was refused comes back by join.
func (c *convo) takeLeaver(rng *rand.Rand, least int) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) <= max(least, 1) {
		return nil
	}
	others := len(c.members) - 1
	first := rng.IntN(others)
	for i := range others {
		at := 1 + (first+i)%others
		if m := c.members[at]; m.busy == 0 {
			c.members = slices.Delete(c.members, at, at+1)
			return m
		}
	}
	return nil
}

// takeNewcomer returns somebody who is no member, where fewer than most are.
func (c *convo) takeNewcomer(most int) (did string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) >= most {
		return "", false
	}
	if c.strangers == nil {
		return c.bear(), true
	}
	if len(c.strangers) == 0 {
		return "", false
	}
	did = c.strangers[0]
	c.strangers = c.strangers[1:]
	return did, true
}

// bear makes somebody up.
func (c *convo) bear() string {
	c.born++
	return fmt.Sprintf("did:plc:load%sc%dn%d", c.id[:16], c.index, c.born)
}

// join makes did a member.
func (c *convo) join(did string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(c.members, &member{did: did})
}

// leave makes did, who is in no list, somebody who can be added. Where people
// are made up, each comes once.
func (c *convo) leave(did string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.strangers != nil {
		c.strangers = append(c.strangers, did)
	}
}

// builtOn returns the epoch that a client builds on.
func (c *convo) builtOn() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// moved says that the epoch is known to have reached to.
func (c *convo) moved(to int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch = max(c.epoch, to)
}

// corrected says that a client who built on built was told that the epoch is
// now. Unlike moved it leads back too, so that who was told too high an epoch
// once can go on.
func (c *convo) corrected(built, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == built || now > c.epoch {
		c.epoch = now
	}
}
