package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	probeTimeout = time.Second
	// probeEvery is how often at most the database is asked on behalf of probes,
	// however many there are.
	probeEvery = 500 * time.Millisecond
)

// probe asks whether the database answers, at most every probeEvery, and never
// twice at once: probes must not pile up on a database that hangs.
type probe struct {
	ping func(ctx context.Context) error
	// renewed says how long ago the database last took this node's session, 0
	// for never: proof that it answers even when no connection is free for a
	// ping.
	renewed func() time.Duration
	// fresh is how old that proof may be.
	fresh time.Duration

	mu  sync.Mutex
	at  time.Time
	err error
}

// check returns why the database cannot be used, or nil. It blocks for
// probeTimeout at most.
func (p *probe) check(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.at.IsZero() && time.Since(p.at) < probeEvery {
		return p.err
	}
	// The result is kept for others: it must not depend on this caller's patience.
	ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	err := p.ping(ask)
	if err != nil && ask.Err() != nil {
		if ago := p.renewed(); ago > 0 && ago < p.fresh {
			err = nil
		}
	}
	p.err, p.at = err, time.Now()
	return err
}

// health is the answer to GET /health.
type health struct {
	Status   string       `json:"status"`
	Database string       `json:"database"`
	Version  string       `json:"version"`
	Node     string       `json:"node"`
	State    string       `json:"state"`
	Checks   healthChecks `json:"checks"`
}

type healthChecks struct {
	Database string       `json:"database"`
	Redis    string       `json:"redis"`
	Cluster  string       `json:"cluster"`
	Actors   actorsHealth `json:"actors"`
}

type actorsHealth struct {
	Enabled        bool `json:"enabled"`
	RolloutPercent int  `json:"rolloutPercent"`
	Active         int  `json:"active"`
	Max            int  `json:"max"`
}

// readiness is the answer to GET /health/ready.
type readiness struct {
	Ready  bool            `json:"ready"`
	Checks map[string]bool `json:"checks"`
}

func (a *App) serveHealth(w http.ResponseWriter, r *http.Request) {
	h := health{
		Status: "healthy", Database: "connected", Version: a.version, Node: a.cfg.Cluster.NodeName,
		State: a.State().String(), Checks: a.checks(r.Context()),
	}
	status := http.StatusOK
	if h.Checks.Database != healthy {
		h.Database = "disconnected"
	}
	if h.Database != "connected" || a.State() == Joining {
		h.Status, status = "unhealthy", http.StatusServiceUnavailable
	}
	writeJSON(w, status, h)
}

// What a check finds.
const (
	healthy     = "healthy"
	unhealthy   = "unhealthy"
	unreachable = "unreachable"
)

// checks looks at what this node depends on. It blocks for probeTimeout at most.
func (a *App) checks(ctx context.Context) healthChecks {
	flags := a.delivery.Flags()
	c := healthChecks{
		Database: healthy, Redis: "not configured", Cluster: "alone",
		Actors: actorsHealth{flags.ActorSystem, flags.RolloutPercent, a.actors.Active(), a.cfg.Actors.Max},
	}
	if a.probe.check(ctx) != nil {
		c.Database = unhealthy
	}
	if a.fellows == nil {
		return c
	}
	c.Redis = healthy
	if !a.fellows.redis.Up() { // no reason to be unready: it only tells where to ask first
		c.Redis = unreachable
	}
	if n := len(a.fellows.members.View().Members()); n > 1 {
		c.Cluster = fmt.Sprintf("%d members", n)
	}
	return c
}

func (a *App) serveLive(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]bool{"live": true})
}

func (a *App) serveReady(w http.ResponseWriter, r *http.Request) {
	state := a.State()
	checks := map[string]bool{
		"database": state != Joining && a.probe.check(r.Context()) == nil,
		"session":  a.keeper.Current() != nil,
		"joined":   state != Joining,
		"staying":  state != Leaving && state != Gone,
	}
	ready := readiness{Ready: true, Checks: checks}
	status := http.StatusOK
	for _, ok := range checks {
		if !ok {
			ready.Ready, status = false, http.StatusServiceUnavailable
		}
	}
	writeJSON(w, status, ready)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody left to tell
}
