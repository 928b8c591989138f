package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"catbird/persistence"
)

// Sessions, claims and the lease together, in virtual time: nodes renew, look
// at each other, take, claim, append and let go, while they crash, freeze, lose
// replies and have statements run late, and Redis forgets. After each step at
// most one node serves a conversation from memory (I5), what it shows is what
// the row says, and fences only rise.
//
// What the nodes do with statements is this package's, down to the database,
// whose statements are written out below.
func TestOwnershipModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		for life := range uint64(20) {
			course := newCourse(seed, life)
			if err := play(course); err != nil {
				short := shorten(course)
				t.Fatalf("%v\nit takes %d of %d steps: %s", play(short), len(short), len(course), actionsOf(short))
			}
		}
	})
}

// The same seed gives the same course, or nothing that fails could be repeated.
func TestOwnershipModelRepeats(t *testing.T) {
	trace := func(seed uint64) string {
		m := newOwnership()
		var b strings.Builder
		for _, s := range newCourse(seed, 0) {
			if err := m.do(s); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, s.action, m.now.Sub(m.began), *m.rows["x"], len(m.sessions), len(m.pending))
		}
		return b.String()
	}
	first, again := trace(7), trace(7)
	if first != again {
		t.Error("one seed gave two courses")
	}
	if first == trace(8) {
		t.Error("two seeds gave one course")
	}
}

// step is one thing that happens. All that is left to chance in it comes from
// its own seed, so that others can be left out.
type step struct {
	action string
	seed   uint64
}

// actions are drawn evenly: rapid's own choices lean to the first of a list, and
// what breaks is far apart.
var actions = func() []string {
	often := []string{"release", "crash", "flush", "restore", "freeze"}
	for range 8 {
		often = append(often, "tick", "look", "look", "look", "serve", "renew")
	}
	return append(often, "append", "append", "append", "append",
		"late", "late", "late", "late", "late", "late", "late", "late", "late")
}()

func newCourse(seed, life uint64) []step {
	random := rand.New(rand.NewPCG(seed, life))
	course := make([]step, 600)
	for i := range course {
		course[i] = step{actions[random.IntN(len(actions))], random.Uint64()}
	}
	return course
}

// play returns what is wrong after the first step after which something is.
func play(course []step) error {
	m := newOwnership()
	for i, s := range course {
		if err := m.do(s); err != nil {
			return fmt.Errorf("step %d, %s: %w", i, s.action, err)
		}
	}
	return nil
}

// shorten leaves out of a course that fails what it fails without.
func shorten(course []step) []step {
	for size := len(course) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(course); {
			rest := slices.Concat(course[:at], course[at+size:])
			if play(rest) != nil {
				course = rest
			} else {
				at += size
			}
		}
	}
	return course
}

func actionsOf(course []step) string {
	var b strings.Builder
	for _, s := range course {
		b.WriteString(s.action + " ")
	}
	return b.String()
}

type sessionRow struct {
	counter int64
	ended   bool
}

type claimRow struct {
	session string
	fence   int64
	seq     int64
}

// held is what a node has in memory of a conversation.
type held struct {
	session *Session
	fence   int64
	seq     int64
}

type owner struct {
	name    string
	session *Session
	memory  map[string]held
	// asked counts claims, appends and releases: the reply to one that is not
	// the newest is nobody's any more.
	asked int
	watch watcher
	// frozen: it does nothing, and its memory stays as it is.
	frozen bool
}

// ownership is the database, Redis and the nodes.
type ownership struct {
	rand       *rand.Rand
	began, now time.Time
	sessions   map[string]*sessionRow
	rows       map[string]*claimRow
	lease      *LocalLease
	nodes      []*owner
	made       int
	pending    []func() error // statements and replies on their way

	claimed map[string]claimRow // the newest claim that was seen in the row
	served  map[string]held     // what was last served from memory
	entry   map[string]Entry    // of the lease
}

