package app

import (
	"context"
	"log/slog"
	"time"

	"catbird/internal/obs"
	"catbird/router"
)

// flushTime is how long the last spans of a node that stops may take to be
// delivered, at most: a collector that hangs must not hold up a node for longer.
const flushTime = 5 * time.Second

// buildTraces makes what sends traces. It comes first, and stops last.
func (a *App) buildTraces(ctx context.Context, log *slog.Logger) error {
	t := a.cfg.Traces
	c := obs.TracesConfig{
		URL: t.URL(), Service: t.ServiceName, Version: a.version, Node: a.cfg.Cluster.NodeName, Logger: log, Registerer: a.registry,
	}
	var err error
	if c.URL != "" {
		if c.Sampler, err = obs.ParseSampler(t.Sampler, t.SamplerArg); err != nil {
			return err
		}
	}
	if a.traces, err = obs.NewTraces(ctx, c); err != nil {
		return err
	}
	a.stops.push("traces", min(flushTime, a.cfg.Drain.Timeout/4), func(ctx context.Context) error {
		a.traces.Stop(ctx)
		return nil
	})
	return nil
}

// trail is what goes along when another node is asked: the request's id, and the
// span that asks.
func (a *App) trail(ctx context.Context) (requestID, traceparent string) {
	if a.traces.Provider() != nil {
		traceparent = obs.Traceparent(ctx)
	}
	return router.RequestID(ctx), traceparent
}
