package actor

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"catbird/conversation"
	"catbird/persistence"
)

type metrics struct {
	spawns        prometheus.Counter
	spawnFailures prometheus.Counter
	stops         *prometheus.CounterVec
	errors        *prometheus.CounterVec
	claims        *prometheus.CounterVec
	appends       *prometheus.CounterVec
	batch, units  prometheus.Histogram
	folds         prometheus.Counter

	messages map[conversation.Op]prometheus.Counter
	duration map[conversation.Op]prometheus.Observer
}

func newMetrics(reg prometheus.Registerer, r *Registry) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	vec := func(name, help, label string, values ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, v := range values {
			c.WithLabelValues(v)
		}
		reg.MustRegister(c)
		return c
	}
	sizes := func(name, help string) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(1, 2, 11)})
		reg.MustRegister(h)
		return h
	}
	gauge := func(name, help string, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	m := &metrics{
		spawns:        counter("actor_spawns_total", "Actors that loaded their conversation."),
		spawnFailures: counter("actor_spawn_failures_total", "Actors that could not load their conversation."),
		stops: vec("actor_stops_total", "Actors that ended, by reason.", "reason",
			stopIdle, stopEvicted, stopReleased, stopHeld, stopNotFound, stopNoStore, stopSession, stopConflict, stopCrashed),
		errors: vec("actor_errors_total", "Errors in actors, by type.", "error_type",
			"mailbox_full", "overloaded", "conflict", "append_failed", "database_unavailable", "outcome_unknown", "panic"),
		claims:  vec("actor_claims_total", "Claims that were answered, by outcome.", "outcome", "granted", "held", "not_found"),
		appends: vec("actor_appends_total", "Units that the database answered, by outcome.", "outcome", "appended", "conflict", "key_package_gone", "failed"),
		batch:   sizes("actor_batch_size", "Changes in one unit of an actor."),
		units:   sizes("journal_batch_units", "Units of different actors in one database transaction."),
		folds:   counter("actor_unread_folds_total", "Conversations whose unread counts were folded."),

		messages: map[conversation.Op]prometheus.Counter{},
		duration: map[conversation.Op]prometheus.Observer{},
	}
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "actor_messages_total", Help: "Messages that actors handled, by type.",
	}, []string{"message_type"})
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "actor_message_duration_seconds", Help: "Time from the mailbox to the answer, by type.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"message_type"})
	reg.MustRegister(messages, duration)
	for _, op := range []conversation.Op{conversation.OpAddMembers, conversation.OpLeave, conversation.OpCommit, conversation.OpSend} {
		m.messages[op] = messages.WithLabelValues(string(op))
		m.duration[op] = duration.WithLabelValues(string(op))
	}
	gauge("actor_registry_active_actors", "Actors in memory.", func() float64 { return float64(r.Active()) })
	gauge("actor_mailbox_size", "Messages that wait in all mailboxes.", func() float64 { return float64(r.queued.Load()) })
	gauge("actor_letters", "Messages that are not answered yet, in mailboxes and at work.", func() float64 { return float64(r.load.letters.Load()) })
	gauge("actor_letter_bytes", "The same in bytes.", func() float64 { return float64(r.load.bytes.Load()) })
	gauge("journal_queue_units", "Units that wait for the journal writer.", func() float64 {
		return float64(r.small.pending() + r.large.pending())
	})
	return m
}

// observe counts a message that was answered.
func (m *metrics) observe(op conversation.Op, took time.Duration, err error) {
	if c, ok := m.messages[op]; ok && (err == nil || !errors.Is(err, ErrMoving)) {
		c.Inc()
		m.duration[op].Observe(took.Seconds())
	}
}

func (m *metrics) spawnFailed(a *actor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fresh {
		m.spawnFailures.Inc()
	}
}

func appendLabel(o persistence.AppendOutcome) string {
	switch o {
	case persistence.Appended:
		return "appended"
	case persistence.Conflict:
		return "conflict"
	case persistence.KeyPackageGone:
		return "key_package_gone"
	default:
		return "failed"
	}
}
