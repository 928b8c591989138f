package cluster

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// redisOps are the operations that calls are counted by.
var redisOps = []string{
	"ping", "renew", "end", "acquire", "fence", "find", "alive", "release", "touch", "replay",
}

type redisMetrics struct {
	up      prometheus.Gauge
	outages prometheus.Counter
	refused prometheus.Counter
	errors  *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newRedisMetrics(reg prometheus.Registerer) *redisMetrics {
	f := promauto.With(reg)
	m := &redisMetrics{
		up: f.NewGauge(prometheus.GaugeOpts{
			Name: "redis_up", Help: "1 while this node reaches Redis, 0 while it goes on without.",
		}),
		outages: f.NewCounter(prometheus.CounterOpts{
			Name: "redis_outages_total", Help: "How often this node lost Redis.",
		}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "redis_refused_total", Help: "Calls that failed at once because Redis was known to be out of reach.",
		}),
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "redis_errors_total", Help: "Failed calls of Redis, by operation.",
		}, []string{"op"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "redis_call_seconds", Help: "Time of calls of Redis, by operation; a batch is one.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .3, 1},
		}, []string{"op"}),
	}
	m.up.Set(1)
	for _, op := range redisOps {
		m.errors.WithLabelValues(op)
		m.seconds.WithLabelValues(op)
	}
	return m
}
