package auth

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"catbird/conversation"
)

type verifierMetrics struct {
	results map[conversation.Code]prometheus.Counter
	other   prometheus.Counter
	hits    prometheus.Counter
}

func newVerifierMetrics(reg prometheus.Registerer) *verifierMetrics {
	f := promauto.With(reg)
	tokens := f.NewCounterVec(prometheus.CounterOpts{
		Name: "auth_tokens_total", Help: "Tokens that were looked at, by what came of it.",
	}, []string{"result"})
	m := &verifierMetrics{
		results: map[conversation.Code]prometheus.Counter{"": tokens.WithLabelValues("ok")},
		other:   tokens.WithLabelValues("error"),
		hits: f.NewCounter(prometheus.CounterOpts{
			Name: "auth_token_cache_hits_total", Help: "Tokens whose signature was known to be good.",
		}),
	}
	for _, code := range []conversation.Code{
		conversation.AuthenticationRequired, conversation.InvalidToken, conversation.ExpiredToken,
		conversation.ReplayDetected, conversation.Unavailable, conversation.Overloaded,
	} {
		m.results[code] = tokens.WithLabelValues(string(code))
	}
	return m
}

func (m *verifierMetrics) count(err error) {
	code := conversation.CodeOf(err)
	c, known := m.results[code]
	if !known || (err != nil && code == "") {
		c = m.other
	}
	c.Inc()
}

type resolverMetrics struct {
	found, none, failed map[string]prometheus.Counter // by method
	seconds             prometheus.Histogram
	hits                prometheus.Counter
}

func newResolverMetrics(reg prometheus.Registerer) *resolverMetrics {
	f := promauto.With(reg)
	looks := f.NewCounterVec(prometheus.CounterOpts{
		Name: "auth_did_resolutions_total", Help: "DID documents that were looked up, by method and what came of it.",
	}, []string{"method", "result"})
	m := &resolverMetrics{
		found: map[string]prometheus.Counter{}, none: map[string]prometheus.Counter{}, failed: map[string]prometheus.Counter{},
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "auth_did_resolution_seconds", Help: "How long it took to look up a DID document.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 11),
		}),
		hits: f.NewCounter(prometheus.CounterOpts{
			Name: "auth_did_cache_hits_total", Help: "Keys of DIDs that were known.",
		}),
	}
	for _, method := range []string{methodPLC, methodWeb} {
		m.found[method] = looks.WithLabelValues(method, "found")
		m.none[method] = looks.WithLabelValues(method, "none")
		m.failed[method] = looks.WithLabelValues(method, "failed")
	}
	return m
}

func (m *resolverMetrics) count(method string, err error, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	switch {
	case err == nil:
		m.found[method].Inc()
	case errors.Is(err, ErrNoKey):
		m.none[method].Inc()
	default:
		m.failed[method].Inc()
	}
}
