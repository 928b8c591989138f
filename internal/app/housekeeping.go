package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"catbird/persistence"
)

// How long what has ended is kept beside what an operator sets.
const (
	keepRequests = 25 * time.Hour // a bit more than clients are promised
	keepWelcomes = 7 * 24 * time.Hour
	keepSessions = 24 * time.Hour
)

// The rate of housekeeping: a batch of each kind, a pause while there is more,
// and a long one when there is not.
const (
	houseBatch   = 500
	housePause   = 250 * time.Millisecond
	houseEvery   = time.Minute
	houseTimeout = 30 * time.Second
)

// houseStore is what housekeeping asks of the database.
type houseStore interface {
	Housekeep(ctx context.Context, r persistence.Retention, batch int) (persistence.Removed, error)
}

// housekeeper deletes what has ended, a little at a time. Every node runs one;
// the database lets one work at a time.
type housekeeper struct {
	store     houseStore
	retention persistence.Retention
	log       *slog.Logger
	runs      *prometheus.CounterVec
	removed   *prometheus.CounterVec
}

func newHousekeeper(store houseStore, commits time.Duration, log *slog.Logger, reg prometheus.Registerer) (*housekeeper, error) {
	h := &housekeeper{
		store: store, log: log.With("component", "housekeeping"),
		retention: persistence.Retention{Commits: commits, Requests: keepRequests, Welcomes: keepWelcomes, Sessions: keepSessions},
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "housekeeping_runs_total", Help: "Rounds of housekeeping, by outcome.",
		}, []string{"outcome"}),
		removed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "housekeeping_removed_total", Help: "Rows that housekeeping deleted, and conversations it counted, by kind.",
		}, []string{"kind"}),
	}
	for _, outcome := range []string{"ok", "busy", "error"} {
		h.runs.WithLabelValues(outcome)
	}
	h.count(persistence.Removed{})
	for _, c := range []prometheus.Collector{h.runs, h.removed} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics of housekeeping: %w", err)
		}
	}
	return h, nil
}

// run works until ctx ends.
func (h *housekeeper) run(ctx context.Context) {
	// Nodes that start together should not all come at once.
	wait := rand.N(houseEvery)
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		wait = houseEvery
		if h.round(ctx) {
			wait = housePause
		}
	}
}

// round deletes one batch of each kind and reports whether there is more.
func (h *housekeeper) round(ctx context.Context) (more bool) {
	ask, cancel := context.WithTimeout(ctx, houseTimeout)
	defer cancel()
	removed, err := h.store.Housekeep(ask, h.retention, houseBatch)
	switch {
	case err != nil && ctx.Err() != nil:
		return false
	case errors.Is(err, persistence.ErrUnavailable):
		h.runs.WithLabelValues("error").Inc()
		h.log.Debug("housekeeping put off: no database", "error", err)
		return false
	case err != nil:
		h.runs.WithLabelValues("error").Inc()
		h.log.Warn("housekeeping failed", "error", err)
		return false
	case removed.Busy:
		h.runs.WithLabelValues("busy").Inc()
		return false
	}
	h.runs.WithLabelValues("ok").Inc()
	if n := h.count(removed); n > 0 {
		h.log.Debug("housekeeping done", "rows", n, "more", removed.More)
	}
	return removed.More
}

func (h *housekeeper) count(r persistence.Removed) (total int64) {
	for kind, n := range map[string]int64{
		"messages": r.Messages, "commits": r.Commits, "key_packages": r.KeyPackages, "welcomes": r.Welcomes,
		"requests": r.Requests, "sessions": r.Sessions, "wants": r.Wants, "folded": r.Folded,
	} {
		h.removed.WithLabelValues(kind).Add(float64(n))
		total += n
	}
	return total
}
