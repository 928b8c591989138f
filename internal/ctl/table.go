package ctl

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"catbird/operator"
	"catbird/persistence"
)

// JSON writes v, indented, for programs and for those who like it.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table writes rows in columns.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = clean(fmt.Sprint(c))
	}
	fmt.Fprintln(t, strings.Join(texts, "\t"))
}

// clean keeps a terminal from taking what came over the network for commands.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

// Integrity writes what was found, one line a kind, then the examples.
func Integrity(w io.Writer, i persistence.Integrity) error {
	kinds := []struct {
		name string
		f    persistence.Finding
	}{
		{"duplicate epochs", i.DuplicateEpochs},
		{"missing epochs", i.MissingEpochs},
		{"sequence gaps", i.SequenceGaps},
		{"epoch mismatches", i.EpochMismatches},
	}
	t := newTable(w)
	t.row("FOUND", "COUNT")
	for _, k := range kinds {
		t.row(k.name, k.f.Count)
	}
	if err := t.Flush(); err != nil || i.Clean() {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w)
	t.row("KIND", "CONVERSATION", "EPOCH", "SEQ", "DETAIL")
	for _, k := range kinds {
		for _, e := range k.f.Examples {
			t.row(k.name, e.Convo, number(e.Epoch), number(e.Seq), e.Detail)
		}
	}
	return t.Flush()
}

func number(n *int64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

// Overview writes one conversation.
func Overview(w io.Writer, o persistence.Overview) error {
	t := newTable(w)
	t.row("conversation", o.ID)
	t.row("creator", o.Creator)
	t.row("created", stamp(o.CreatedAt))
	t.row("epoch", o.Epoch)
	t.row("seq", o.Seq)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w)
	t.row("MEMBER", "JOINED", "LEFT", "UNREAD")
	for _, m := range o.Members {
		left := "-"
		if m.LeftAt != nil {
			left = stamp(*m.LeftAt)
		}
		t.row(m.DID, stamp(m.JoinedAt), left, m.Unread)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w)
	t.row("EPOCH", "COMMITS", "MESSAGES", "FIRST", "LAST")
	for _, e := range o.ByEpoch {
		t.row(e.Epoch, e.Commits, e.Messages, stamp(e.First), stamp(e.Last))
	}
	return t.Flush()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// Flags writes a node's flags.
func Flags(w io.Writer, f operator.Flags) error {
	t := newTable(w)
	t.row("actor system", onOff(f.ActorSystem))
	t.row("rollout", fmt.Sprintf("%d%%", f.RolloutPercent))
	return t.Flush()
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// Actors writes a page of a node's actors.
func Actors(w io.Writer, p operator.ActorsPage) error {
	t := newTable(w)
	t.row("CONVERSATION", "EPOCH", "SEQ", "FENCE", "WAITING", "IDLE")
	for _, a := range p.Actors {
		idle := time.Duration(a.IdleSeconds * float64(time.Second))
		t.row(a.Convo, a.Epoch, a.Seq, a.Fence, a.Mailbox, idle.Round(time.Millisecond))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if p.Cursor != "" {
		fmt.Fprintf(w, "\nmore with --cursor %s\n", p.Cursor)
	}
	return nil
}
