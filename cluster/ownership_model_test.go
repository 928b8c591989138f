package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"catbird/persistence"
)

// Sessions, claims and the lease together, in virtual time: nodes renew, look
// at each other, take, claim and let go, while they crash, freeze, lose replies
// and have statements run late, and Redis forgets. After each step at most one
// node serves a conversation from memory (I5), and fences only rise.
func TestOwnershipModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		for life := range uint64(20) {
			history(t, rand.New(rand.NewPCG(seed, life)))
		}
	})
}

// history runs one course of events. It draws evenly: rapid's own choices lean
// to the first of a list, and what breaks is far apart.
func history(t *rapid.T, random *rand.Rand) {
	m := &ownership{
		rand: random, now: time.Now(),
		sessions: map[string]*sessionRow{}, rows: map[string]*claimRow{"x": {}}, nodes: map[string]*owner{},
	}
	m.flush(t)
	for _, name := range []string{"a", "b"} {
		m.nodes[name] = &owner{name: name, ttl: ttl}
		m.start(m.nodes[name])
	}
	steps := map[string]func(*rapid.T){
		"tick": m.tick, "renew": m.renew, "look": m.look, "serve": m.serve, "release": m.release,
		"crash": m.crash, "late": m.late, "flush": m.flush, "freeze": m.freeze,
	}
	often := []string{"release", "late", "late", "late", "crash", "flush", "freeze"}
	for range 8 {
		often = append(often, "tick", "look", "look", "look", "serve", "renew")
	}
	for range 600 {
		steps[often[m.rand.IntN(len(often))]](t)
		m.check(t)
	}
}

type sessionRow struct {
	counter int64
	ended   bool
	ttl     time.Duration
}

type claimRow struct {
	session string
	fence   int64
}

// held is what a node has in memory of a conversation.
type held struct {
	session *Session
	fence   int64
}

type owner struct {
	name    string
	ttl     time.Duration
	session *Session
	memory  map[string]held
	// asked counts claims and releases: the reply to a claim that is not the
	// newest is nobody's any more.
	asked map[string]int
	watch watcher
	// frozen: it does nothing, and its memory stays as it is.
	frozen bool
}

// ownership is the database, Redis and the nodes.
type ownership struct {
	rand     *rand.Rand
	now      time.Time
	sessions map[string]*sessionRow
	rows     map[string]*claimRow
	lease    *LocalLease
	nodes    map[string]*owner
	made     int
	pending  []func(*rapid.T) // statements and replies on their way
}

func (m *ownership) node(*rapid.T) *owner {
	return m.nodes[[]string{"a", "b"}[m.rand.IntN(2)]]
}

func (m *ownership) over(session string) bool {
	s := m.sessions[session]
	return s == nil || s.ended
}

// check is I5: the one who serves is the one whom the row names.
func (m *ownership) check(t *rapid.T) {
	for convo, row := range m.rows {
		serving := ""
		for _, n := range m.nodes {
			h, ok := n.memory[convo]
			if !ok || !h.session.Trusted(m.now) {
				continue
			}
			if serving != "" {
				t.Fatalf("%s is served by %s and by %s", convo, serving, n.name)
			}
			serving = n.name
			if h.session.ID() != row.session && row.session != "" {
				t.Fatalf("%s is served by %s under %s, and claimed by %s", convo, n.name, h.session.ID(), row.session)
			}
		}
	}
}

func (m *ownership) tick(*rapid.T) {
	m.now = m.now.Add(time.Duration(1 + m.rand.Int64N(int64(ttl/2))))
}

// start begins a life: a session of its own, and nothing in memory.
func (m *ownership) start(n *owner) {
	m.made++
	n.session = &Session{id: fmt.Sprintf("%s%d", n.name, m.made)}
	n.memory, n.asked = map[string]held{}, map[string]int{}
	n.watch.seen = map[string]sighting{}
	m.sessions[n.session.id] = &sessionRow{ttl: n.ttl}
	n.session.extend(m.now, time.Duration(trustShare*float64(n.ttl)))
}

// crash ends a life; the session stays.
func (m *ownership) crash(t *rapid.T) { m.start(m.node(t)) }

// freeze stops a node for a while, or lets it go on.
func (m *ownership) freeze(t *rapid.T) {
	n := m.node(t)
	n.frozen = !n.frozen
}

