package history

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"catbird/conversation"
)

// The reference is the domain's own decision, applied to one conversation at
// one instant within each request: such a history is right by construction, and
// owes nothing to the model that is to accept it.
type reference struct {
	t     *rapid.T
	state conversation.State
	log   []Row
	keys  map[keyOf]done
	left  map[string]int64
}

type done struct {
	digest string
	out    Output
}

var persons = []string{"did:plc:alice", "did:plc:bob", "did:plc:carol"}

// histories draws a right history: requests with random intervals, one of whose
// instants is when they take effect; some are not answered, some of those never
// take effect, and some are asked again.
func histories(t *rapid.T) subject {
	ref := &reference{
		t: t, keys: map[keyOf]done{}, left: map[string]int64{},
		state: conversation.State{Creator: persons[0], Members: conversation.NewMembers(persons[0], persons[1])},
	}
	type effect struct {
		op *Op
		at time.Duration
	}
	var ops []*Op
	var order []effect
	n := rapid.IntRange(1, 25).Draw(t, "operations")
	for i := range n {
		op := ref.request(i)
		ops = append(ops, op)
		order = append(order, effect{op, time.Duration(rapid.IntRange(int(op.Call), int(op.Return)).Draw(t, "instant"))})
		if op.Kind.changes() && rapid.IntRange(0, 5).Draw(t, "fate") == 0 {
			op.Output = Lost() // for now: the effect comes when it comes
			order[i].at = op.Call + time.Duration(rapid.IntRange(0, 400).Draw(t, "late"))
		}
	}
	slices.SortStableFunc(order, func(a, b effect) int { return int(a.at - b.at) })
	for _, e := range order {
		lost := e.op.Output.Outcome == Unknown
		if lost && rapid.Bool().Draw(t, "never") {
			continue
		}
		out := ref.do(e.op)
		if !lost {
			e.op.Output = out
		}
	}
	s := subject{convo: Convo{ID: "c", Creator: persons[0], Members: persons[:2]}}
	for _, op := range ops {
		s.ops = append(s.ops, *op)
	}
	if rapid.Bool().Draw(t, "final") {
		s.ops = append(s.ops, Op{ID: int64(n + 1), Convo: "c", Kind: ReadLog, Call: 1000, Return: 1001, Output: Output{Outcome: Succeeded, Seq: ref.state.Seq, Rows: ref.log}})
	}
	return s
}

// request draws what is asked, and when.
func (r *reference) request(i int) *Op {
	call := rapid.IntRange(0, 300).Draw(r.t, "call")
	op := &Op{
		ID: int64(i + 1), Client: i, Convo: "c", Caller: rapid.SampledFrom(persons).Draw(r.t, "caller"),
		Call: time.Duration(call), Return: time.Duration(call + rapid.IntRange(0, 100).Draw(r.t, "took")),
		Kind: rapid.SampledFrom([]Kind{GetEpoch, GetMessages, SendMessage, SendMessage, Commit, AddMembers, LeaveConvo}).Draw(r.t, "kind"),
	}
	in := &op.Input
	if op.Kind == SendMessage || (op.Kind.changes() && rapid.Bool().Draw(r.t, "expects")) {
		e := rapid.Int64Range(0, 3).Draw(r.t, "epoch")
		in.Epoch = &e
	}
	switch op.Kind {
	case AddMembers, LeaveConvo:
		in.DIDs = []string{rapid.SampledFrom(persons).Draw(r.t, "who")}
	case GetMessages:
		if rapid.Bool().Draw(r.t, "since") {
			since := rapid.Int64Range(0, 6).Draw(r.t, "seq")
			in.Since = &since
		}
		in.Limit = rapid.IntRange(0, 5).Draw(r.t, "limit")
	}
	if op.Kind.changes() {
		if op.Kind == SendMessage || rapid.Bool().Draw(r.t, "bytes") {
			in.Payload = fmt.Sprint("p", rapid.IntRange(0, 30).Draw(r.t, "payload")) // some are the same
		}
		in.Key = rapid.SampledFrom([]string{"", "", "k1", "k2"}).Draw(r.t, "key")
	}
	return op
}

// do lets a request take effect now.
func (r *reference) do(op *Op) Output {
	switch op.Kind {
	case GetEpoch:
		if !r.state.Members.Has(op.Caller) {
			return Refusal(conversation.NotMember, 0)
		}
		return Output{Outcome: Succeeded, Epoch: r.state.Epoch}
	case GetMessages:
		return r.page(op)
	}
	digest := fmt.Sprint(op.Input.DIDs, op.Input.Payload, op.Input.Epoch != nil)
	if op.Input.Epoch != nil {
		digest += fmt.Sprint(*op.Input.Epoch)
	}
	if d, known := r.keys[op.keyOf()]; known && op.Input.Key != "" {
		if d.digest != digest {
			return Refusal(conversation.IdempotencyConflict, 0)
		}
		return d.out
	}
	return r.change(op, digest)
}

