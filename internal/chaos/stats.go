package chaos

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"catbird/conversation"
	"catbird/internal/history"
)

// answered reports whether an attempt was told what became of it: success, or a
// refusal by the rules.
func answered(op history.Op) bool {
	return op.Output.Outcome == history.Succeeded || op.Output.Outcome == history.Refused
}

// code is what an attempt was told, "" for success.
func code(op history.Op) conversation.Code {
	if op.Output.Outcome == history.Unknown && op.Output.Code == "" {
		return noAnswer
	}
	return op.Output.Code
}

// noAnswer stands in tables for: a connection that broke, or a client that gave
// up.
const noAnswer conversation.Code = "no answer"

// count counts attempts by what they were told, most frequent first.
func count(ops []history.Op) (out []Answer) {
	n := map[conversation.Code]int{}
	for _, op := range ops {
		n[code(op)]++
	}
	for _, c := range slices.Sorted(maps.Keys(n)) {
		out = append(out, Answer{c, n[c]})
	}
	slices.SortStableFunc(out, func(a, b Answer) int { return b.Count - a.Count })
	return out
}

// doorsOf counts the answered of ops by where they went in.
func doorsOf(ops []history.Op) map[string]int {
	n := map[string]int{}
	for _, op := range ops {
		if answered(op) {
			n[op.Node]++
		}
	}
	return n
}

// latencies sums up the answered of ops.
func latencies(ops []history.Op) Latency {
	var all []time.Duration
	for _, op := range ops {
		if answered(op) {
			all = append(all, op.Return-op.Call)
		}
	}
	if len(all) == 0 {
		return Latency{}
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(int(q*float64(len(all))), len(all)-1)] }
	return Latency{Count: len(all), P50: at(.5), P99: at(.99), Max: all[len(all)-1]}
}

// split parts ops into those that were made while all was well and those that
// met a round of faults.
func split(ops []history.Op, spells []Spell) (calm, troubled []history.Op) {
	for _, op := range ops {
		if slices.ContainsFunc(spells, func(s Spell) bool { return s.meets(op.Call, op.Return) }) {
			troubled = append(troubled, op)
		} else {
			calm = append(calm, op)
		}
	}
	return calm, troubled
}

// meets reports whether some of the time from a to b lies within the spell, up
// to when everything was whole again.
func (s Spell) meets(a, b time.Duration) bool { return a < s.Calm && s.From < b }

// gap is a time in which a client got no answer: from one answer to the next.
type gap struct {
	from, to time.Duration
	nodes    []string // that were asked in vain, or last
}

// gaps returns the gaps of every client. What a client pauses between requests
// is in it: it is little.
func gaps(ops []history.Op) (out []gap) {
	byClient := map[int][]history.Op{}
	for _, op := range ops {
		byClient[op.Client] = append(byClient[op.Client], op)
	}
	for _, list := range byClient {
		slices.SortFunc(list, func(a, b history.Op) int { return cmp.Compare(a.Call, b.Call) })
		g := gap{from: list[0].Call}
		for _, op := range list {
			g.nodes = append(g.nodes, op.Node)
			if answered(op) {
				g.to = op.Return
				out = append(out, g)
				g = gap{from: op.Return}
			}
		}
	}
	return out
}

// faultRows sums up what each kind of fault did.
func faultRows(ops []history.Op, spells []Spell) (out []FaultRow) {
	all := gaps(ops)
	for _, kind := range kindsOf(spells) {
		row := FaultRow{Kind: kind}
		var met, earlier []history.Op
		for _, s := range spells {
			if s.Kind != kind {
				continue
			}
			row.Count++
			earlier = append(earlier, before(ops, spells, s)...)
			for _, g := range all {
				row.add(s, g)
			}
			for _, op := range ops {
				if s.meets(op.Call, op.Return) {
					met = append(met, op)
				}
			}
		}
		row.Requests, row.Before, row.Latency = len(met), latencies(earlier), latencies(met)
		for _, op := range met {
			if !answered(op) {
				row.Failed++
			}
		}
		out = append(out, row)
	}
	return out
}

// add counts a gap that met the spell. One whose requests went to the node that
// was hit, too, is put down to that.
func (r *FaultRow) add(s Spell, g gap) {
	if !s.meets(g.from, g.to) {
		return
	}
	if s.Node != "" && slices.ContainsFunc(g.nodes, func(n string) bool { return n == s.Node || n == s.Peer }) {
		r.Hit = max(r.Hit, g.to-g.from)
		return
	}
	r.Others = max(r.Others, g.to-g.from)
}

// kindsOf returns the kinds of spells: those of [Kinds] in that order, and then
// others as they came.
func kindsOf(spells []Spell) (out []Kind) {
	for _, k := range Kinds {
		if slices.ContainsFunc(spells, func(s Spell) bool { return s.Kind == k }) {
			out = append(out, k)
		}
	}
	for _, s := range spells {
		if !slices.Contains(out, s.Kind) {
			out = append(out, s.Kind)
		}
	}
	return out
}

// before returns the attempts of the calm before a spell.
func before(ops []history.Op, spells []Spell, s Spell) (out []history.Op) {
	since := time.Duration(0)
	for _, other := range spells {
		if other.Calm <= s.From {
			since = max(since, other.Calm)
		}
	}
	for _, op := range ops {
		if op.Call >= since && op.Return <= s.From {
			out = append(out, op)
		}
	}
	return out
}
