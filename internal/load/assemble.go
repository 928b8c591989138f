package load

import (
	"encoding/hex"
	"slices"
	"time"

	"catbird/internal/obs"
)

// report puts together what the run has shown.
func (e *Engine) report(v Verification) *Report {
	cfg, r := &e.cfg, e.recorder
	out := &Report{
		Tool: obs.Version(), Run: e.runID(), EndedEarly: e.early, Events: e.diary.list(), EventsDropped: e.diary.dropped,
		Settings: Settings{
			URLs: cfg.BaseURLs, Conversations: cfg.Conversations, Members: cfg.Members, Mix: cfg.Mix, Payload: cfg.Payload,
			MessageBytes: cfg.MessageBytes, Clients: cfg.Clients, RatePerSecond: cfg.Rate, DurationSeconds: cfg.Duration.Seconds(),
			TimeoutSeconds: cfg.Timeout.Seconds(), Seed: cfg.Seed,
		},
		Verification: v,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Started, out.Seconds, out.IntervalSeconds = r.start, r.last.Sub(r.start).Seconds(), r.every.Seconds()
	out.Late, out.LatestMs, out.Skipped = r.late, millis(r.latest), r.neverBegun
	out.Requests, out.Repeated = r.requests, r.repeated
	out.Errors, out.AttemptErrors = r.errors.counted(), r.attempts.counted()
	out.Total = r.all.report("", out.Seconds)
	for _, op := range cfg.Mix.used(r.byOp) {
		out.Operations = append(out.Operations, r.byOp[op].report(op, out.Seconds))
	}
	for _, url := range cfg.BaseURLs {
		if n := r.nodes[url]; n != nil {
			out.Nodes = append(out.Nodes, *n)
		} else {
			out.Nodes = append(out.Nodes, NodeCount{URL: url})
		}
	}
	return out
}

func (t *track) report(op Op, seconds float64) OpReport {
	out := OpReport{
		Op: op, OK: t.ok, Conflicts: t.conflicts, Failed: t.failed, PerSecond: float64(t.ok) / max(seconds, 1e-9),
		P50: t.whole.quantile(50), P90: t.whole.quantile(90), P99: t.whole.quantile(99), P999: t.whole.quantile(99.9),
		Max: t.whole.max(), Series: slices.Clone(t.series),
	}
	if n := t.ok + t.conflicts + t.failed; n > 0 {
		out.Mean = millis(t.sum / time.Duration(n))
	}
	return out
}

func (e *Engine) runID() string { return hex.EncodeToString(e.run[:]) }
