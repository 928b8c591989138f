package history

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"slices"
	"strconv"

	"catbird/conversation"
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
}

// request says which operations are attempts of one request.
func (c *call) request() int64 {
	if c.key != 0 {
		return -int64(c.key)
	}
	return c.op.ID
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
		slices.SortStableFunc(s.ops, func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
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
	if op.Output.Code == conversation.EpochMismatch && op.Input.Epoch == nil {
		return errors.New("EpochMismatch without an epoch")
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
	m.known = s.placed(calls)
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

func (op *Op) keyOf() keyOf { return keyOf{op.Caller, op.Kind, op.Input.Key} }

// attempts numbers the keys that more than one operation has.
func attempts(ops []Op) map[keyOf]int {
	count := map[keyOf]int{}
	numbers := map[keyOf]int{}
	for i := range ops {
		k := ops[i].keyOf()
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
	c := &call{op: op, key: keys[op.keyOf()]}
	if op.Kind != ReadLog {
		c.caller = p.of(op.Caller)
	}
	c.who = p.bits(op.Input.DIDs)
	if op.Kind == LeaveConvo && len(op.Input.DIDs) == 0 {
		c.who = bit(c.caller)
	}
	c.body = op.body()
	h, text := hasher()
	text(strconv.FormatUint(c.body, 16))
	text(op.Caller)
	text(string(op.Kind))
	text(strconv.FormatInt(c.request(), 10))
	c.sum = mix(h.Sum64())
	return c
}

// body is what is asked for, without by whom and under which key.
func (op *Op) body() uint64 {
	h, text := hasher()
	text(op.Input.Payload)
	for _, did := range op.Input.DIDs {
		text(did)
	}
	if e := op.Input.Epoch; e != nil {
		text(strconv.FormatInt(*e, 10))
	}
	return h.Sum64()
}

// hasher returns a hash, and what adds a text to it so that its end shows.
func hasher() (h hash.Hash64, text func(string)) {
	h = fnv.New64a()
	return h, func(s string) {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(s)))) // never fails
		_, _ = h.Write([]byte(s))
	}
}
