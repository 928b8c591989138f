package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"catbird/actor"
	"catbird/cluster"
	"catbird/delivery"
	"catbird/internal/obs"
	"catbird/operator"
)

// build makes the parts, in the order in which they need each other.
func (a *App) build(ctx context.Context, log *slog.Logger) error {
	var err error
	if a.registry, err = obs.NewRegistry(a.version); err != nil {
		return err
	}
	a.metrics = promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4,
	})
	if err := a.buildTraces(ctx, log); err != nil {
		return err
	}
	if a.store == nil {
		if a.store, err = OpenStore(ctx, &a.cfg, log); err != nil {
			return err
		}
		a.stops.push("store", 0, func(ctx context.Context) error { return within(ctx, a.store.Close) })
	}
	if err := registerPool(a.registry, a.store.Stats); err != nil {
		return err
	}
	if err := a.buildOwnership(log); err != nil {
		return err
	}
	if a.house, err = newHousekeeper(a.store, a.cfg.Policy.CommitRetention, log, a.registry); err != nil {
		return err
	}
	a.probe = &probe{ping: a.store.Ping, renewed: a.keeper.SinceRenewal, fresh: a.cfg.Cluster.LeaseTTL}
	surveyed, err := newSurveyed(a.store, a.registry)
	if err != nil {
		return err
	}
	a.admin = operator.New(operator.Config{
		Switchboard: switchboard{a.delivery, a.flagsChanged}, Actors: lister{a.actors}, Store: surveyed, Drain: a.Leave,
		Cluster: a.surroundings(), Secret: a.cfg.Cluster.Secret.Reveal(), Logger: log,
	})
	return a.buildAPI(log)
}

// maxStoreTimeout bounds what an actor asks of the database. Where it is longer
// than LEASE_TTL, that is the bound: who does not hear from the database for so
// long is about to lose what he holds, and whoever waits is to ask elsewhere.
const maxStoreTimeout = 5 * time.Second

// buildOwnership makes the session's keeper, the actors, and what delivers to
// them.
func (a *App) buildOwnership(log *slog.Logger) error {
	a.keeper = cluster.NewKeeper(cluster.KeeperConfig{
		Store: a.store, Node: a.cfg.Cluster.NodeName, TTL: a.cfg.Cluster.LeaseTTL, Logger: log, Registerer: a.registry,
	})
	a.stops.push("session", 0, a.endSession)
	if a.cfg.Clustered() {
		if err := a.buildFellows(log); err != nil {
			return err
		}
	}
	policy := a.cfg.ConversationPolicy()
	deliver := delivery.Config{
		Store: a.store, Policy: policy, Session: a.sessionID, Trusted: a.trusted, Renewed: a.keeper.RenewedSince, Logger: log, Registerer: a.registry,
		Flags: delivery.Flags{ActorSystem: bool(a.cfg.Actors.Enable), RolloutPercent: a.cfg.Actors.RolloutPercent},
		Trail: a.trail, TracerProvider: a.traces.Provider(),
	}
	act := actor.Config{
		Store: a.store, Sessions: sessions{a.keeper}, Policy: policy,
		MaxActors: a.cfg.Actors.Max, MailboxSize: a.cfg.Actors.MailboxSize, IdleTimeout: a.cfg.Actors.IdleTimeout,
		StoreTimeout: min(maxStoreTimeout, a.cfg.Cluster.LeaseTTL),
		Traced:       a.traces.Provider() != nil, Logger: log, Registerer: a.registry,
	}
	if a.fellows != nil {
		deliver.Cluster, deliver.Peers, act.Lease = a.fellows, a.fellows.client, a.fellows.holdings
	}
	a.delivery = delivery.New(deliver)
	act.Keep = a.delivery.Keeps
	a.actors = actor.NewRegistry(act)
	a.delivery.Use(a.actors)
	a.keeper.OnWanted(a.delivery.Let)
	a.keeper.OnLost(func(s *cluster.Session) { a.actors.Drop(s) })
	a.stops.push("actors", 0, a.actors.Stop)
	return nil
}

// buildFellows makes what leads to the other nodes. It is undone after the
// actors have let go of everything, and before the session ends.
func (a *App) buildFellows(log *slog.Logger) error {
	f, err := newFellows(a, log)
	if err != nil {
		return err
	}
	a.fellows = f
	a.stops.push("redis", 0, func(context.Context) error { return f.redis.Close() })
	a.stops.push("lease", 0, f.holdings.Stop)
	a.stops.push("gossip", 0, f.depart)
	a.stops.push("client of other nodes", 0, f.client.Close)
	return nil
}

// flagsChanged tells other nodes which conversations this one serves by actors.
func (a *App) flagsChanged(f delivery.Flags) {
	if a.fellows != nil && a.fellows.members != nil {
		a.fellows.members.SetActors(f.ActorSystem, f.RolloutPercent)
	}
}

// trusted reports whether this node's memory may be believed.
func (a *App) trusted() bool {
	s := a.keeper.Current()
	return s != nil && s.Trusted(time.Now())
}

func (a *App) sessionID() string {
	if s := a.keeper.Current(); s != nil {
		return s.ID()
	}
	return ""
}
