package ctl

import (
	"fmt"
	"io"

	"catbird/operator"
)

// RingView is how the partitions are spread over the members.
type RingView struct {
	Node       string      `json:"node"` // who was asked
	Partitions int         `json:"partitions"`
	Version    uint64      `json:"version"`
	Agree      int         `json:"agree"` // members that are known to go by this version
	Members    []RingShare `json:"members"`
}

// RingShare is one member's part.
type RingShare struct {
	Name        string  `json:"name"`
	State       string  `json:"state"`
	Partitions  int     `json:"partitions"`
	Share       float64 `json:"share"`       // of all partitions, 0 to 1
	OfMean      float64 `json:"ofMean"`      // of what each would have of an even spread
	RingVersion *uint64 `json:"ringVersion"` // what the member goes by, nil where that is not known
}

// RingOf returns the ring of a cluster.
func RingOf(v operator.ClusterView) RingView {
	r := RingView{Node: v.Node, Partitions: v.Ring.Partitions, Version: v.Ring.Version, Members: []RingShare{}}
	owners := 0
	for _, m := range v.Members {
		if m.Partitions > 0 {
			owners++
		}
	}
	for _, m := range v.Members {
		share := RingShare{Name: m.Name, State: m.State, Partitions: m.Partitions, RingVersion: m.RingVersion}
		if r.Partitions > 0 {
			share.Share = float64(m.Partitions) / float64(r.Partitions)
			share.OfMean = share.Share * float64(owners)
		}
		if m.RingVersion != nil && *m.RingVersion == r.Version {
			r.Agree++
		}
		r.Members = append(r.Members, share)
	}
	return r
}

// Ring writes how the partitions are spread.
func Ring(w io.Writer, r RingView) error {
	t := newTable(w)
	t.row("partitions", r.Partitions)
	t.row("version", ringVersion(r.Version))
	t.row("agreed by", fmt.Sprintf("%d of %d nodes", r.Agree, len(r.Members)))
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w)
	t.row("NODE", "STATE", "PARTITIONS", "SHARE", "OF MEAN", "RING")
	for _, m := range r.Members {
		version := "-"
		if m.RingVersion != nil {
			version = ringVersion(*m.RingVersion)
		}
		t.row(m.Name, m.State, m.Partitions, fmt.Sprintf("%.1f%%", 100*m.Share), fmt.Sprintf("%.2f", m.OfMean), version)
	}
	return t.Flush()
}

// ringVersion writes a version as nodes log it.
func ringVersion(v uint64) string { return fmt.Sprintf("%x", v) }

// Owner writes who should hold a conversation and who does, with what that
// means.
func Owner(w io.Writer, o operator.Ownership) error {
	t := newTable(w)
	t.row("conversation", o.Convo)
	t.row("partition", o.Partition)
	t.row("ring", orNobody(o.ShouldOwn))
	if o.LeaseUnknown {
		t.row("lease", "unknown: Redis did not answer")
	} else {
		t.row("lease", hold(o.Lease))
	}
	t.row("claim", hold(o.Claim))
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", clean(verdict(o)))
	return err
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

func hold(h *operator.Hold) string {
	if h == nil {
		return "nobody"
	}
	return fmt.Sprintf("%s, fence %d, session %s", h.Node, h.Fence, h.Session)
}

// verdict says in one sentence what an operator wants to know.
func verdict(o operator.Ownership) string {
	switch {
	case o.Claim == nil && o.ShouldOwn == "":
		return "Nobody holds it, and the ring is empty."
	case o.Claim == nil:
		return fmt.Sprintf("Nobody holds it. The ring gives it to %s.", o.ShouldOwn)
	case o.Lease != nil && o.Lease.Session != o.Claim.Session:
		return fmt.Sprintf("%s holds it. The lease is behind: it costs a detour, the claim counts.", o.Claim.Node)
	case o.Claim.Node == o.ShouldOwn:
		return fmt.Sprintf("%s holds it, as the ring says.", o.Claim.Node)
	case o.ShouldOwn == "":
		return fmt.Sprintf("%s holds it. The ring is empty.", o.Claim.Node)
	default:
		return fmt.Sprintf("%s holds it although the ring names %s: it is on the move, or %s does not serve it by actors.",
			o.Claim.Node, o.ShouldOwn, o.ShouldOwn)
	}
}

// NodeFlags are the flags of one of several nodes.
type NodeFlags struct {
	Node string `json:"node"`
	operator.Flags
}

// FlagsOfAll writes the flags of several nodes.
func FlagsOfAll(w io.Writer, all []NodeFlags) error {
	t := newTable(w)
	t.row("NODE", "ACTOR SYSTEM", "ROLLOUT")
	for _, f := range all {
		t.row(f.Node, onOff(f.ActorSystem), fmt.Sprintf("%d%%", f.RolloutPercent))
	}
	return t.Flush()
}
