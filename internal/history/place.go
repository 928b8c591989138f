package history

import (
	"math"
	"time"

	"catbird/conversation"
)

// Searching all orders of all requests takes forever as soon as some of them
// were not answered: each may have taken effect at any time. Most of what is
// not known of a request stands in the pages that others read, though. What
// follows takes it from there, and only what follows from the history by
// itself: where a history is right, it is right with this in it.

// placed is what is known of which change is where.
type placed struct {
	rows   map[int64]Row   // by seq, as pages show them
	seqs   map[int64]int64 // seq → the request that was told it
	epochs map[int64]int64 // epoch → the request whose commit was told it
}

// placed gathers what the operations know.
func (s subject) placed(calls []*call) placed {
	p := placed{rows: map[int64]Row{}, seqs: map[int64]int64{}, epochs: map[int64]int64{}}
	s.eachRow(func(r Row) {
		if _, known := p.rows[r.Seq]; !known {
			p.rows[r.Seq] = r
		}
	})
	for _, c := range calls {
		if !c.op.Kind.changes() || c.op.Output.Outcome == Refused {
			continue
		}
		if seq := c.op.Output.Seq; seq != 0 {
			p.seqs[seq] = c.request()
		}
		if c.op.Kind != SendMessage && c.op.Output.Outcome == Succeeded {
			p.epochs[c.op.Output.Epoch] = c.request()
		}
	}
	return p
}

// allow reports whether a change may be where it leads to next.
func (p placed) allow(c *call, next state) bool {
	if r, seen := p.rows[next.seq]; seen && !next.log.row.same(r) {
		return false
	}
	if other, taken := p.seqs[next.seq]; taken && other != c.request() {
		return false
	}
	if c.op.Kind == SendMessage {
		return true
	}
	other, taken := p.epochs[next.epoch]
	return !taken || other == c.request()
}

func (s subject) eachRow(f func(Row)) {
	for _, r := range s.convo.Rows {
		f(r)
	}
	for i := range s.ops {
		for _, r := range s.ops[i].Output.Rows {
			f(r)
		}
	}
}

// resolve writes into the changes where pages show them, and leaves out those
// that were not answered and of which nobody can have seen anything.
func (s subject) resolve() subject {
	byPayload := map[string]Row{}
	s.eachRow(func(r Row) { byPayload[r.Payload] = r })
	owners := s.payloads()
	told := map[request]Output{} // what any attempt was told
	for i := range s.ops {
		if op := &s.ops[i]; op.Kind.changes() && op.Output.Outcome == Succeeded {
			told[op.request()] = op.Output
		}
	}
	for i := range s.ops {
		op := &s.ops[i]
		if !op.Kind.changes() || op.Output.Outcome == Refused {
			continue
		}
		if r, seen := byPayload[op.Input.Payload]; seen && owners.unique(op) {
			op.place(r.Seq, r.ID)
		}
		if out, known := told[op.request()]; known {
			op.place(out.Seq, out.MessageID)
		}
	}
	s.placeByEpoch()
	return s.withoutUnseen(owners)
}

// placeByEpoch finds where commits are that were told the epoch alone: where a
// page shows a commit of that epoch, or in the one place between what is of an
// earlier epoch and the rest.
func (s subject) placeByEpoch() {
	epochs, commits := map[int64]int64{}, map[int64]int64{} // seq → epoch, epoch → seq
	s.eachRow(func(r Row) {
		epochs[r.Seq] = r.Epoch
		if r.Kind == conversation.KindCommit {
			commits[r.Epoch] = r.Seq
		}
	})
	for i := range s.ops {
		if op := &s.ops[i]; op.Kind.changes() && op.Output.Outcome == Succeeded && op.Output.Seq != 0 {
			epochs[op.Output.Seq] = op.Output.Epoch
		}
	}
	for i := range s.ops {
		op := &s.ops[i]
		if !op.Kind.changes() || op.Output.Outcome != Succeeded || op.Output.Seq != 0 {
			continue
		}
		if seq, shown := commits[op.Output.Epoch]; shown {
			op.Output.Seq = seq
			continue
		}
		if before, from := around(epochs, op.Output.Epoch); from == before+2 {
			op.Output.Seq = before + 1
		}
	}
}

