package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"pgregory.net/rapid"
)

// The lease under nodes that crash, requests that arrive late, after the node
// that sent them is gone, and replies that get lost, in virtual time. After
// each step the server's own data are compared with a model, and the two
// promises are checked: the fence of an entry never falls, and nobody takes
// the conversation of a session that lives.
func TestLeaseModel(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	l := NewRedisLease(RedisLeaseConfig{Redis: newRedis(t, "redis://"+server.Addr()), Label: "l"})
	rapid.Check(t, func(t *rapid.T) {
		server.FlushAll()
		w := &world{lease: l, server: server, model: newModel(), claims: map[string]Entry{}}
		for i := range 3 {
			n := &node{name: fmt.Sprintf("n%d", i), gone: map[string]string{}, held: map[string]bool{}}
			w.nodes = append(w.nodes, n)
			w.begin(t, n)
		}
		t.Repeat(map[string]func(*rapid.T){
			"pass":    w.pass,
			"lapse":   w.lapse,
			"take":    w.take,
			"renew":   w.renew,
			"crash":   w.crash,
			"find":    w.find,
			"acquire": w.acquire,
			"claim":   w.claim,
			"release": w.release,
			"deny":    w.deny,
			"arrive":  w.arrive,
			"flush":   w.flush,
			"":        w.check,
		})
	})
}

const modelTTL = 5 * time.Second

type node struct {
	name    string
	lives   int
	session Entry // of this life
	lapses  time.Duration
	gone    map[string]string // what it last found gone, by conversation
	held    map[string]bool   // what it believes it holds
}

// world is nodes, the database, the network and the server.
type world struct {
	lease  *RedisLease
	server *miniredis.Miniredis
	nodes  []*node
	claims map[string]Entry // the database: who claims what, with which fence
	late   []func(*rapid.T) // requests on their way
	model  *model
}

func (w *world) node(t *rapid.T) *node { return rapid.SampledFrom(w.nodes).Draw(t, "node") }

func (w *world) convo(t *rapid.T) string {
	return rapid.SampledFrom([]string{"x", "y"}).Draw(t, "convo")
}

// begin gives a node a new session, as after a crash or a lapse.
func (w *world) begin(t *rapid.T, n *node) {
	n.lives++
	n.session = Entry{Session: fmt.Sprintf("%s-%d", n.name, n.lives), Node: n.name, Address: n.name + ":1"}
	clear(n.held)
	clear(n.gone)
	w.keep(t, n)
}

func (w *world) keep(t *rapid.T, n *node) {
	s := n.session
	must(t, w.lease.RenewSession(context.Background(), s.Session, s.Node, s.Address, modelTTL))
	n.lapses = w.model.now + modelTTL
	w.model.sessions[s.Session] = n.lapses
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// send does a request at once, leaves it on its way, or does it and loses the
// reply; heard says whether the node learns the outcome.
func (w *world) send(t *rapid.T, do func(t *rapid.T, heard bool)) {
	switch rapid.SampledFrom([]string{"at once", "at once", "late", "reply lost"}).Draw(t, "network") {
	case "late":
		w.late = append(w.late, func(t *rapid.T) { do(t, false) })
	case "reply lost":
		do(t, false)
	default:
		do(t, true)
	}
}

func (w *world) pass(t *rapid.T) {
	d := time.Duration(rapid.IntRange(1, 6000).Draw(t, "ms")) * time.Millisecond
	w.server.FastForward(d)
	w.model.pass(d)
}

func (w *world) renew(t *rapid.T) {
	n := w.node(t)
	if n.lapses <= w.model.now {
		w.begin(t, n) // others may have ended the session: it takes a new one
		return
	}
	w.keep(t, n)
}

func (w *world) crash(t *rapid.T) { w.begin(t, w.node(t)) }

func (w *world) find(t *rapid.T) {
	w.findBy(t, w.node(t), w.convo(t))
}

func (w *world) findBy(t *rapid.T, n *node, convo string) {
	e, live, err := w.lease.Find(context.Background(), convo)
	must(t, err)
	wantEntry, wantLive := w.model.find(convo)
	if e != wantEntry || live != wantLive {
		t.Fatalf("found %+v, live %v; want %+v, %v", e, live, wantEntry, wantLive)
	}
	delete(n.gone, convo)
	if e.Session != "" && !live {
		n.gone[convo] = e.Session
	}
}

func (w *world) acquire(t *rapid.T) {
	w.acquireBy(t, w.node(t), w.convo(t))
}

func (w *world) acquireBy(t *rapid.T, n *node, convo string) {
	mine, gone := n.session, n.gone[convo]
	w.send(t, func(t *rapid.T, heard bool) {
		before := w.model.entries[convo].Entry
		want, granted := w.model.acquire(convo, mine, gone)
		e, ok, err := w.lease.Acquire(context.Background(), convo, mine, gone)
		must(t, err)
		if e != want || ok != granted {
			t.Fatalf("%s acquired %s: %+v, %v; want %+v, %v", mine.Session, convo, e, ok, want, granted)
		}
		if took := before.Session; took != "" && took != e.Session && w.model.alive(took) && !w.model.revived[took] {
			t.Fatalf("%s took %s from %s, which lives", mine.Session, convo, took)
		}
		if heard && n.session == mine {
			n.held[convo] = ok
		}
	})
}

// claim is what follows: the database grants the claim of a node that believes
// that it holds the lease, and the fence is written in.
func (w *world) claim(t *rapid.T) {
	n, convo := w.node(t), w.convo(t)
	if !n.held[convo] {
		t.Skip("not held")
	}
	w.claimBy(t, n, convo)
}

func (w *world) claimBy(t *rapid.T, n *node, convo string) {
	e := n.session
	e.Fence = w.claims[convo].Fence + 1
	w.claims[convo] = e
	w.send(t, func(t *rapid.T, _ bool) {
		want := w.model.fence(convo, e)
		stored, err := w.lease.SetFence(context.Background(), convo, e)
		must(t, err)
		if stored != want {
			t.Fatalf("fence of %+v on %s stored: %v", e, convo, stored)
		}
	})
}

// take is what a node does that is asked for a conversation: it looks, takes
// what is nobody's, and claims.
func (w *world) take(t *rapid.T) {
	n, convo := w.node(t), w.convo(t)
	w.findBy(t, n, convo)
	w.acquireBy(t, n, convo)
	if n.held[convo] {
		w.claimBy(t, n, convo)
	}
}

// lapse lets all sessions lapse that nobody renews.
func (w *world) lapse(*rapid.T) {
	w.server.FastForward(modelTTL)
	w.model.pass(modelTTL)
}

func (w *world) release(t *rapid.T) {
	n, convo := w.node(t), w.convo(t)
	session := n.session.Session
	delete(n.held, convo)
	w.send(t, func(t *rapid.T, _ bool) {
		w.model.remove(convo, session)
		must(t, w.lease.Release(context.Background(), session, []string{convo}))
	})
}

// deny is any node denying what an entry said of it.
func (w *world) deny(t *rapid.T) {
	convo := w.convo(t)
	e, _ := w.model.find(convo)
	if e.Session == "" {
		t.Skip("nobody to ask")
	}
	w.send(t, func(t *rapid.T, _ bool) {
		w.model.remove(convo, e.Session)
		must(t, w.lease.Deny(context.Background(), convo, e.Session))
	})
}

func (w *world) arrive(t *rapid.T) {
	if len(w.late) == 0 {
		t.Skip("nothing is on its way")
	}
	i := rapid.IntRange(0, len(w.late)-1).Draw(t, "which")
	do := w.late[i]
	w.late = append(w.late[:i], w.late[i+1:]...)
	do(t)
}

func (w *world) flush(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
		t.Skip("not this time")
	}
	w.server.FlushAll()
	w.model.flush()
}

