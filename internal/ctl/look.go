package ctl

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"catbird/operator"
)

// Look is one look at a cluster: what is known now.
type Look struct {
	At time.Time
	// View is the last that was got, from the node at Base, at Seen; the zero time
	// means none yet.
	View operator.ClusterView
	Base string
	Seen time.Time
	// Err says why there is no newer one.
	Err error
}

// totals sums up the members.
type totals struct {
	ready, joining, leaving int
	agree, silent           int // by the ring asked for; that did not answer
	actors                  int
}

func sum(v operator.ClusterView) (t totals) {
	for _, m := range v.Members {
		switch m.State {
		case "ready":
			t.ready++
		case "joining":
			t.joining++
		default: // leaving, and a node alone that is gone
			t.leaving++
		}
		if m.ActiveActors == nil {
			t.silent++
		} else {
			t.actors += *m.ActiveActors
		}
		if sameRing(v, m) == "same" {
			t.agree++
		}
	}
	return t
}

// Line returns the look as one line, for logs and pipes.
func (l Look) Line() string {
	at := l.At.UTC().Format(time.RFC3339)
	if l.Err != nil {
		return at + " error=" + strconv.Quote(l.Err.Error())
	}
	t := sum(l.View)
	var b strings.Builder
	fmt.Fprintf(&b, "%s asked=%s members=%d ready=%d joining=%d leaving=%d silent=%d actors=%d ring=%s agree=%d",
		at, l.View.Node, len(l.View.Members), t.ready, t.joining, t.leaving, t.silent, t.actors, ringVersion(l.View.Ring.Version), t.agree)
	for _, m := range l.View.Members {
		fmt.Fprintf(&b, " %s=%s/%s/%s/%d", m.Name, m.State, strings.ReplaceAll(health(m), " ", "-"), active(m), m.Partitions)
	}
	return clean(b.String())
}

// JSON writes the look as one line of JSON.
func (l Look) JSON(w io.Writer) error {
	out := struct {
		At      time.Time             `json:"at"`
		Error   string                `json:"error,omitempty"`
		Cluster *operator.ClusterView `json:"cluster"`
	}{At: l.At.UTC()}
	if l.Err != nil {
		out.Error = l.Err.Error()
	} else {
		out.Cluster = &l.View
	}
	return json.NewEncoder(w).Encode(out)
}

// barWidth is how many characters the largest share of the partitions takes.
const barWidth = 12

// Frame returns the look as lines for a screen of that size, with colours or
// without. Where not all members fit, those that something is wrong with come
// first.
func (l Look) Frame(width, height int, colours bool) []string {
	p := page{width: width, colours: colours}
	t := sum(l.View)
	p.line(bold("catbird  "), plain(fmt.Sprintf("%s: ", count(len(l.View.Members), "member"))), plain(states(t)))
	p.line(plain(fmt.Sprintf("ring %s of %d partitions, agreed by %d of %d; %s", ringVersion(l.View.Ring.Version),
		l.View.Ring.Partitions, t.agree, len(l.View.Members), count(t.actors, "active actor"))))
	p.line()
	below := 2
	if l.Err != nil {
		below++
	}
	rows := l.rows(height - len(p.lines) - below)
	for _, row := range grid(rows) {
		p.line(row...)
	}
	if hidden := len(l.View.Members) + 1 - len(rows); hidden > 0 {
		p.line(faint(fmt.Sprintf("… and %d more", hidden)))
	}
	p.line()
	p.line(faint(fmt.Sprintf("asked %s at %s, %s    q quits", l.View.Node, l.Base, l.At.Format(time.TimeOnly))))
	if l.Err != nil {
		p.line(red(fmt.Sprintf("seen at %s; since then: %v", l.Seen.Format(time.TimeOnly), l.Err)))
	}
	return p.lines[:min(len(p.lines), height)]
}

func states(t totals) string {
	parts := []string{fmt.Sprintf("%d ready", t.ready)}
	for _, s := range []struct {
		n    int
		name string
	}{{t.joining, "joining"}, {t.leaving, "leaving"}, {t.silent, "without an answer"}} {
		if s.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", s.n, s.name))
		}
	}
	return strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// rows returns a header and the members, as many as fit into limit lines together
// with the one that tells of the rest.
func (l Look) rows(limit int) [][]span {
	members := slices.Clone(l.View.Members)
	most := 1
	for _, m := range members {
		most = max(most, m.Partitions)
	}
	if len(members)+1 > limit {
		slices.SortStableFunc(members, func(a, b operator.Member) int { return trouble(b) - trouble(a) })
		members = members[:min(len(members), max(0, limit-2))]
	}
	var header []span
	for _, title := range [...]string{"NODE", "STATE", "HEALTH", "ACTORS", "PARTITIONS", "", "FLAG", "VERSION", "ADDRESS"} {
		header = append(header, bold(title))
	}
	rows := [][]span{header}
	for _, m := range members {
		name := m.Name
		if name == l.View.Node {
			name += " *"
		}
		rows = append(rows, []span{
			plain(name), stateOf(m), healthOf(m), plain(active(m)), plain(strconv.Itoa(m.Partitions)), faint(bar(m.Partitions, most)),
			plain(flag(m)), plain(m.Version), plain(m.Address),
		})
	}
	return rows
}

// bar returns n of most as a bar, to an eighth of a character.
func bar(n, most int) string {
	eighths := (8*barWidth*n + most/2) / most
	b := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		b += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return b
}

// trouble is higher for nodes that an operator wants to see first.
func trouble(m operator.Member) int {
	n := 0
	if health(m) != healthy {
		n += 2
	}
	if m.State != "ready" {
		n++
	}
	return n
}

func stateOf(m operator.Member) span {
	if m.State == "ready" {
		return green(m.State)
	}
	return yellow(m.State)
}

func healthOf(m operator.Member) span {
	if h := health(m); h != healthy {
		return red(h)
	}
	return green(healthy)
}