const convo = "x"

func newOwnership() *ownership {
	m := &ownership{
		began: time.Now(), sessions: map[string]*sessionRow{}, rows: map[string]*claimRow{convo: {}},
		nodes:   []*owner{{name: "a"}, {name: "b"}},
		claimed: map[string]claimRow{}, served: map[string]held{}, entry: map[string]Entry{},
	}
	m.now = m.began
	_ = m.flush()
	for _, n := range m.nodes {
		m.start(n)
	}
	return m
}

// do does one step and returns what is wrong after it.
func (m *ownership) do(s step) error {
	m.rand = rand.New(rand.NewPCG(s.seed, 0))
	err := map[string]func() error{
		"tick": m.tick, "renew": m.renew, "look": m.look, "serve": m.serve, "append": m.append, "release": m.release,
		"crash": m.crash, "late": m.late, "flush": m.flush, "restore": m.restore, "freeze": m.freeze,
	}[s.action]()
	return errors.Join(err, m.check())
}

// node returns a node that does something, nil for one that is frozen.
func (m *ownership) node() *owner {
	if n := m.nodes[m.rand.IntN(len(m.nodes))]; !n.frozen {
		return n
	}
	return nil
}

func (m *ownership) over(session string) bool {
	s := m.sessions[session]
	return s == nil || s.ended
}

// check is I5: the one who serves is the one whom the row names, and shows what
// is in it; and fences rise from owner to owner.
func (m *ownership) check() error {
	row, last := *m.rows[convo], m.claimed[convo]
	if row.fence < last.fence {
		return fmt.Errorf("the fence fell from %d to %d", last.fence, row.fence)
	}
	if row.session != "" {
		if row.session != last.session && row.fence == last.fence {
			return fmt.Errorf("%s and %s were given fence %d", last.session, row.session, row.fence)
		}
		m.claimed[convo] = row
	}
	serving := ""
	for _, n := range m.nodes {
		h, ok := n.memory[convo]
		if !ok || !h.session.Trusted(m.now) {
			continue
		}
		if serving != "" {
			return fmt.Errorf("served by %s and by %s", serving, n.name)
		}
		serving = n.name
		if err := m.checkServed(h, row); err != nil {
			return fmt.Errorf("served by %s: %w", n.name, err)
		}
	}
	return m.checkLease()
}

func (m *ownership) checkServed(h held, row claimRow) error {
	last, before := m.served[convo]
	m.served[convo] = h
	switch {
	case h.session.ID() != row.session:
		return fmt.Errorf("under %s, and claimed by %q", h.session.ID(), row.session)
	case h.fence > row.fence:
		return fmt.Errorf("with fence %d, which is in no row: %d is", h.fence, row.fence)
	case h.seq != row.seq:
		return fmt.Errorf("up to %d of %d", h.seq, row.seq)
	case before && (h.fence < last.fence || h.fence == last.fence && h.session != last.session):
		return fmt.Errorf("under %s with fence %d, after %s with %d", h.session.ID(), h.fence, last.session.ID(), last.fence)
	}
	return nil
}

// checkLease: while there is an entry its fence never falls, and is none that no
// claim was given.
func (m *ownership) checkLease() error {
	e, _, _ := m.lease.Find(context.Background(), convo)
	last := m.entry[convo]
	m.entry[convo] = e
	if e.Session != "" && last.Session != "" && e.Fence < last.Fence {
		return fmt.Errorf("the fence of the lease fell from %d to %d", last.Fence, e.Fence)
	}
	if e.Fence > m.rows[convo].fence {
		return fmt.Errorf("the lease has fence %d, and the row %d", e.Fence, m.rows[convo].fence)
	}
	return nil
}

func (m *ownership) tick() error {
	m.now = m.now.Add(time.Duration(1 + m.rand.Int64N(int64(ttl/2))))
	return nil
}

