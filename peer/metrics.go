package peer

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// unknownPeer labels what happens before a node's name is known, otherPeer
	// all beyond maxPeerLabels.
	unknownPeer   = "unknown"
	otherPeer     = "other"
	maxPeerLabels = 1024
)

// outcome is what became of a question, as metrics name it.
type outcome uint8

const (
	outcomeServed outcome = iota
	outcomeRefused
	outcomeNotMine
	outcomeMoving
	outcomeBusy
	outcomeUnsupported
	outcomeUnreachable
	outcomeLost
	outcomes
)

var outcomeNames = [outcomes]string{
	"served", "refused", "not_mine", "moving", "busy", "unsupported", "unreachable", "lost",
}

var kindNames = [2]string{"epoch", "change"}

func outcomeOf(s Status, err error) outcome {
	switch {
	case err == nil && s >= Served && s <= statusUnsupported:
		return outcome(s - Served)
	case errors.Is(err, ErrBusy):
		return outcomeBusy
	case errors.Is(err, ErrUnsupported):
		return outcomeUnsupported
	case errors.Is(err, ErrUnreachable):
		return outcomeUnreachable
	default:
		return outcomeLost
	}
}

func kindIndex(change bool) int {
	if change {
		return 1
	}
	return 0
}

// clientMetrics are the metrics of a Client.
type clientMetrics struct {
	asks     *prometheus.CounterVec
	duration *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	connects *prometheus.CounterVec
	queued   *prometheus.GaugeVec

	mu    sync.Mutex
	peers map[string]*peerMetrics
}

// peerMetrics are those of one peer, looked up once.
type peerMetrics struct {
	asks           [len(kindNames)][outcomes]prometheus.Counter
	duration       [len(kindNames)]prometheus.Observer
	sent, received prometheus.Counter
	up, down       prometheus.Counter
	queued         prometheus.Gauge
}

func newClientMetrics(reg prometheus.Registerer) *clientMetrics {
	m := &clientMetrics{
		peers: map[string]*peerMetrics{},
		asks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "peer_asks_total", Help: "Questions to other nodes, by node, kind and outcome.",
		}, []string{"peer", "kind", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "peer_ask_duration_seconds", Help: "Time from question to answer or error, by node and kind.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 3, 11),
		}, []string{"peer", "kind"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "peer_bytes_total", Help: "Bytes of questions sent to and of answers received from other nodes.",
		}, []string{"peer", "direction"}),
		connects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "peer_connects_total", Help: "Connections to other nodes, by outcome.",
		}, []string{"peer", "outcome"}),
		queued: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "peer_queue_length", Help: "Questions that wait to be written, or for a connection.",
		}, []string{"peer"}),
	}
	if reg != nil {
		reg.MustRegister(m.asks, m.duration, m.bytes, m.connects, m.queued)
	}
	return m
}

// peer returns the metrics of the node of that name.
func (m *clientMetrics) peer(node string) *peerMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.peers[node]; p != nil {
		return p
	}
	if len(m.peers) >= maxPeerLabels && node != otherPeer {
		node = otherPeer
		if p := m.peers[node]; p != nil {
			return p
		}
	}
	p := &peerMetrics{
		sent:     m.bytes.WithLabelValues(node, "sent"),
		received: m.bytes.WithLabelValues(node, "received"),
		up:       m.connects.WithLabelValues(node, "connected"),
		down:     m.connects.WithLabelValues(node, "failed"),
		queued:   m.queued.WithLabelValues(node),
	}
	for k, kind := range kindNames {
		p.duration[k] = m.duration.WithLabelValues(node, kind)
		for o, name := range outcomeNames {
			p.asks[k][o] = m.asks.WithLabelValues(node, kind, name)
		}
	}
	m.peers[node] = p
	return p
}

func (p *peerMetrics) observe(change bool, o outcome, took time.Duration) {
	k := kindIndex(change)
	p.asks[k][o].Inc()
	p.duration[k].Observe(took.Seconds())
}

func (p *peerMetrics) connected(err error) {
	if err == nil {
		p.up.Inc()
	} else {
		p.down.Inc()
	}
}

// serverMetrics are the metrics of a Server.
type serverMetrics struct {
	questions [len(kindNames)][outcomes]prometheus.Counter
	inFlight  prometheus.Gauge
	streams   prometheus.Gauge
	refused   map[string]prometheus.Counter
}

// Why a handshake was refused.
const (
	refusedSecret  = "unauthorized"
	refusedReplay  = "replay"
	refusedVersion = "version"
	refusedFull    = "full"
	refusedStop    = "stopping"
)

func newServerMetrics(reg prometheus.Registerer) *serverMetrics {
	questions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "peer_questions_total", Help: "Questions of other nodes, by kind and outcome.",
	}, []string{"kind", "outcome"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "peer_handshakes_refused_total", Help: "Handshakes that this node refused, by reason.",
	}, []string{"reason"})
	m := &serverMetrics{
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "peer_questions_in_flight", Help: "Questions of other nodes that are being served.",
		}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "peer_streams", Help: "Streams that other nodes hold open.",
		}),
		refused: map[string]prometheus.Counter{},
	}
	for k, kind := range kindNames {
		for o := outcomeServed; o <= outcomeUnsupported; o++ {
			m.questions[k][o] = questions.WithLabelValues(kind, outcomeNames[o])
		}
	}
	for _, reason := range []string{refusedSecret, refusedReplay, refusedVersion, refusedFull, refusedStop} {
		m.refused[reason] = refused.WithLabelValues(reason)
	}
	if reg != nil {
		reg.MustRegister(questions, refused, m.inFlight, m.streams)
	}
	return m
}

func (m *serverMetrics) served(change bool, s Status) {
	m.questions[kindIndex(change)][outcomeOf(s, nil)].Inc()
}
