package ctl

import (
	"fmt"
	"io"

	"catbird/operator"
)

// Nodes writes the members of a cluster, one line each; the one that was asked
// is marked.
func Nodes(w io.Writer, v operator.ClusterView) error {
	t := newTable(w)
	t.row("NODE", "STATE", "HEALTH", "FLAG", "ACTORS", "PARTITIONS", "RING", "VERSION", "ADDRESS")
	for _, m := range v.Members {
		name := m.Name
		if m.Name == v.Node {
			name += " *"
		}
		t.row(name, m.State, health(m), flag(m), active(m), m.Partitions, sameRing(v, m), m.Version, m.Address)
	}
	return t.Flush()
}

// What health says of a node that is fine, and of one that says nothing.
const (
	healthy  = "healthy"
	noAnswer = "no answer"
)

// health sums up what a node says of itself.
func health(m operator.Member) string {
	switch c := m.Checks; {
	case c == nil:
		return noAnswer
	case c.Database != healthy:
		return "no database"
	case c.Redis == "unreachable":
		return "no redis"
	default:
		return healthy
	}
}

func flag(m operator.Member) string {
	if !m.ActorsEnabled {
		return "off"
	}
	return fmt.Sprintf("on %d%%", m.RolloutPercent)
}

func active(m operator.Member) string {
	if m.ActiveActors == nil {
		return "-"
	}
	return fmt.Sprint(*m.ActiveActors)
}

// sameRing says whether a node goes by the ring of the one that was asked.
func sameRing(v operator.ClusterView, m operator.Member) string {
	switch {
	case m.RingVersion == nil:
		return "-"
	case *m.RingVersion == v.Ring.Version:
		return "same"
	default:
		return "other"
	}
}