// start begins a life: a session of its own, and nothing in memory.
func (m *ownership) start(n *owner) {
	m.made++
	n.session = &Session{id: fmt.Sprintf("%s%d", n.name, m.made)}
	n.memory = map[string]held{}
	n.watch.seen = map[string]sighting{}
	m.sessions[n.session.id] = &sessionRow{}
	n.session.extend(m.now, time.Duration(trustShare*float64(ttl)))
}

// crash ends a life; the session stays.
func (m *ownership) crash() error {
	if n := m.node(); n != nil {
		m.start(n)
	}
	return nil
}

// freeze stops a node for a while, or lets it go on.
func (m *ownership) freeze() error {
	n := m.nodes[m.rand.IntN(len(m.nodes))]
	n.frozen = !n.frozen
	return nil
}

// run runs a statement and hands its reply on, or not. What comes late comes at
// any later step.
func (m *ownership) run(statement, reply func() error) error {
	fates := []string{"answered", "answered", "answered", "answered", "reply late", "reply lost", "runs late", "never runs"}
	switch fates[m.rand.IntN(len(fates))] {
	case "answered":
		return errors.Join(statement(), reply())
	case "reply late":
		m.pending = append(m.pending, reply)
		return statement()
	case "reply lost":
		return statement()
	case "runs late": // its sender has given up
		m.pending = append(m.pending, statement)
	}
	return nil
}

func nothing() error { return nil }

func (m *ownership) late() error {
	if len(m.pending) == 0 {
		return nil
	}
	i := m.rand.IntN(len(m.pending))
	if newest := len(m.pending) - 1; m.rand.IntN(4) > 0 { // what is young still does harm
		i = max(newest-m.rand.IntN(3), 0)
	}
	f := m.pending[i]
	m.pending = append(m.pending[:i:i], m.pending[i+1:]...)
	return f()
}

// renew is rule 2: trust counts from the send. The lease's session is renewed
// with it.
func (m *ownership) renew() error {
	n := m.node()
	if n == nil {
		return nil
	}
	s, sent, over := n.session, m.now, false
	return m.run(func() error {
		if over = m.over(s.id); !over {
			m.sessions[s.id].counter++
		}
		return nil
	}, func() error {
		switch {
		case n.session != s: // a life later
			return nil
		case over:
			s.end()
			m.start(n)
			return nil
		}
		s.extend(sent, time.Duration(trustShare*float64(ttl)))
		return m.lease.RenewSession(context.Background(), s.id, n.name, "", ttl)
	})
}

// look is rule 3: a counter that stands still for its row's ttl is ended, if it
// still stands there.
func (m *ownership) look() error {
	n := m.node()
	if n == nil {
		return nil
	}
	var live []persistence.Session
	for id, s := range m.sessions {
		if !s.ended {
			live = append(live, persistence.Session{ID: id, Counter: s.counter, TTL: ttl})
		}
	}
	slices.SortFunc(live, func(a, b persistence.Session) int { return strings.Compare(a.ID, b.ID) })
	stalled, _ := n.watch.note(m.now, m.now, live, n.session.id)
	var errs []error
	for _, s := range stalled {
		errs = append(errs, m.run(func() error {
			if row := m.sessions[s.ID]; row.counter == s.Counter {
				row.ended = true
			}
			return nil
		}, nothing))
	}
	return errors.Join(errs...)
}

// serve takes the lease, then claims (rules 7 and 21). Who finds another there
// asks that one, and now and then the database.
func (m *ownership) serve() error {
	n := m.node()
	if n == nil {
		return nil
	}
	free, err := m.take(n)
	if err != nil || !free && m.rand.IntN(4) > 0 {
		return err
	}
	delete(n.memory, convo) // loading always claims, and drops what was there
	n.asked++
	s, asked, got := n.session, n.asked, claimRow{}
	return m.run(func() error {
		row := m.rows[convo]
		if m.over(s.id) || row.session != "" && row.session != s.id && !m.over(row.session) {
			return nil
		}
		row.session, row.fence = s.id, row.fence+1
		got = *row
		return nil
	}, func() error {
		if got.fence == 0 || n.session != s || n.asked != asked {
			return nil
		}
		n.memory[convo] = held{s, got.fence, got.seq}
		return m.setFence(n)
	})
}

