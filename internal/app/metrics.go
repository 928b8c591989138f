package app

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"catbird/persistence"
)

// poolCollector tells the state of the database connections, as it is when
// somebody looks.
type poolCollector struct {
	stats                     func() persistence.PoolStats
	active, idle, most, waits *prometheus.Desc
}

func registerPool(reg prometheus.Registerer, stats func() persistence.PoolStats) error {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	err := reg.Register(&poolCollector{
		stats:  stats,
		active: desc("db_pool_connections_active", "Database connections in use."),
		idle:   desc("db_pool_connections_idle", "Database connections that are open and free."),
		most:   desc("db_pool_connections_max", "Database connections that may be open."),
		waits:  desc("db_pool_waits_total", "How often somebody had to wait for a database connection."),
	})
	if err != nil {
		return fmt.Errorf("registering metrics of the database pool: %w", err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (c *poolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.active, c.idle, c.most, c.waits} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *poolCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	gauge := func(d *prometheus.Desc, v int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	gauge(c.active, s.Active)
	gauge(c.idle, s.Idle)
	gauge(c.most, s.Max)
	ch <- prometheus.MustNewConstMetric(c.waits, prometheus.CounterValue, float64(s.Waits))
}

// registerConnections tells how many clients are connected, where the node is in
// its life, and how it is bounded.
func (a *App) registerConnections() error {
	for _, c := range []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "http_connections_open", Help: "Open connections on the clients' port.",
		}, func() float64 { return float64(a.clients.open.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "node_ready", Help: "1 while the node is ready, 0 while it joins or leaves.",
		}, func() float64 {
			if a.State() == Ready {
				return 1
			}
			return 0
		}),
		// Bounds that dashboards and alerts need beside what they bound.
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "actor_registry_max_actors", Help: "Conversations that this node may hold in memory: ACTOR_MAX.",
		}, func() float64 { return float64(a.cfg.Actors.Max) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "actor_rollout_percent", Help: "Share of the conversations that the flags give to actors; 0 while actors are off.",
		}, func() float64 {
			f := a.delivery.Flags()
			if !f.ActorSystem {
				return 0
			}
			return float64(f.RolloutPercent)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "session_ttl_seconds", Help: "How long a silent node keeps what it holds: LEASE_TTL.",
		}, func() float64 { return a.cfg.Cluster.LeaseTTL.Seconds() }),
	} {
		if err := a.registry.Register(c); err != nil {
			return fmt.Errorf("registering metrics of the node: %w", err)
		}
	}
	return nil
}
