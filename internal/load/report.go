package load

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Progress says how a run stands.
type Progress struct {
	Phase   Phase
	Elapsed time.Duration // of the phase
	// Of the load so far.
	OK, Conflicts, Failed int64
	InFlight              int
	Late                  int64 // operations that began late, see Report
	// Of operations that ended since the last Progress; latencies are in
	// milliseconds, 0 where none ended.
	PerSecond, P50, P99, Max float64
	Findings                 int64 // what is wrong so far
	// Of Conversations, how many were created, and how many read back.
	Created, Verified, Conversations int
}

// Phase is what a run is busy with.
type Phase string

// The phases of a run, in their order.
const (
	Preparing Phase = "preparing" // creates its conversations
	Loading   Phase = "loading"
	Verifying Phase = "verifying"
	Done      Phase = "done"
)

// Report is what a run has shown. Its JSON form is a contract.
type Report struct {
	Tool    string    `json:"tool"` // version
	Run     string    `json:"run"`  // in the ids of its conversations
	Started time.Time `json:"started"`
	// Seconds is from the first operation to the end of the last.
	Seconds float64 `json:"seconds"`
	// EndedEarly says that it was stopped before its time.
	EndedEarly bool     `json:"endedEarly"`
	Settings   Settings `json:"settings"`

	Total      OpReport   `json:"total"`
	Operations []OpReport `json:"operations"`
	// Late counts operations of an open loop that began more than 10 ms after
	// they were due, as all clients were busy or this machine was; LatestMs is
	// the longest such delay, and is part of the latency. Skipped were due, and
	// the run ended before a client was free: their latencies are in no figure.
	Late     int64   `json:"late"`
	LatestMs float64 `json:"latestMs"`
	Skipped  int64   `json:"skipped"`

	// Requests counts attempts, Repeated those that were not the first of their
	// operation.
	Requests      int64        `json:"requests"`
	Repeated      int64        `json:"repeated"`
	Nodes         []NodeCount  `json:"nodes"`
	Errors        []ErrorCount `json:"errors"`        // of operations
	AttemptErrors []ErrorCount `json:"attemptErrors"` // of attempts, those that a repetition made good included

	IntervalSeconds float64 `json:"intervalSeconds"`
	Events          []Event `json:"events"`
	EventsDropped   int64   `json:"eventsDropped,omitempty"`

	Verification Verification `json:"verification"`
}

// OK reports whether the cluster kept its word, as far as the whole log of every
// conversation shows.
func (r *Report) OK() bool { return r.Verification.OK() }

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	return nil
}

// Settings are the ones that the run went by.
type Settings struct {
	URLs            []string `json:"urls"`
	Conversations   int      `json:"conversations"`
	Members         int      `json:"members"`
	Mix             Mix      `json:"mix"`
	Payload         Payload  `json:"payload"`
	MessageBytes    int      `json:"messageBytes,omitempty"`
	Clients         int      `json:"clients"`
	RatePerSecond   float64  `json:"ratePerSecond"` // 0: a closed loop
	DurationSeconds float64  `json:"durationSeconds"`
	TimeoutSeconds  float64  `json:"timeoutSeconds"`
	Seed            uint64   `json:"seed"`
}

// OpReport is what was measured of one operation, or of all. Latencies are in
// milliseconds and include operations that failed.
type OpReport struct {
	Op        Op      `json:"operation"` // "" of all
	OK        int64   `json:"ok"`
	Conflicts int64   `json:"conflicts"` // EpochMismatch: others were faster
	Failed    int64   `json:"failed"`
	PerSecond float64 `json:"perSecond"` // of those that succeeded

	Mean float64 `json:"meanMs"`
	P50  float64 `json:"p50Ms"`
	P90  float64 `json:"p90Ms"`
	P99  float64 `json:"p99Ms"`
	P999 float64 `json:"p999Ms"`
	Max  float64 `json:"maxMs"`

	Series []Sample `json:"series"` // one interval after another
}

// Sample is what ended in one interval. Latencies are in milliseconds, 0 where
// nothing ended.
type Sample struct {
	OK        int64   `json:"ok"`
	Conflicts int64   `json:"conflicts"`
	Failed    int64   `json:"failed"`
	P50       float64 `json:"p50Ms"`
	P99       float64 `json:"p99Ms"`
	Max       float64 `json:"maxMs"`
}

// NodeCount counts the attempts at one node.
type NodeCount struct {
	URL        string `json:"url"`
	Requests   int64  `json:"requests"`
	Unanswered int64  `json:"unanswered"`
}

// ErrorCount counts one error of one operation.
type ErrorCount struct {
	Operation string `json:"operation"`
	ErrorName
	Count   int64  `json:"count"`
	Example string `json:"example"` // the first one, in full
}