// fate is what becomes of a statement.
func (m *ownership) fate() string {
	fates := []string{"answered", "answered", "answered", "answered", "reply late", "reply lost", "runs late", "never runs"}
	return fates[m.rand.IntN(len(fates))]
}

// run runs a statement and hands its reply on, as fate has it. What comes late
// comes at any later step.
func (m *ownership) run(t *rapid.T, statement func(), reply func(*rapid.T)) {
	switch m.fate() {
	case "answered":
		statement()
		reply(t)
	case "reply late":
		statement()
		m.pending = append(m.pending, reply)
	case "reply lost":
		statement()
	case "runs late": // its sender has given up
		m.pending = append(m.pending, func(*rapid.T) { statement() })
	}
}

func (m *ownership) late(t *rapid.T) {
	if len(m.pending) == 0 {
		return
	}
	i := m.rand.IntN(len(m.pending))
	f := m.pending[i]
	m.pending = append(m.pending[:i:i], m.pending[i+1:]...)
	f(t)
}

// renew is rule 2: trust counts from the send.
func (m *ownership) renew(t *rapid.T) {
	n := m.node(t)
	if n.frozen {
		return
	}
	s, sent, over := n.session, m.now, false
	m.run(t, func() {
		if over = m.over(s.id); !over {
			m.sessions[s.id].counter++
		}
	}, func(*rapid.T) {
		switch {
		case n.session != s: // a life later
		case over:
			s.end()
			m.start(n)
		default:
			s.extend(sent, time.Duration(trustShare*float64(n.ttl)))
		}
	})
}

// look is rule 3: a counter that stands still for its row's ttl is ended, if it
// still stands there.
func (m *ownership) look(t *rapid.T) {
	n := m.node(t)
	if n.frozen {
		return
	}
	var live []persistence.Session
	for id, s := range m.sessions {
		if !s.ended {
			live = append(live, persistence.Session{ID: id, Counter: s.counter, TTL: s.ttl})
		}
	}
	stalled, _ := n.watch.note(m.now, m.now, live, n.session.id)
	for _, s := range stalled {
		m.run(t, func() {
			if row := m.sessions[s.ID]; !row.ended && row.counter == s.Counter {
				row.ended = true
			}
		}, func(*rapid.T) {})
	}
}

// serve takes the lease, then claims (rules 7 and 21).
func (m *ownership) serve(t *rapid.T) {
	n, convo := m.node(t), "x"
	if n.frozen {
		return
	}
	ctx := context.Background()
	s := n.session
	mine := Entry{Session: s.id, Node: n.name}
	if current, acquired, _ := m.lease.Acquire(ctx, convo, mine, ""); !acquired {
		if !m.over(current.Session) && m.rand.IntN(2) == 0 {
			return // the other node is asked
		}
		_, _, _ = m.lease.Acquire(ctx, convo, mine, current.Session)
	}
	delete(n.memory, convo) // loading always claims, and drops what was there
	n.asked[convo]++
	asked := n.asked[convo]
	var fence int64
	m.run(t, func() {
		row := m.rows[convo]
		if m.over(s.id) || (row.session != "" && row.session != s.id && !m.over(row.session)) {
			fence = 0
			return
		}
		row.session, row.fence = s.id, row.fence+1
		fence = row.fence
	}, func(t *rapid.T) {
		if fence == 0 || n.session != s || n.asked[convo] != asked {
			return
		}
		n.memory[convo] = held{s, fence}
		if _, err := m.lease.SetFence(context.Background(), convo, Entry{Session: s.id, Node: n.name, Fence: fence}); err != nil {
			t.Fatal(err)
		}
		if e, _, _ := m.lease.Find(context.Background(), convo); e.Fence < fence {
			t.Fatalf("the lease of %s has fence %d after %d", convo, e.Fence, fence)
		}
	})
}

// release is rule 9: memory first, then the claim, on condition.
func (m *ownership) release(t *rapid.T) {
	n, convo := m.node(t), "x"
	h, ok := n.memory[convo]
	if !ok {
		return
	}
	delete(n.memory, convo)
	n.asked[convo]++
	m.run(t, func() {
		if row := m.rows[convo]; row.session == h.session.id && row.fence == h.fence {
			row.session = ""
		}
	}, func(*rapid.T) {})
	_ = m.lease.Release(context.Background(), h.session.id, []string{convo})
}

// flush loses all that Redis knew.
func (m *ownership) flush(*rapid.T) {
	m.lease = NewLocalLease()
	m.lease.now = func() time.Time { return m.now }
}