// around returns the last seq of an epoch before the given one, and the first of
// that or a later one.
func around(epochs map[int64]int64, epoch int64) (before, from int64) {
	from = math.MaxInt64
	for seq, e := range epochs {
		if e < epoch {
			before = max(before, seq)
		} else {
			from = min(from, seq)
		}
	}
	return before, from
}

// request is what the attempts of one request have in common. Whoever uses a
// key for something else makes another request, which is refused.
type request struct {
	key  keyOf
	body uint64
	id   int64 // where there is no key
}

func (op *Op) request() request {
	r := request{key: op.keyOf(), body: op.body()}
	if op.Input.Key == "" {
		r.id = op.ID
	}
	return r
}

// place notes where a change is, if it was not told.
func (op *Op) place(seq int64, id string) {
	if op.Output.Seq == 0 {
		op.Output.Seq = seq
	}
	if op.Output.MessageID == "" && op.Kind == SendMessage {
		op.Output.MessageID = id
	}
}

// payloads says which request a payload belongs to; nil: to several.
type payloads map[string]*request

func (s subject) payloads() payloads {
	p := payloads{}
	for i := range s.ops {
		op := &s.ops[i]
		if !op.Kind.changes() {
			continue
		}
		r := op.request()
		if owner, known := p[op.Input.Payload]; known && (owner == nil || *owner != r) {
			p[op.Input.Payload] = nil
			continue
		}
		p[op.Input.Payload] = &r
	}
	p[""] = nil
	return p
}

func (p payloads) unique(op *Op) bool { return p[op.Input.Payload] != nil }

// withoutUnseen leaves out changes that were not answered, that no page shows,
// and that can only have come after everything that anybody saw.
func (s subject) withoutUnseen(owners payloads) subject {
	if s.gaps() {
		return s
	}
	conflicts := map[keyOf]bool{} // who got one has seen that something was done
	for i := range s.ops {
		if s.ops[i].Output.Code == conversation.IdempotencyConflict {
			conflicts[s.ops[i].keyOf()] = true
		}
	}
	after := s.lastPlaced()
	out := subject{convo: s.convo}
	for _, op := range s.ops {
		unseen := op.Output.Outcome == Unknown && op.Output.Seq == 0 && owners.unique(&op) && !conflicts[op.keyOf()]
		if unseen && (op.Kind == SendMessage || s.quietAfter(max(op.Call, after))) {
			continue
		}
		out.ops = append(out.ops, op)
	}
	return out
}

// gaps reports whether there is a seq that neither a page nor an answer gives
// to somebody, before one that is given.
func (s subject) gaps() bool {
	seen := map[int64]bool{}
	newest := int64(len(s.convo.Rows))
	s.eachRow(func(r Row) { seen[r.Seq] = true })
	for i := range s.ops {
		out := s.ops[i].Output
		newest = max(newest, out.Seq)
		if s.ops[i].Kind.changes() {
			seen[out.Seq] = true
		}
	}
	for seq := range newest {
		if !seen[seq+1] {
			return true
		}
	}
	return false
}

// lastPlaced is the latest call of those who were told a seq: what has a higher
// one than anybody saw took effect after it.
func (s subject) lastPlaced() time.Duration {
	last := time.Duration(math.MinInt64)
	for i := range s.ops {
		if s.ops[i].Output.Seq != 0 && s.ops[i].Output.Outcome == Succeeded {
			last = max(last, s.ops[i].Call)
		}
	}
	return last
}

// quietAfter reports whether nobody was told anything that may be of later,
// but what has a seq.
func (s subject) quietAfter(t time.Duration) bool {
	for i := range s.ops {
		out := s.ops[i].Output
		if out.Outcome != Unknown && out.Seq == 0 && s.ops[i].Return >= t {
			return false
		}
	}
	return true
}