// take takes the lease and reports whether nobody else has it, alive.
func (m *ownership) take(n *owner) (free bool, err error) {
	ctx, mine := context.Background(), Entry{Session: n.session.id, Node: n.name}
	before, live, _ := m.lease.Find(ctx, convo)
	current, acquired, _ := m.lease.Acquire(ctx, convo, mine, "")
	if !acquired && !live {
		_, acquired, _ = m.lease.Acquire(ctx, convo, mine, current.Session)
	}
	if acquired && live && before.Session != mine.Session {
		return false, fmt.Errorf("%s took the lease from %s, which lives", mine.Session, before.Session)
	}
	if !acquired && !live {
		return false, fmt.Errorf("%s is not given the lease of %s, which is gone", mine.Session, before.Session)
	}
	return acquired, nil
}

// setFence writes the fence of what n holds into the lease.
func (m *ownership) setFence(n *owner) error {
	h := n.memory[convo]
	_, err := m.lease.SetFence(context.Background(), convo, Entry{Session: h.session.id, Node: n.name, Fence: h.fence})
	if e, _, _ := m.lease.Find(context.Background(), convo); err == nil && e.Fence < h.fence {
		return fmt.Errorf("the lease has fence %d after %d", e.Fence, h.fence)
	}
	return err
}

// append is rules 8, 10 and 12: silent until the reply, on condition of all that
// it was built on, and without a reply the memory is dropped.
func (m *ownership) append() error {
	n := m.node()
	if n == nil {
		return nil
	}
	h, ok := n.memory[convo]
	if !ok || !h.session.Trusted(m.now) {
		return nil
	}
	delete(n.memory, convo)
	n.asked++
	asked, stored := n.asked, false
	return m.run(func() error {
		if row := m.rows[convo]; row.session == h.session.id && row.fence == h.fence && row.seq == h.seq {
			row.seq++
			stored = true
		}
		return nil
	}, func() error {
		if stored && n.session == h.session && n.asked == asked {
			n.memory[convo] = held{h.session, h.fence, h.seq + 1}
		}
		return nil
	})
}

// release is rule 9: memory first, then the claim, on condition; then the lease,
// if it still names the session.
func (m *ownership) release() error {
	n := m.node()
	if n == nil {
		return nil
	}
	h, ok := n.memory[convo]
	if !ok {
		return nil
	}
	delete(n.memory, convo)
	n.asked++
	return errors.Join(m.run(func() error {
		if row := m.rows[convo]; row.session == h.session.id && row.fence == h.fence {
			row.session = ""
		}
		return nil
	}, nothing), m.run(func() error {
		before, _, _ := m.lease.Find(context.Background(), convo)
		err := m.lease.Release(context.Background(), h.session.id, []string{convo})
		if after, _, _ := m.lease.Find(context.Background(), convo); before.Session != h.session.id && after != before {
			return fmt.Errorf("%s released the lease of %s", h.session.id, before.Session)
		}
		return err
	}, nothing))
}

// restore writes the lease of what a node holds anew, as when Redis is back,
// even if what it holds has long been another's.
func (m *ownership) restore() error {
	n := m.node()
	if n == nil {
		return nil
	}
	if _, ok := n.memory[convo]; !ok {
		return nil
	}
	return m.setFence(n)
}

// flush loses all that Redis knew.
func (m *ownership) flush() error {
	m.lease = NewLocalLease()
	m.lease.now = func() time.Time { return m.now }
	m.entry = map[string]Entry{}
	return nil
}
