package load

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// shownErrors is how many kinds of errors a table lists, the most frequent
// first.
const shownErrors = 20

// Write writes the report as tables for people. What a server said is quoted, so
// that a terminal does not take it for commands.
func (r *Report) Write(w io.Writer) error {
	t := &table{Writer: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.line("run %s: %s, %s", r.Run, seconds(r.Seconds), r.Settings)
	if r.EndedEarly {
		t.line("it was ended before its time, which was %s", seconds(r.Settings.DurationSeconds))
	}
	t.line("")
	r.operations(t)
	r.remarks(t)
	t.errors("ERRORS OF OPERATIONS", r.Errors)
	if r.Repeated > 0 { // else they are the same
		t.errors("ERRORS OF ATTEMPTS", r.AttemptErrors)
	}
	r.events(t)
	r.verified(t)
	if t.err == nil {
		t.err = t.Flush()
	}
	if t.err != nil {
		return fmt.Errorf("write the report: %w", t.err)
	}
	return nil
}

// table keeps the first error of writing.
type table struct {
	*tabwriter.Writer
	err error
}

func (t *table) line(format string, args ...any) {
	if _, err := fmt.Fprintf(t.Writer, format+"\n", args...); err != nil && t.err == nil {
		t.err = err
	}
}

func (t *table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = fmt.Sprint(c)
	}
	t.line("%s", strings.Join(texts, "\t"))
}

func (r *Report) operations(t *table) {
	t.row("OPERATION", "OK", "CONFLICT", "FAILED", "OK/s", "p50", "p90", "p99", "p99.9", "MAX")
	for _, o := range append(slices.Clone(r.Operations), r.Total) {
		name := string(o.Op)
		if name == "" {
			name = "all"
		}
		t.row(name, o.OK, o.Conflicts, o.Failed, fmt.Sprintf("%.1f", o.PerSecond),
			Latency(o.P50), Latency(o.P90), Latency(o.P99), Latency(o.P999), Latency(o.Max))
	}
	t.line("")
}

func (r *Report) remarks(t *table) {
	if rate := r.Settings.RatePerSecond; rate > 0 {
		ended := float64(r.Total.OK+r.Total.Conflicts+r.Total.Failed) / max(r.Seconds, 1e-9)
		t.line("%.1f operations were due each second, and %.1f ended", rate, ended)
	}
	if r.Late > 0 {
		t.line("%d operations began late, by %s at most, as all clients were busy, or this machine was; that is in their latencies", r.Late, Latency(r.LatestMs))
	}
	if r.Skipped > 0 {
		t.line("%d operations were due and never begun, as no client became free: their latencies are missing above", r.Skipped)
	}
	t.line("%d requests, %d of them repetitions", r.Requests, r.Repeated)
	for _, n := range r.Nodes {
		t.line("%s: %d requests, %d without an answer", n.URL, n.Requests, n.Unanswered)
	}
}

func (t *table) errors(title string, list []ErrorCount) {
	if len(list) == 0 {
		return
	}
	t.line("")
	t.row(title, "FROM", "ERROR", "COUNT", "THE FIRST")
	for _, e := range list[:min(len(list), shownErrors)] {
		t.row(e.Operation, e.Origin, e.ErrorName, e.Count, strconv.Quote(e.Example))
	}
	if more := len(list) - shownErrors; more > 0 {
		t.line("and %d kinds more", more)
	}
}

func (r *Report) events(t *table) {
	if len(r.Events) == 0 {
		return
	}
	t.line("")
	t.row("EVENT AT", "")
	for _, e := range r.Events {
		t.row(fmt.Sprintf("%+.1fs", e.Time.Sub(r.Started).Seconds()), plain(e.Text))
	}
}

func (r *Report) verified(t *table) {
	v := &r.Verification
	t.line("")
	t.line("%s", v.Summary())
	for _, f := range v.Findings {
		t.line("  %s, conversation %s: %s", f.Kind, f.Convo, plain(f.Text))
	}
	if total := v.wrong(); total > int64(len(v.Findings)) {
		t.line("  and %d more", total-int64(len(v.Findings)))
	}
}

// Summary says in a sentence or two what reading back has shown.
func (v *Verification) Summary() string {
	var b strings.Builder
	if v.Complete {
		fmt.Fprintf(&b, "Read back in %s: %d conversations with %d messages and %d commits.", seconds(v.Seconds), v.Conversations, v.Messages, v.Commits)
	} else {
		fmt.Fprintf(&b, "NOT VERIFIED, reading back failed after %d conversations: %s.", v.Conversations, strconv.Quote(v.Error))
	}
	if n := v.UncertainStored + v.UncertainMissing; n > 0 {
		fmt.Fprintf(&b, " Of %d changes whose outcome clients were not told, %d were stored.", n, v.UncertainStored)
	}
	switch total := v.wrong(); {
	case total > 0:
		fmt.Fprintf(&b, " WRONG: %d findings (%s).", total, v.kinds())
	case v.Complete:
		b.WriteString(" Everything acknowledged is there once, in its place, with its epoch, and no answer was stale.")
	}
	return b.String()
}

func (v *Verification) wrong() (n int64) {
	for _, c := range v.Counts {
		n += c
	}
	return n
}

func (v *Verification) kinds() string {
	var parts []string
	for k, n := range v.Counts {
		parts = append(parts, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// String says which error it is, with its status.
func (n ErrorName) String() string {
	s := n.Name
	if n.Status != 0 {
		s = fmt.Sprintf("%d %s", n.Status, s)
	}
	if n.Unknown {
		s += ", outcome unknown"
	}
	return s
}

// String says what load it was, in a line.
func (s Settings) String() string {
	loop := fmt.Sprintf("closed loop of %d clients", s.Clients)
	if s.RatePerSecond > 0 {
		loop = fmt.Sprintf("open loop at %g/s, at most %d at once", s.RatePerSecond, s.Clients)
	}
	size := "recorded MLS messages"
	if s.Payload == Random {
		size = fmt.Sprintf("messages of %d random bytes", s.MessageBytes)
	}
	return fmt.Sprintf("%s; %d conversations of %d members; %s; %s; seed %d", loop, s.Conversations, s.Members,
		strings.ReplaceAll(s.Mix.String(), ",", ", "), size, s.Seed)
}

// Latency writes milliseconds in a unit that suits them.
func Latency(ms float64) string {
	switch d := time.Duration(ms * float64(time.Millisecond)); {
	case d == 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1fms", ms)
	case d < time.Second:
		return fmt.Sprintf("%.0fms", ms)
	default:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
}

func seconds(s float64) string { return fmt.Sprintf("%.1fs", s) }

// plain leaves control characters out.
func plain(s string) string { return strings.Trim(strconv.Quote(s), `"`) }
