package chaos

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"catbird/conversation"
)

// Finding is a promise that the service broke.
type Finding struct {
	Rule  string   `json:"rule"` // what should have held
	Convo string   `json:"convo,omitempty"`
	Text  string   `json:"text"`            // the smallest history, or the rows
	Files []string `json:"files,omitempty"` // pictures of it, and more
}

// Verdict is what a run showed.
type Verdict struct {
	Seed     uint64    `json:"seed"`
	Planned  bool      `json:"planned,omitempty"` // by [Plan]
	Dir      string    `json:"dir"`
	Findings []Finding `json:"findings"`
	// Undecided are conversations whose history could not be decided in time:
	// they are not known to be right.
	Undecided []string `json:"undecided,omitempty"`

	Took     time.Duration `json:"took"`     // of the traffic
	Requests int           `json:"requests"` // attempts
	Answers  []Answer      `json:"answers"`
	// Late counts the attempts, beside Requests, that came to a node directly when
	// it had left as planned.
	Late int `json:"late,omitempty"`
	// Doors counts the attempts that were answered by where they went in.
	Doors    map[string]int `json:"doors"`
	Faults   []FaultRow     `json:"faults"`
	Calm     Latency        `json:"calm"`
	Troubled Latency        `json:"troubled"` // while something was wrong

	Steps   int `json:"claims"`  // changes of a claim that the database kept
	Tenures int `json:"tenures"` // that were seen from outside
	Rows    int `json:"rows"`    // of the logs
}

// Answer counts attempts by what they were told; Code "" is success.
type Answer struct {
	Code  conversation.Code `json:"code"`
	Count int               `json:"count"`
}

// FaultRow is what a kind of fault did.
type FaultRow struct {
	Kind     Kind `json:"kind"`
	Count    int  `json:"count"`
	Requests int  `json:"requests"` // attempts while it lasted
	Failed   int  `json:"failed"`   // of those: neither success nor a refusal by rule
	// Others is the longest that a client of nodes that were not hit went without
	// an answer, Hit the same of the node that was.
	Others  time.Duration `json:"others"`
	Hit     time.Duration `json:"hit"`
	Before  Latency       `json:"before"` // in the calm before
	Latency Latency       `json:"latency"`
}

// Latency sums up how long answered attempts took.
type Latency struct {
	Count int           `json:"count"`
	P50   time.Duration `json:"p50"`
	P99   time.Duration `json:"p99"`
	Max   time.Duration `json:"max"`
}

// OK reports whether nothing was wrong and everything was decided.
func (v Verdict) OK() bool { return len(v.Findings) == 0 && len(v.Undecided) == 0 }

// String is the verdict for people: tables, and what was wrong.
func (v Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d attempts in %v; %d rows in the logs, %d changes of claims, %d tenures seen\n\n",
		v.Seed, v.Requests, v.Took.Round(time.Second), v.Rows, v.Steps, v.Tenures)
	if v.Late > 0 {
		fmt.Fprintf(&b, "%d more came to nodes directly that had left\n\n", v.Late)
	}
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	v.writeFaults(t)
	_ = t.Flush() // a strings.Builder takes everything
	fmt.Fprintln(&b)
	fmt.Fprintln(t, "latency\tattempts\tp50\tp99\tlongest")
	for _, l := range []struct {
		name string
		Latency
	}{{"calm", v.Calm}, {"while something was wrong", v.Troubled}} {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\n", l.name, l.Count, short(l.P50), short(l.P99), short(l.Max))
	}
	_ = t.Flush()
	fmt.Fprintln(&b)
	fmt.Fprintln(t, "answer\tattempts")
	for _, a := range v.Answers {
		name := string(a.Code)
		if name == "" {
			name = "success"
		}
		fmt.Fprintf(t, "%s\t%d\n", name, a.Count)
	}
	_ = t.Flush()
	v.writeFindings(&b)
	return b.String()
}

func (v Verdict) writeFaults(t io.Writer) {
	if v.Planned {
		fmt.Fprintln(t, "planned change\tattempts\tfailed\tlongest without an answer\tp50 before\tp50 during\tp99 before\tp99 during")
		for _, f := range v.Faults {
			fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", f.Kind, f.Requests, f.Failed, short(f.Others),
				short(f.Before.P50), short(f.Latency.P50), short(f.Before.P99), short(f.Latency.P99))
		}
		return
	}
	fmt.Fprintln(t, "fault\ttimes\tattempts\tfailed\tlongest without an answer: others\tthe node hit\tp50\tp99")
	for _, f := range v.Faults {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", f.Kind, f.Count, f.Requests, f.Failed,
			short(f.Others), short(f.Hit), short(f.Latency.P50), short(f.Latency.P99))
	}
}

// writeFindings tells of each broken rule the smallest history in full, and of
// the others where they are.
func (v Verdict) writeFindings(b *strings.Builder) {
	fmt.Fprintln(b)
	smallest := map[string]int{}
	for i, f := range v.Findings {
		if best, known := smallest[f.Rule]; !known || len(f.Text) < len(v.Findings[best].Text) {
			smallest[f.Rule] = i
		}
	}
	for i, f := range v.Findings {
		if smallest[f.Rule] != i {
			fmt.Fprintf(b, "also broken, see %s: %s (%s)\n", strings.Join(append(f.Files, verdictFile), ", "), f.Rule, f.Convo)
			continue
		}
		fmt.Fprintf(b, "VIOLATION: %s\n", f.Rule)
		if f.Convo != "" {
			fmt.Fprintf(b, "conversation %s\n", f.Convo)
		}
		fmt.Fprintln(b, strings.TrimRight(f.Text, "\n"))
		for _, file := range f.Files {
			fmt.Fprintf(b, "see %s\n", file)
		}
		fmt.Fprintln(b)
	}
	for _, convo := range v.Undecided {
		fmt.Fprintf(b, "UNDECIDED: the history of %s is too long to be decided in time\n", convo)
	}
	if v.OK() {
		fmt.Fprintln(b, "nothing was wrong")
	}
}

// short rounds a duration for a table; 0 is "-".
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
