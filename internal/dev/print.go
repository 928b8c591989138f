package dev

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// PrintEvents writes what a tour did, as a table.
func PrintEvents(w io.Writer, events []Event) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "node\twas\theld\ttaken by\tafter\tback after\tholds again\trequests\trepeated\tfailed\tslowest\t\n")
	for _, e := range events {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%d of %d\t%d\t%d\t%d\t%s\t\n", e.Node, e.What, e.Held, e.takers(),
			seconds(e.Took), seconds(e.Back), e.Regained, e.Share, e.Requests, e.Repeated, e.Failed, seconds(e.Slowest))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("printing what was done: %w", err)
	}
	return nil
}

// trouble says what clients noticed.
func (e *Event) trouble() string {
	var found []string
	for _, f := range []struct {
		n    int64
		what string
	}{{e.Failed, "failed"}, {e.Repeated, "had to be repeated"}} {
		if f.n > 0 {
			found = append(found, fmt.Sprintf("%d %s", f.n, f.what))
		} else {
			found = append(found, "none "+f.what)
		}
	}
	text := strings.Join(found, ", ") + ", the slowest took " + seconds(e.Slowest)
	if e.Why != nil {
		text += "; one of them: " + e.Why.Error()
	}
	return text
}

func conversations(n int) string {
	if n == 1 {
		return "1 conversation"
	}
	return fmt.Sprintf("%d conversations", n)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2fs", d.Seconds()) }

// takers says who took how many of what a node held.
func (e *Event) takers() string {
	var parts []string
	left := e.Held
	for _, name := range slices.Sorted(maps.Keys(e.To)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, e.To[name]))
		left -= e.To[name]
	}
	if left > 0 {
		parts = append(parts, fmt.Sprintf("nobody yet %d", left))
	}
	return strings.Join(parts, ", ")
}
