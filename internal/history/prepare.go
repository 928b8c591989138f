package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
)

// maxPeople is how many people one conversation's history may name.
const maxPeople = 64

// call is an operation as the model looks at it.
type call struct {
	op     *Op
	caller int    // by model.people
	who    uint64 // bits of those who are added or leave
	key    int    // the same for attempts with the same key, from 1; 0: no other attempt has it
	body   uint64 // what is asked for, without the key
	sum    uint64 // the same for changes that do the same

	// What pages tell of a change that nobody has an answer to: the seq it has,
	// or else the seq before which it certainly did not take effect.
	at, notBefore int64
}

// subject is the history of one conversation, ready to be checked.
type subject struct {
	convo Convo
	ops   []Op
}

// subjects sorts the operations by conversation, in the order of their
// beginnings, and leaves out those that say nothing: what failed, and reads
// without an answer.
func subjects(h History) ([]subject, error) {
	index := map[string]int{}
	out := make([]subject, len(h.Convos))
	for i, c := range h.Convos {
		if _, twice := index[c.ID]; twice {
			return nil, fmt.Errorf("conversation %s is started twice", c.ID)
		}
		index[c.ID] = i
		out[i].convo = c
	}
	for i := range h.Ops {
		op := &h.Ops[i]
		at, ok := index[op.Convo]
		if !ok {
			return nil, fmt.Errorf("operation %d is of conversation %q, which was not started", op.ID, op.Convo)
		}
		if err := op.wellFormed(); err != nil {
			return nil, fmt.Errorf("operation %d: %w", op.ID, err)
		}
		if op.Output.Outcome == Failed || (op.Output.Outcome == Unknown && !op.Kind.changes()) {
			continue
		}
		out[at].ops = append(out[at].ops, *op)
	}
	for _, s := range out {
		slices.SortStableFunc(s.ops, func(a, b Op) int { return int(a.Call - b.Call) })
	}
	return out, nil
}

func (op *Op) wellFormed() error {
	switch op.Kind {
	case GetEpoch, GetMessages, Commit, ReadLog:
	case SendMessage:
		if op.Input.Epoch == nil {
			return errors.New("a message without an epoch")
		}
	case AddMembers:
		if len(op.Input.DIDs) == 0 {
			return errors.New("nobody is added")
		}
	case LeaveConvo:
		if len(op.Input.DIDs) > 1 {
			return errors.New("more than one leaves")
		}
	default:
		return fmt.Errorf("unknown kind %q", op.Kind)
	}
	switch op.Output.Outcome {
	case Succeeded, Refused, Failed, Unknown:
	default:
		return fmt.Errorf("unknown outcome %q", op.Output.Outcome)
	}
	if (op.Output.Outcome == Succeeded) != (op.Output.Code == "") && op.Output.Outcome != Unknown {
		return fmt.Errorf("outcome %q with code %q", op.Output.Outcome, op.Output.Code)
	}
	if op.Return < op.Call {
		return errors.New("it returned before it was called")
	}
	return nil
}

// prepare builds the model of a conversation and what is asked of it.
func (s subject) prepare(anyMemberRemoves bool) (*model, []*call, error) {
	p := people{index: map[string]int{}}
	m := &model{anyMemberRemoves: anyMemberRemoves, creator: p.of(s.convo.Creator)}
	m.start = state{epoch: s.convo.Epoch, seq: int64(len(s.convo.Rows)), members: p.bits(s.convo.Members)}
	for _, r := range s.convo.Rows {
		m.start.log = &entry{m.start.log, r}
	}
	calls := make([]*call, len(s.ops))
	keys := attempts(s.ops)
	for i := range s.ops {
		calls[i] = newCall(&s.ops[i], &p, keys)
	}
	if len(p.names) > maxPeople {
		return nil, nil, fmt.Errorf("conversation %s: %d people, at most %d can be told apart", s.convo.ID, len(p.names), maxPeople)
	}
	m.people = p.names
	s.resolve(calls)
	return m, calls, nil
}

type people struct {
	index map[string]int
	names []string
}

func (p *people) of(did string) int {
	i, ok := p.index[did]
	if !ok {
		i = len(p.names)
		p.index[did] = i
		p.names = append(p.names, did)
	}
	return i
}

func (p *people) bits(dids []string) (b uint64) {
	for _, did := range dids {
		b |= bit(p.of(did))
	}
	return b
}

// keyOf is what an idempotency key belongs to.
type keyOf struct {
	caller string
	kind   Kind
	key    string
}

// attempts numbers the keys that more than one operation has.
func attempts(ops []Op) map[keyOf]int {
	count := map[keyOf]int{}
	numbers := map[keyOf]int{}
	for i := range ops {
		k := keyOf{ops[i].Caller, ops[i].Kind, ops[i].Input.Key}
		if k.key == "" {
			continue
		}
		if count[k]++; count[k] == 2 {
			numbers[k] = len(numbers) + 1
		}
	}
	return numbers
}

func newCall(op *Op, p *people, keys map[keyOf]int) *call {
	c := &call{op: op, key: keys[keyOf{op.Caller, op.Kind, op.Input.Key}]}
	if op.Kind != ReadLog {
		c.caller = p.of(op.Caller)
	}
	c.who = p.bits(op.Input.DIDs)
	if op.Kind == LeaveConvo && len(op.Input.DIDs) == 0 {
		c.who = bit(c.caller)
	}
	h := fnv.New64a()
	text := func(s string) {
		h.Write(binary.AppendUvarint(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	text(op.Input.Payload)
	for _, did := range op.Input.DIDs {
		text(did)
	}
	if e := op.Input.Epoch; e != nil {
		h.Write(binary.AppendVarint([]byte{1}, *e))
	}
	c.body = h.Sum64()
	text(op.Caller)
	text(string(op.Kind))
	text(op.Output.MessageID)
	h.Write(binary.AppendVarint(nil, int64(c.key)))
	c.sum = mix(h.Sum64())
	return c
}

// resolve finds in the pages what became of the changes that nobody has an
// answer to. It narrows down when they may have taken effect, which spares the
// search trying every instant, and loses nothing: each other instant would
// contradict a page.
func (s subject) resolve(calls []*call) {
	seen, upTo := s.seen()
	owners := map[string]*call{} // by payload; nil: of several requests
	for _, c := range calls {
		if !c.op.Kind.changes() || c.op.Input.Payload == "" {
			continue
		}
		o, known := owners[c.op.Input.Payload]
		if known && (o == nil || c.key == 0 || o.key != c.key) {
			owners[c.op.Input.Payload] = nil
			continue
		}
		owners[c.op.Input.Payload] = c
	}
	for _, c := range calls {
		if c.op.Output.Outcome != Unknown || owners[c.op.Input.Payload] == nil {
			continue
		}
		if r, ok := seen[c.op.Input.Payload]; ok {
			c.at = r.Seq
		} else {
			c.notBefore = upTo
		}
	}
}

// seen returns the rows that any page shows, by payload, and the seq up to
// which pages show all rows.
func (s subject) seen() (byPayload map[string]Row, upTo int64) {
	byPayload = map[string]Row{}
	seqs := map[int64]bool{}
	note := func(rows []Row) {
		for _, r := range rows {
			byPayload[r.Payload] = r
			seqs[r.Seq] = true
		}
	}
	note(s.convo.Rows)
	for i := range s.ops {
		note(s.ops[i].Output.Rows)
	}
	for seqs[upTo+1] {
		upTo++
	}
	return byPayload, upTo
}
