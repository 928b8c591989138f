package ctl

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"catbird/internal/smoke"
)

// Smoke writes what a smoke test found, one line a step.
func Smoke(w io.Writer, r smoke.Report) error {
	t := newTable(w)
	t.row("STEP", "CALLS", "RESULT", "TIME", "")
	results := map[smoke.Result]int{}
	for _, s := range r.Steps {
		results[s.Result]++
		note := s.Error
		if s.Attempts > 1 {
			note = strings.TrimSpace(fmt.Sprintf("%d attempts; %s", s.Attempts, note))
		}
		t.row(s.Name, s.Endpoint, s.Result, took(s.Seconds), note)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := "passed"
	if !r.Passed {
		verdict = "FAILED"
	}
	where := "no conversation: nobody's tokens were at hand"
	if r.Convo != "" {
		where = "conversation " + r.Convo
		if created(r) {
			where += " stays: its last member cannot leave"
		}
	}
	_, err := fmt.Fprintf(w, "\n%s: %d of %d steps passed in %s; %s\n",
		verdict, results[smoke.Passed], len(r.Steps), took(r.Seconds), where)
	return err
}

// created reports whether the conversation of the run is there.
func created(r smoke.Report) bool {
	return slices.ContainsFunc(r.Steps, func(s smoke.Step) bool { return s.Endpoint == "createConvo" && s.Result == smoke.Passed })
}

func took(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(100 * time.Microsecond)
}
