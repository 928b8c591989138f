package cluster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type leaseMetrics struct {
	acquisitions *prometheus.CounterVec
	losses       prometheus.Counter
}

func newLeaseMetrics(reg prometheus.Registerer, age func() time.Duration) *leaseMetrics {
	f := promauto.With(reg)
	m := &leaseMetrics{
		acquisitions: f.NewCounterVec(prometheus.CounterOpts{
			Name: "lease_acquisitions_total", Help: "Conversations asked of the lease, by outcome; held: another has it.",
		}, []string{"outcome"}),
		losses: f.NewCounter(prometheus.CounterOpts{
			Name: "lease_losses_total", Help: "Claims that met an entry with a fence as high or higher.",
		}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lease_renewal_age_seconds", Help: "Time since this node's session was last renewed in the lease.",
	}, func() float64 { return age().Seconds() })
	for _, outcome := range []string{"acquired", "held", "error"} {
		m.acquisitions.WithLabelValues(outcome)
	}
	return m
}

func (m *leaseMetrics) acquired(err error, all ...Acquired) {
	if err != nil {
		m.acquisitions.WithLabelValues("error").Inc()
		return
	}
	for _, a := range all {
		if a.Acquired {
			m.acquisitions.WithLabelValues("acquired").Inc()
		} else {
			m.acquisitions.WithLabelValues("held").Inc()
		}
	}
}
