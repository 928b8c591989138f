package memstore

import (
	"slices"

	"catbird/conversation"
	"catbird/persistence"
)

// convo is a conversation's row and what hangs on it.
type convo struct {
	state   conversation.State
	session string // whose claim it is, "" for none
	fence   int64
	folded  int64 // seq up to which unread counts hold

	rows    []conversation.Row
	ids     map[string]conversation.Result // of every change
	order   []string                       // the same, as they were stored
	records map[recordKey]conversation.Record
	byID    map[string]conversation.Record
	members map[string]*member
}

type recordKey struct {
	caller string
	op     conversation.Op
	key    string
}

type member struct {
	active  bool
	counted int64 // seq up to which unread holds
	unread  int64
}

// Seed puts a conversation at epoch 0 into the store.
func (s *Store) Seed(id, creator string, members ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.insert(id, conversation.State{Creator: creator, Members: conversation.NewMembers(append(members, creator)...)})
}

func (s *Store) insert(id string, state conversation.State) *convo {
	c := &convo{state: state, members: map[string]*member{}}
	for _, did := range state.Members.List() {
		c.members[did] = &member{active: true}
	}
	s.convos[id] = c
	return c
}

// AddKeyPackage makes a key package that one change may use up.
func (s *Store) AddKeyPackage(did string, hash []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packages[packageKey{did, string(hash)}] = true
}

// holder returns whose live session claims c.
func (s *Store) holder(c *convo) (persistence.Holder, bool) {
	one := s.live(c.session)
	if one == nil {
		return persistence.Holder{}, false
	}
	return persistence.Holder{Session: one.ID, Node: one.Node, Address: one.Address, Fence: c.fence}, true
}

// apply stores a unit that was found to fit.
func (s *Store) apply(id string, c *convo, u *conversation.Unit, next conversation.State) {
	for _, m := range u.Members {
		row := c.members[m.DID]
		if m.Joined {
			row = &member{active: true, counted: m.JoinedSeq}
			c.members[m.DID] = row
		}
		if m.Left && row != nil {
			row.active = false
		}
	}
	for _, p := range u.KeyPackages {
		s.packages[packageKey{p.DID, string(p.Hash)}] = false
	}
	if c.folded == u.Base.Seq && u.LastMessage.IsZero() { // nothing to count
		c.folded = u.Seq
	}
	c.state = next
	if !s.forgets {
		c.remember(u)
	}
	if s.onCommit != nil {
		s.onCommit(id, c.state)
	}
}

func (c *convo) remember(u *conversation.Unit) {
	if c.ids == nil {
		c.ids = map[string]conversation.Result{}
		c.records = map[recordKey]conversation.Record{}
		c.byID = map[string]conversation.Record{}
	}
	c.rows = append(c.rows, u.Rows...)
	c.order = append(c.order, u.IDs...)
	for _, r := range u.Rows {
		c.ids[r.ID] = conversation.Result{ID: r.ID, Epoch: r.Epoch, Seq: r.Seq, At: r.At}
	}
	for _, r := range u.Records {
		c.ids[r.ID] = r.Result
		c.byID[r.ID] = r
		if r.Key != "" {
			c.records[recordKey{r.Caller, r.Endpoint, r.Key}] = r
		}
	}
}

// lookup finds what an earlier request left behind, by its key, else by its id.
func (c *convo) lookup(ref persistence.Ref) *conversation.Earlier {
	if c == nil {
		return nil
	}
	r, ok := c.records[recordKey{ref.Caller, ref.Endpoint, ref.Key}]
	if !ok {
		r, ok = c.byID[ref.ID]
	}
	if ok {
		return &conversation.Earlier{Result: r.Result, Digest: r.Digest, Response: r.Response}
	}
	if res, ok := c.ids[ref.ID]; ok {
		return &conversation.Earlier{Result: res}
	}
	return nil
}

// used reports whether one of a unit's changes has happened before.
func (c *convo) used(u *conversation.Unit) bool {
	for _, id := range u.IDs {
		if _, ok := c.ids[id]; ok {
			return true
		}
	}
	for _, r := range u.Records {
		if _, ok := c.records[recordKey{r.Caller, r.Endpoint, r.Key}]; ok && r.Key != "" {
			return true
		}
	}
	return false
}

// fold counts what unread counts do not hold yet.
func (c *convo) fold() {
	for did, m := range c.members {
		if m.active && m.counted < c.state.Seq {
			m.unread += c.appsByOthers(did, m.counted, c.state.Seq)
			m.counted = c.state.Seq
		}
	}
	c.folded = c.state.Seq
}

// appsByOthers counts the application messages by others than did in (after, to].
func (c *convo) appsByOthers(did string, after, to int64) (n int64) {
	i, _ := slices.BinarySearchFunc(c.rows, after+1, func(r conversation.Row, seq int64) int { return int(r.Seq - seq) })
	for _, r := range c.rows[i:] {
		if r.Seq <= to && r.Kind == conversation.KindApp && r.Sender != did {
			n++
		}
	}
	return n
}
