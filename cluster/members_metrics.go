package cluster

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type membersMetrics struct {
	members   *prometheus.GaugeVec
	changes   prometheus.Counter
	joins     *prometheus.CounterVec
	badMeta   prometheus.Counter
	evictions prometheus.Counter
}

func newMembersMetrics(reg prometheus.Registerer, health func() float64) *membersMetrics {
	f := promauto.With(reg)
	m := &membersMetrics{
		members: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cluster_members", Help: "Members that this node sees, itself included, by state.",
		}, []string{"state"}),
		changes: f.NewCounter(prometheus.CounterOpts{
			Name: "cluster_member_changes_total", Help: "Changes of this node's view of the members.",
		}),
		joins: f.NewCounterVec(prometheus.CounterOpts{
			Name: "cluster_joins_total", Help: "Tries to join an address, by outcome; lookup: a name was not found.",
		}, []string{"outcome"}),
		badMeta: f.NewCounter(prometheus.CounterOpts{
			Name: "cluster_metadata_ignored_total", Help: "Metadata of others that made no sense.",
		}),
		evictions: f.NewCounter(prometheus.CounterOpts{
			Name: "cluster_evictions_total", Help: "1 once another node was found to bear this node's name.",
		}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cluster_gossip_health", Help: "How badly this node keeps up with gossip: 0 is well, each missed probe adds one.",
	}, health)
	for _, s := range memberStates {
		m.members.WithLabelValues(s.String())
	}
	for _, outcome := range []string{"ok", "error", "lookup"} {
		m.joins.WithLabelValues(outcome)
	}
	return m
}

func (m *membersMetrics) count(r *Roster) {
	m.changes.Inc()
	var n [Leaving + 1]int
	for _, member := range r.Members() {
		n[member.State]++
	}
	for _, s := range memberStates {
		m.members.WithLabelValues(s.String()).Set(float64(n[s]))
	}
}
