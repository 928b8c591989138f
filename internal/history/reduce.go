package history

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"catbird/conversation"
)

// Reducing a history that is wrong must not make a wrong history of a right one.
// So an operation may only go if the others, had they been made without it,
// would be right whenever they were right with it:
//
//   - a read or a refusal changes nothing, and may go;
//   - what was asked after some instant may go, if what was then on its way
//     counts as not answered;
//   - a change may go if every epoch and seq beyond it is counted down by one,
//     in answers, pages and what was asked, and if nobody else's answer depends
//     on the members it changed.
//
// What is left is therefore a proof against the service by itself.

// tryLimit bounds one of the many decisions that reducing takes: what cannot be
// decided quickly is kept.
const tryLimit = 2 * time.Second

// reducer makes a wrong history smaller.
type reducer struct {
	ctx              context.Context
	anyMemberRemoves bool
}

// reduce returns a smallest part of s that is still wrong, or as far as it came
// when the time was up. s itself is wrong.
func (s subject) reduce(ctx context.Context, limit time.Duration, anyMemberRemoves bool) subject {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r := reducer{ctx, anyMemberRemoves}
	s = r.truncate(s)
	for size := len(s.ops) / 2; size > 0; {
		smaller, found := r.drop(s, size)
		if s = smaller; !found || size > len(s.ops) {
			size /= 2
		}
	}
	return s
}

// wrong reports whether s is certainly wrong.
func (r reducer) wrong(s subject) bool {
	v, err := s.decide(r.ctx, tryLimit, r.anyMemberRemoves)
	return err == nil && v == Violated
}