// check compares the server's data with the model.
func (w *world) check(t *rapid.T) {
	for _, convo := range []string{"x", "y"} {
		var got Entry
		if text, err := w.server.Get(w.lease.convoKey(convo)); err == nil {
			e, ok := decodeEntry(text)
			if !ok {
				t.Fatalf("the entry of %s is %q", convo, text)
			}
			got = e
		}
		want, _ := w.model.find(convo)
		if got != want {
			t.Fatalf("the entry of %s is %+v, want %+v", convo, got, want)
		}
		if last, there := w.model.seen[convo]; there && got.Session != "" && got.Fence < last {
			t.Fatalf("the fence of %s fell from %d to %d", convo, last, got.Fence)
		}
		if w.model.seen[convo] = got.Fence; got.Session == "" {
			delete(w.model.seen, convo)
		}
	}
	for session, until := range w.model.sessions {
		if alive := w.server.Exists(w.lease.sessionKey(session)); alive != (w.model.now < until) {
			t.Fatalf("session %s is there: %v", session, alive)
		}
	}
}

// model is what the lease should hold.
type model struct {
	now      time.Duration
	sessions map[string]time.Duration // until when they live
	revived  map[string]bool          // vanished in a flush, so may come back
	entries  map[string]modelEntry
	seen     map[string]int64 // fences at the last check
}

type modelEntry struct {
	Entry
	until time.Duration
}

func newModel() *model {
	return &model{
		sessions: map[string]time.Duration{}, revived: map[string]bool{},
		entries: map[string]modelEntry{}, seen: map[string]int64{},
	}
}

func (m *model) pass(d time.Duration) {
	m.now += d
	for convo, e := range m.entries {
		if e.until <= m.now {
			delete(m.entries, convo)
		}
	}
}

func (m *model) alive(session string) bool { return m.now < m.sessions[session] }

func (m *model) find(convo string) (Entry, bool) {
	e := m.entries[convo].Entry
	return e, e.Session != "" && m.alive(e.Session)
}

func (m *model) put(convo string, e Entry) {
	m.entries[convo] = modelEntry{e, m.now + LeaseEntryTTL}
}

func (m *model) acquire(convo string, mine Entry, gone string) (Entry, bool) {
	old := m.entries[convo].Entry
	switch old.Session {
	case "", mine.Session, gone:
		mine.Fence = old.Fence
		m.put(convo, mine)
		return mine, true
	default:
		return old, false
	}
}

func (m *model) fence(convo string, e Entry) bool {
	old := m.entries[convo].Entry
	if old.Session != "" && old != e && e.Fence <= old.Fence {
		return false
	}
	m.put(convo, e)
	return true
}

func (m *model) remove(convo, session string) {
	if m.entries[convo].Session == session {
		delete(m.entries, convo)
	}
}

func (m *model) flush() {
	for session := range m.sessions {
		if m.alive(session) {
			m.revived[session] = true
			m.sessions[session] = 0
		}
	}
	clear(m.entries)
}
