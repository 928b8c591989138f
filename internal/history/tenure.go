package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const (
	ruleOneOwner = "of the nodes that serve a conversation from memory there is one at a time"
	ruleFences   = "each owner of a conversation has a higher fence than the one before"
)

// checkTenures holds the owners of every conversation to the two rules.
func checkTenures(all []Tenure) []Violation {
	byConvo := map[string][]Tenure{}
	for _, t := range all {
		byConvo[t.Convo] = append(byConvo[t.Convo], t)
	}
	var out []Violation
	for _, list := range byConvo {
		out = append(out, checkOwners(merge(list))...)
	}
	slices.SortFunc(out, func(a, b Violation) int { return strings.Compare(a.Convo, b.Convo) })
	return out
}

// merge makes one tenure of all that is known of it, and sorts them by their
// beginnings. A fence is given once, so whoever is seen with it twice had it in
// between.
func merge(list []Tenure) []Tenure {
	type owner struct {
		node, session string
		fence         int64
	}
	index := map[owner]int{}
	var out []Tenure
	for _, t := range list {
		k := owner{t.Node, t.Session, t.Fence}
		i, known := index[k]
		if !known {
			index[k] = len(out)
			out = append(out, t)
			continue
		}
		out[i].From, out[i].To = min(out[i].From, t.From), max(out[i].To, t.To)
	}
	slices.SortFunc(out, func(a, b Tenure) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Fence, b.Fence))
	})
	return out
}

// checkOwners compares each tenure with those before it, and reports at most one
// fault of each.
func checkOwners(list []Tenure) (out []Violation) {
	for i, b := range list {
		for _, a := range list[:i] {
			rule := broken(a, b)
			if rule == "" {
				continue
			}
			out = append(out, Violation{Convo: b.Convo, Rule: rule, Text: a.String() + "\n" + b.String() + "\n"})
			break
		}
	}
	return out
}

// broken returns the rule that two tenures break, "" for none. Which of two was
// first is not always known.
func broken(a, b Tenure) (rule string) {
	aFirst, bFirst := a.From < b.To, b.From < a.To // some sight of one before some sight of the other
	switch {
	case aFirst && bFirst:
		return ruleOneOwner
	case a.Fence == b.Fence || (aFirst && a.Fence > b.Fence) || (bFirst && b.Fence > a.Fence):
		return ruleFences
	}
	return ""
}

// String says a tenure in one line.
func (t Tenure) String() string {
	line := fmt.Sprintf("%s to %s  %s served %s under fence %d", t.From, t.To, t.Node, t.Convo, t.Fence)
	if t.Session != "" {
		line += " in session " + t.Session
	}
	return line
}