func (r *reference) page(op *Op) Output {
	last := r.state.Seq
	if !r.state.Members.Has(op.Caller) {
		seq, left := r.left[op.Caller]
		if !left {
			return Refusal(conversation.NotMember, 0)
		}
		last = seq
	}
	limit := op.Input.Limit
	if limit == 0 {
		limit = 50
	}
	rows := r.log[:last]
	if since := op.Input.Since; since != nil {
		rows = rows[min(*since, last):]
		rows = rows[:min(limit, len(rows))]
	} else {
		rows = rows[max(0, len(rows)-limit):]
	}
	return Output{Outcome: Succeeded, Seq: last, Rows: slices.Clone(rows)}
}

func (r *reference) change(op *Op, digest string) Output {
	bytes := []byte(op.Input.Payload)
	var c conversation.Command
	switch op.Kind {
	case SendMessage:
		c = conversation.Send{Epoch: *op.Input.Epoch, Ciphertext: bytes}
	case Commit:
		c = conversation.Commit{Commit: bytes, Expected: op.Input.Epoch}
	case AddMembers:
		c = conversation.AddMembers{DIDs: op.Input.DIDs, Commit: bytes, Expected: op.Input.Epoch}
	case LeaveConvo:
		c = conversation.Leave{Target: op.Input.DIDs[0], Commit: bytes, Expected: op.Input.Epoch}
	}
	id := fmt.Sprint("row-", op.ID)
	change, next, err := conversation.Decide(conversation.Env{Policy: conversation.DefaultPolicy()}, r.state,
		&conversation.Request{ID: id, Convo: "c", Caller: op.Caller, Command: c})
	if err != nil {
		return Refusal(conversation.CodeOf(err), r.current(err))
	}
	r.state = next
	r.log = append(r.log, Row{ID: id, Kind: change.Row.Kind, Sender: op.Caller, Epoch: change.Row.Epoch, Seq: change.Row.Seq, Payload: op.Input.Payload})
	if op.Kind == LeaveConvo {
		r.left[op.Input.DIDs[0]] = next.Seq
	}
	out := Output{Outcome: Succeeded, Epoch: next.Epoch}
	if op.Kind == SendMessage {
		out.Seq, out.MessageID = next.Seq, id
	}
	if op.Input.Key != "" {
		r.keys[op.keyOf()] = done{digest, out}
	}
	return out
}

func (r *reference) current(err error) int64 {
	if conversation.CodeOf(err) != conversation.EpochMismatch {
		return 0
	}
	return r.state.Epoch
}

// propertyLimit bounds one decision. Most take a millisecond.
const propertyLimit = 2 * time.Second

// verdict decides a history as Check does.
func verdict(t *rapid.T, s subject) Verdict {
	v, err := s.resolve().decide(t.Context(), propertyLimit, false)
	if err != nil {
		t.Fatal(err)
	}
	if v == OK && len(s.checkPages()) > 0 {
		return Violated
	}
	return v
}

// copied is s with operations of its own.
func (s subject) copied() subject {
	s.ops = slices.Clone(s.ops)
	slices.SortStableFunc(s.ops, func(a, b Op) int { return int(a.Call - b.Call) })
	return s
}

func TestEveryRightHistoryIsAccepted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := histories(t)
		if v := verdict(t, s.copied()); v != OK {
			t.Fatalf("%s:\n%s", v, lines(s.ops))
		}
	})
}

// Making a history smaller never makes a right one wrong.
func TestReducingLeavesRightHistoriesRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := histories(t).copied().resolve()
		gone := map[int64]bool{}
		for _, op := range s.ops {
			if rapid.Bool().Draw(t, "gone") {
				gone[op.ID] = true
			}
		}
		cut := time.Duration(rapid.IntRange(0, 1001).Draw(t, "cut"))
		for name, smaller := range map[string]subject{
			"cut": s.upTo(cut), "without": s.without(gone), "both": s.upTo(cut).without(gone),
		} {
			v, err := smaller.decide(t.Context(), propertyLimit, false)
			if err != nil || v != OK {
				t.Fatalf("%s: %s, %v:\n%s\nof:\n%s", name, v, err, lines(smaller.ops), lines(s.ops))
			}
		}
	})
}

// A history to which a lie is told is found out, unless the lie may be true;
// and what is left of it by reducing is wrong by itself.
func TestWhatIsLeftOfAWrongHistoryIsWrong(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		s := histories(t).copied()
		op := &s.ops[rapid.IntRange(0, len(s.ops)-1).Draw(t, "liar")]
		op.Output.Epoch += rapid.SampledFrom([]int64{-1, 1}).Draw(t, "lie")
		if op.Output.Outcome == Unknown || verdict(t, s.copied()) != Violated {
			return
		}
		s = s.resolve()
		small := s.reduce(t.Context(), propertyLimit, false)
		if v, err := small.decide(t.Context(), propertyLimit, false); err != nil || v != Violated || len(small.ops) > len(s.ops) {
			t.Fatalf("%s, %v:\n%s\nof:\n%s", v, err, lines(small.ops), lines(s.ops))
		}
		found++
	})
	if found == 0 {
		t.Error("no lie was found out")
	}
}
