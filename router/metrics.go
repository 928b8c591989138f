package router

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"catbird/conversation"
)

type metrics struct {
	requests *prometheus.CounterVec
	ops      map[conversation.Op]*figures
	errors   map[conversation.Code]prometheus.Counter
}

// figures are those of one operation.
type figures struct {
	op       conversation.Op
	requests *prometheus.CounterVec
	known    map[int]prometheus.Counter // by status
	seconds  prometheus.Observer
}

func newMetrics(reg prometheus.Registerer, table []endpoint, work *inFlight) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "Requests of the clients' API, by operation and status.",
		}, []string{"op", "status"}),
		ops:    map[conversation.Op]*figures{},
		errors: map[conversation.Code]prometheus.Counter{},
	}
	seconds := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_request_duration_seconds", Help: "How long requests of the clients' API took.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"op"})
	byName := f.NewCounterVec(prometheus.CounterOpts{
		Name: "http_errors_total", Help: "Answers of the clients' API that said no, by the error's name.",
	}, []string{"error"})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "http_requests_in_flight", Help: "Requests of the clients' API in work.",
	}, func() float64 { return float64(work.requests.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "http_in_flight_bytes", Help: "Bytes of bodies and answers held by requests in work.",
	}, func() float64 { return float64(work.bytes.Load()) })

	statuses := map[int]bool{200: true, statusClientGone: true}
	for code, status := range statusOf {
		statuses[status] = true
		m.errors[code] = byName.WithLabelValues(string(code))
	}
	ops := []conversation.Op{opUnknown}
	for _, e := range table {
		ops = append(ops, e.op)
	}
	for _, op := range ops {
		fig := &figures{op: op, requests: m.requests, known: map[int]prometheus.Counter{}, seconds: seconds.WithLabelValues(string(op))}
		for status := range statuses {
			fig.known[status] = m.requests.WithLabelValues(string(op), strconv.Itoa(status))
		}
		m.ops[op] = fig
	}
	return m
}

func (m *metrics) of(op conversation.Op) *figures { return m.ops[op] }

func (m *metrics) countError(code conversation.Code) { m.errors[code].Inc() }

func (f *figures) observe(status int, took time.Duration) {
	c, ok := f.known[status]
	if !ok {
		c = f.requests.WithLabelValues(string(f.op), strconv.Itoa(status))
	}
	c.Inc()
	f.seconds.Observe(took.Seconds())
}
