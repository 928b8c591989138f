package history

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/anishathalye/porcupine"

	"catbird/conversation"
)

// model is one conversation that does one thing after another.
type model struct {
	start            state
	people           []string // DIDs, by bit
	creator          int
	anyMemberRemoves bool
	known            placed
}

// state is the model's state. It is never changed, only replaced.
type state struct {
	epoch, seq int64
	members    uint64 // bits by person
	log        *entry
	left       *departure
	done       *doneKey
	// hash is of all changes in their order, which decide everything else: two
	// states with the same hash are taken for the same.
	hash uint64
}

// entry is a row of the log; the rows before it hang on it.
type entry struct {
	before *entry
	row    Row
}

// departure is who left, and the last seq they may read.
type departure struct {
	before *departure
	who    int
	seq    int64
}

// doneKey is an idempotency key under which something was done.
type doneKey struct {
	before     *doneKey
	key        int
	body       uint64
	epoch, seq int64
}

// defaultLimit is how long a page is at most where nothing is said.
const defaultLimit = 50

// step is the model: does c, done in state s, get the answer it got, and which
// state comes after?
func (m *model) step(s state, c *call) (bool, state) {
	if c.op.Output.Outcome == Unknown {
		return m.stepUnknown(s, c)
	}
	out := c.op.Output
	switch c.op.Kind {
	case GetEpoch:
		if !s.has(c.caller) {
			return out.Code == conversation.NotMember, s
		}
		return out.Code == "" && out.Epoch == s.epoch, s
	case GetMessages:
		last, may := s.readable(c.caller)
		if !may {
			return out.Code == conversation.NotMember, s
		}
		return out.Code == "" && s.page(c.op.Input, last, out), s
	case ReadLog:
		return out.Seq == s.seq && s.holds(s.seq, out.Rows) && int64(len(out.Rows)) == s.seq, s
	}
	a, next := m.change(s, c)
	if a.code == "" && next.seq > s.seq && !m.known.allow(c, next) {
		return false, s
	}
	return a.fits(out), next
}

// stepUnknown lets a change that nobody has an answer to take effect. One that
// would be refused has none; one that never takes effect does so after all
// others, where it changes nothing that anybody saw.
func (m *model) stepUnknown(s state, c *call) (bool, state) {
	if d := s.find(c.key); d != nil {
		return true, s
	}
	place := c.op.Output.Seq // where pages show it
	if place != 0 && s.seq != place-1 {
		return false, s
	}
	a, next := m.change(s, c)
	if a.code != "" {
		return place == 0, s
	}
	return m.known.allow(c, next), next
}

// answer is what a change is to be told.
type answer struct {
	code       conversation.Code
	epoch, seq int64 // of a success; epoch: also the current one of an EpochMismatch
}

func (a answer) fits(out Output) bool {
	switch {
	case out.Code != a.code:
		return false
	case a.code == "":
		return out.Epoch == a.epoch && (out.Seq == 0 || out.Seq == a.seq)
	case a.code == conversation.EpochMismatch:
		return out.Epoch == a.epoch
	}
	return true
}

// change is what a change does to s. The order of the checks is the API's: the
// key, membership, the epoch, the rest.
func (m *model) change(s state, c *call) (answer, state) {
	if d := s.find(c.key); d != nil {
		if d.body != c.body {
			return answer{code: conversation.IdempotencyConflict}, s
		}
		return answer{epoch: d.epoch, seq: d.seq}, s
	}
	if !s.has(c.caller) {
		return answer{code: conversation.NotMember}, s
	}
	if e := c.op.Input.Epoch; e != nil && *e != s.epoch {
		return answer{code: conversation.EpochMismatch, epoch: s.epoch}, s
	}
	if code := m.refuses(s, c); code != "" {
		return answer{code: code}, s
	}
	next := s.after(c)
	return answer{epoch: next.epoch, seq: next.seq}, next
}

