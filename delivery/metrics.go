package delivery

import (
	"github.com/prometheus/client_golang/prometheus"

	"catbird/conversation"
)

type serviceMetrics struct {
	flagChanges prometheus.Counter
	unknown     prometheus.Counter
	wants       *prometheus.CounterVec

	handoffs       *prometheus.CounterVec
	moved          prometheus.Counter
	handoffRunning prometheus.Gauge
	handoffSeconds prometheus.Histogram

	paths map[conversation.Op][2]prometheus.Counter // direct, actor
}

func newServiceMetrics(reg prometheus.Registerer) *serviceMetrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	m := &serviceMetrics{
		flagChanges: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "actor_flag_changes_total", Help: "Changes of the actor flag or its percentage since the start.",
		}),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "delivery_unknown_outcomes_total", Help: "Attempts whose outcome was not known at first.",
		}),
		wants: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "delivery_wants_total", Help: "Conversations that a server out of reach was asked for, or that were given to one.",
		}, []string{"side"}),
		handoffs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "handoff_chunks_total", Help: "Chunks of conversations that were offered to another node, by outcome.",
		}, []string{"outcome"}),
		moved: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "handoff_moved_total", Help: "Conversations that were handed over to another node.",
		}),
		handoffRunning: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "handoff_running", Help: "1 while conversations are being handed over.",
		}),
		handoffSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "handoff_duration_seconds", Help: "Time of one pass over the conversations that other nodes should own.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		paths: map[conversation.Op][2]prometheus.Counter{},
	}
	for _, outcome := range []string{"moved", "not_accepted", "unreachable"} {
		m.handoffs.WithLabelValues(outcome)
	}
	paths := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "delivery_operations_total", Help: "Operations by the path they took.",
	}, []string{"op", "path"})
	for _, op := range []conversation.Op{
		conversation.OpAddMembers, conversation.OpLeave, conversation.OpCommit, conversation.OpSend,
		conversation.OpGetEpoch, conversation.OpGetMessages,
	} {
		m.paths[op] = [2]prometheus.Counter{paths.WithLabelValues(string(op), "direct"), paths.WithLabelValues(string(op), "actor")}
	}
	m.wants.WithLabelValues("asked")
	m.wants.WithLabelValues("granted")
	reg.MustRegister(m.flagChanges, m.unknown, m.wants, m.handoffs, m.moved, m.handoffRunning, m.handoffSeconds, paths)
	return m
}

func (m *serviceMetrics) count(op conversation.Op, actors bool) {
	c, ok := m.paths[op]
	if !ok {
		return
	}
	if actors {
		c[1].Inc()
	} else {
		c[0].Inc()
	}
}
