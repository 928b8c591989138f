package cluster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type ringMetrics struct {
	version    prometheus.Gauge
	members    prometheus.Gauge
	partitions prometheus.Gauge
	changes    prometheus.Counter
	seconds    prometheus.Histogram
}

func newRingMetrics(reg prometheus.Registerer) *ringMetrics {
	f := promauto.With(reg)
	return &ringMetrics{
		version: f.NewGauge(prometheus.GaugeOpts{
			Name: "cluster_ring_version", Help: "Hash of the ring's members: nodes that agree show the same number.",
		}),
		members: f.NewGauge(prometheus.GaugeOpts{
			Name: "cluster_ring_members", Help: "Members in this node's ring.",
		}),
		partitions: f.NewGauge(prometheus.GaugeOpts{
			Name: "cluster_ring_partitions", Help: "Partitions that the ring gives to this node.",
		}),
		changes: f.NewCounter(prometheus.CounterOpts{
			Name: "cluster_ring_changes_total", Help: "Changes of this node's ring.",
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "cluster_ring_change_seconds", Help: "Time that changing the ring took.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, 1, 5, 10},
		}),
	}
}

func (m *ringMetrics) show(v *RingView, node string) {
	m.version.Set(float64(v.version))
	m.members.Set(float64(len(v.members)))
	m.partitions.Set(float64(v.Partitions(node)))
}

func (m *ringMetrics) changed(took time.Duration) {
	m.changes.Inc()
	m.seconds.Observe(took.Seconds())
}