// refuses are the rules that only changes of members have.
func (m *model) refuses(s state, c *call) conversation.Code {
	switch c.op.Kind {
	case AddMembers:
		if s.members&c.who != 0 {
			return conversation.AlreadyMember
		}
	case LeaveConvo:
		switch {
		case s.members&c.who == 0:
			return conversation.TargetNotMember
		case c.who != bit(c.caller) && c.caller != m.creator && !m.anyMemberRemoves:
			return conversation.NotAuthorized
		case s.members == c.who:
			return conversation.LastMember
		}
	}
	return ""
}

// after is the state that a change leads to that nothing speaks against.
func (s state) after(c *call) state {
	s.seq++
	kind := conversation.KindApp
	if c.op.Kind != SendMessage {
		s.epoch++
		kind = conversation.KindCommit
	}
	s.log = &entry{s.log, Row{
		ID: c.op.Output.MessageID, Kind: kind, Sender: c.op.Caller, Epoch: s.epoch, Seq: s.seq, Payload: c.op.Input.Payload,
	}}
	switch c.op.Kind {
	case AddMembers:
		s.members |= c.who
	case LeaveConvo:
		s.members &^= c.who
		s.left = &departure{s.left, bits.TrailingZeros64(c.who), s.seq}
	}
	if c.key != 0 {
		s.done = &doneKey{s.done, c.key, c.body, s.epoch, s.seq}
	}
	s.hash = mix(s.hash ^ c.sum)
	return s
}

func (s state) has(who int) bool { return s.members&bit(who) != 0 }

// readable is up to which seq somebody may read the log.
func (s state) readable(who int) (last int64, may bool) {
	if s.has(who) {
		return s.seq, true
	}
	for d := s.left; d != nil; d = d.before {
		if d.who == who {
			return d.seq, true
		}
	}
	return 0, false
}

func (s state) find(key int) *doneKey {
	if key == 0 {
		return nil
	}
	for d := s.done; d != nil; d = d.before {
		if d.key == key {
			return d
		}
	}
	return nil
}

// page reports whether out is the page that was asked for, of a log that may be
// read up to last.
func (s state) page(in Input, last int64, out Output) bool {
	if out.Seq != last {
		return false
	}
	limit := int64(in.Limit)
	if limit == 0 {
		limit = defaultLimit
	}
	first, end := max(0, last-limit), last
	if in.Since != nil {
		first = min(*in.Since, last)
		end = min(last, first+limit)
	}
	return int64(len(out.Rows)) == end-first && s.holds(end, out.Rows)
}

// holds reports whether rows are those up to seq end.
func (s state) holds(end int64, rows []Row) bool {
	e := s.log
	for ; e != nil && e.row.Seq > end; e = e.before {
	}
	for i := len(rows) - 1; i >= 0; i, e = i-1, e.before {
		if e == nil || !e.row.same(rows[i]) {
			return false
		}
	}
	return true
}

// same reports whether a row of a page is r, whose id may not be known.
func (r Row) same(seen Row) bool {
	if r.ID == "" {
		seen.ID = ""
	}
	return r == seen
}

func bit(who int) uint64 { return 1 << who }

// mix spreads what x is made of over all of its bits.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// porcupine is the model in the checker's terms. Inputs are *call, outputs are
// in them.
func (m *model) porcupine(stop func() bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return m.start },
		Step: func(s, in, _ any) (bool, any) {
			if stop() { // nothing fits any more, and the search ends
				return false, s
			}
			ok, next := m.step(s.(state), in.(*call))
			return ok, next
		},
		Equal: func(a, b any) bool {
			x, y := a.(state), b.(state)
			return x.hash == y.hash && x.seq == y.seq && x.epoch == y.epoch && x.members == y.members
		},
		Hash:              func(s any) uint64 { return s.(state).hash },
		DescribeOperation: func(in, _ any) string { return in.(*call).op.String() },
		DescribeState:     func(s any) string { return m.describe(s.(state)) },
	}
}

// describe says in a picture what a state is.
func (m *model) describe(s state) string {
	var who []string
	for i, did := range m.people {
		if s.has(i) {
			who = append(who, did)
		}
	}
	return fmt.Sprintf("epoch %d, seq %d, members %s", s.epoch, s.seq, strings.Join(who, " "))
}
