package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"catbird/cluster"
	"catbird/conversation"
	"catbird/internal/auth"
	"catbird/router"
)

// buildAPI makes the clients' API and what tells who its callers are.
func (a *App) buildAPI(log *slog.Logger) error {
	resolver := auth.NewResolver(auth.ResolverConfig{Logger: log, Registerer: a.registry})
	a.stops.push("resolver", 0, func(context.Context) error {
		resolver.Close()
		return nil
	})
	var replay auth.Replay // nil: this node's memory
	if a.fellows != nil {
		replay = cluster.NewReplayGuard(cluster.ReplayConfig{
			Redis: a.fellows.redis, Label: a.cfg.Cluster.Label, Registerer: a.registry,
		})
	}
	verifier, err := auth.New(auth.Config{
		JWTSecret: []byte(a.cfg.Auth.JWTSecret), Resolver: resolver, ServiceDID: a.cfg.Auth.ServiceDID,
		EnforceLXM: bool(a.cfg.Auth.EnforceLXM), EnforceJTI: bool(a.cfg.Auth.EnforceJTI),
		JTITTL: time.Duration(a.cfg.Auth.JTITTL) * time.Second, Replay: replay, Logger: log, Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("building the verifier of tokens: %w", err)
	}
	api, err := router.New(router.Config{
		Delivery: a.delivery, Store: a.store, Verifier: verifier, Policy: a.cfg.ConversationPolicy(),
		RequestTimeout: a.cfg.Limits.RequestTimeout, MaxInFlight: a.cfg.Limits.MaxInFlight,
		RateLimit: a.cfg.Limits.RateRPS, RateBurst: a.cfg.Limits.RateBurst,
		Draining: func() bool { return a.State() >= Leaving },
		Reading:  a.delivery.Note, TracerProvider: a.traces.Provider(),
		Logger: log, Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("building the clients' API: %w", err)
	}
	a.api = api.Handler()
	return nil
}

// serveClient is the clients' port.
func (a *App) serveClient(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/xrpc/") {
		a.servePublic(w, r)
		return
	}
	if !a.joined.Load() {
		w.Header().Set("Connection", "close") // no body is waited for
		refuseJoining(w)
		return
	}
	a.api.ServeHTTP(w, r)
}

// servePublic serves what is beside the API: for operators and load balancers.
func (a *App) servePublic(w http.ResponseWriter, r *http.Request) {
	if a.State() >= Leaving {
		w.Header().Set("Connection", "close") // the next request goes to another node
	}
	if r.ContentLength != 0 { // nobody will read it, and net/http would wait for it
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
	}
	switch r.URL.Path {
	case "/health":
		a.serveHealth(w, r)
	case "/health/live":
		a.serveLive(w, r)
	case "/health/ready":
		a.serveReady(w, r)
	case "/metrics":
		a.metrics.ServeHTTP(w, r)
	default:
		a.api.ServeHTTP(w, r) // which knows how to say that there is no such thing
	}
}

// refuseJoining answers while the database is not known to hold what this
// version needs.
func refuseJoining(w http.ResponseWriter) {
	writeJSON(w, http.StatusServiceUnavailable, map[string]string{
		"error": string(conversation.Unavailable), "message": "this server is starting, or waits for its database",
	})
}