// truncate finds the first instant by which the history was wrong.
func (r reducer) truncate(s subject) subject {
	ends := make([]time.Duration, len(s.ops))
	for i := range s.ops {
		ends[i] = s.ops[i].Return
	}
	slices.Sort(ends)
	lo, hi := 0, len(ends)-1 // the history up to ends[hi] is wrong
	for lo < hi {
		mid := (lo + hi) / 2
		if r.wrong(s.upTo(ends[mid])) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if cut := s.upTo(ends[hi]); r.wrong(cut) {
		return cut
	}
	return s // a decision was not made in time
}

// upTo is the history as it was known at an instant.
func (s subject) upTo(end time.Duration) subject {
	out := subject{convo: s.convo}
	for _, op := range s.ops {
		if op.Call > end {
			continue
		}
		if op.Return > end {
			if !op.Kind.changes() || op.Output.Outcome == Refused {
				continue
			}
			op.Output = Output{Outcome: Unknown, Seq: op.Output.Seq, MessageID: op.Output.MessageID}
			op.Return = end
		}
		out.ops = append(out.ops, op)
	}
	out.forgetPlaces()
	return out
}

// forgetPlaces forgets where changes came that were not answered, if what came
// before them is not there: they took effect after the history was cut, or
// before it, or never.
func (s subject) forgetPlaces() {
	there := map[int64]bool{}
	for i := range s.ops {
		if s.ops[i].Kind.changes() {
			there[s.ops[i].Output.Seq] = true
		}
	}
	next := int64(len(s.convo.Rows)) + 1
	for there[next] {
		next++
	}
	for i := range s.ops {
		if out := &s.ops[i].Output; out.Outcome == Unknown && out.Seq > next {
			out.Seq, out.MessageID = 0, ""
		}
	}
}

// drop tries to leave out size operations at a time, from the newest on, and
// reports whether any could go.
func (r reducer) drop(s subject, size int) (subject, bool) {
	found := false
	for end := len(s.ops); end > 0 && r.ctx.Err() == nil; {
		begin := max(0, end-size)
		gone := map[int64]bool{}
		for _, op := range s.ops[begin:end] {
			gone[op.ID] = true
		}
		if smaller := s.without(gone); len(smaller.ops) < len(s.ops) && r.wrong(smaller) {
			s, found = smaller, true
		}
		end = min(begin, len(s.ops))
	}
	return s, found
}

// without leaves out those of the operations that may go.
func (s subject) without(gone map[int64]bool) subject {
	var changes []Op
	for _, op := range s.ops {
		if gone[op.ID] && op.Kind.changes() && op.Output.Outcome != Refused {
			changes = append(changes, op)
		}
	}
	s.ops = slices.DeleteFunc(slices.Clone(s.ops), func(op Op) bool {
		return gone[op.ID] && (!op.Kind.changes() || op.Output.Outcome == Refused)
	})
	// From the last one on: what is counted down lies behind it, and the places
	// of those before it stay.
	slices.SortStableFunc(changes, func(a, b Op) int { return cmp.Compare(b.Output.Seq, a.Output.Seq) })
	for _, op := range s.free(changes) {
		// Another attempt of the same request has taken this one with it.
		if slices.ContainsFunc(s.ops, func(other Op) bool { return other.ID == op.ID }) {
			s = s.undo(op)
		}
	}
	return s
}

// free returns those of the changes that may go together. One whose place is
// not known may not, nor one of members whom others name that stay.
func (s subject) free(changes []Op) []Op {
	anchored := s.anchored()
	for {
		going := map[int64]bool{}
		for _, op := range changes {
			going[op.ID] = true
		}
		left := slices.DeleteFunc(slices.Clone(changes), func(op Op) bool {
			if _, known := s.epochAt(op); op.Output.Seq == 0 || !known {
				return true
			}
			return (op.Kind == AddMembers || op.Kind == LeaveConvo) && (!anchored || s.named(op, going))
		})
		if len(left) == len(changes) {
			return left
		}
		changes = left
	}
}

// anchored reports whether somebody is a member all the time, so that nobody
// ever is the last one.
func (s subject) anchored() bool {
	stays := map[string]bool{}
	for _, did := range s.convo.Members {
		stays[did] = true
	}
	for i := range s.ops {
		op := &s.ops[i]
		if op.Output.Code == conversation.LastMember {
			return false
		}
		if op.Kind == LeaveConvo && op.Output.Outcome != Refused {
			for _, did := range op.targets() {
				delete(stays, did)
			}
		}
	}
	return len(stays) > 0
}

// named reports whether an operation that stays names a member that op changes.
func (s subject) named(op Op, going map[int64]bool) bool {
	targets := op.targets()
	for i := range s.ops {
		other := &s.ops[i]
		if going[other.ID] || same(other, &op) {
			continue
		}
		if slices.Contains(targets, other.Caller) || slices.ContainsFunc(other.targets(), func(did string) bool { return slices.Contains(targets, did) }) {
			return true
		}
	}
	return false
}

// targets are who is added, or who leaves.
func (op *Op) targets() []string {
	if op.Kind == LeaveConvo && len(op.Input.DIDs) == 0 {
		return []string{op.Caller}
	}
	return op.Input.DIDs
}

// same reports whether two operations are attempts of one request.
func same(a, b *Op) bool {
	return a.ID == b.ID || (a.Input.Key != "" && a.keyOf() == b.keyOf())
}

// undo counts down what lies beyond a change, and leaves out all attempts of it.
func (s subject) undo(c Op) subject {
	u := undoing{seq: c.Output.Seq, epoch: math.MaxInt64}
	if c.Kind != SendMessage {
		u.epoch, _ = s.epochAt(c)
	}
	out := subject{convo: s.convo}
	for _, op := range s.ops {
		if same(&op, &c) {
			continue
		}
		if op, keep := u.apply(op); keep {
			out.ops = append(out.ops, op)
		}
	}
	return out
}

// epochAt is the epoch that a change led to or was made at.
func (s subject) epochAt(op Op) (epoch int64, known bool) {
	if op.Output.Outcome == Succeeded {
		return op.Output.Epoch, true
	}
	if op.Kind == SendMessage {
		return *op.Input.Epoch, true
	}
	s.eachRow(func(r Row) {
		if r.Seq == op.Output.Seq {
			epoch, known = r.Epoch, true
		}
	})
	return epoch, known
}

// undoing is a change that is taken out: its seq, and the epoch it led to.
type undoing struct{ seq, epoch int64 }

func (u undoing) seqOf(n int64) int64 {
	if n >= u.seq {
		return n - 1
	}
	return n
}

func (u undoing) epochOf(n int64) int64 {
	if n >= u.epoch {
		return n - 1
	}
	return n
}

// apply says what an operation would have looked like without the change, and
// whether that can be said.
func (u undoing) apply(op Op) (Op, bool) {
	if e := op.Input.Epoch; e != nil {
		n := u.epochOf(*e)
		op.Input.Epoch = &n
	}
	if since := op.Input.Since; since != nil {
		n := u.seqOf(*since)
		op.Input.Since = &n
	}
	op.Output.Epoch = u.epochOf(op.Output.Epoch)
	if op.Output.Seq != 0 {
		op.Output.Seq = u.seqOf(op.Output.Seq)
	}
	switch op.Output.Code {
	case conversation.EpochMismatch: // of what would have been the current one
		if *op.Input.Epoch == op.Output.Epoch {
			return op, false
		}
	case conversation.IdempotencyConflict: // of what would have been the same
		if u.epoch != math.MaxInt64 {
			return op, false
		}
	}
	return u.applyRows(op)
}

func (u undoing) applyRows(op Op) (Op, bool) {
	if op.Output.Rows == nil {
		return op, true
	}
	rows := make([]Row, 0, len(op.Output.Rows))
	for _, r := range op.Output.Rows {
		if r.Seq == u.seq {
			continue
		}
		r.Seq, r.Epoch = u.seqOf(r.Seq), u.epochOf(r.Epoch)
		rows = append(rows, r)
	}
	if len(rows) < len(op.Output.Rows) && op.Kind == GetMessages {
		if op.Input.Limit == 0 {
			op.Input.Limit = defaultLimit
		}
		if op.Input.Limit--; op.Input.Limit == 0 { // which would mean the default
			return op, false
		}
	}
	op.Output.Rows = rows
	return op, true
}
