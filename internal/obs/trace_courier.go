package obs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// courier carries spans to an exporter. It keeps what goes wrong there from the
// SDK, which would write it to a place of its own, and can be told to give up.
type courier struct {
	exporter sdktrace.SpanExporter
	log      *slog.Logger

	life   context.Context // ends when it is to give up
	giveUp context.CancelCauseFunc
	done   chan struct{} // closed when nothing will be exported any more

	spans             prometheus.Counter
	delivered, failed prometheus.Counter

	mu   sync.Mutex
	lost int // spans since the last line in the log
	said time.Time
}

// sayEvery is how often a failing collector is logged, at most.
const sayEvery = time.Minute

// maxSaid bounds what is logged of an error: a collector's answer may be in it.
const maxSaid = 256

func newCourier(e sdktrace.SpanExporter, log *slog.Logger, reg prometheus.Registerer) *courier {
	f := promauto.With(reg)
	outcomes := f.NewCounterVec(prometheus.CounterOpts{
		Name: "trace_exported_spans_total", Help: "Spans that were sent to the collector, by outcome.",
	}, []string{"outcome"})
	c := &courier{
		exporter: e, log: log.With(ComponentKey, "traces"), done: make(chan struct{}),
		spans: f.NewCounter(prometheus.CounterOpts{
			Name: "trace_spans_total", Help: "Spans that ended; those never exported found the queue full.",
		}),
		delivered: outcomes.WithLabelValues("delivered"), failed: outcomes.WithLabelValues("failed"),
	}
	c.life, c.giveUp = context.WithCancelCause(context.Background())
	return c
}

// ExportSpans implements sdktrace.SpanExporter. It never fails: there is nobody
// who could do anything about it.
func (c *courier) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.life, func() { cancel(context.Cause(c.life)) })
	defer stop()
	err := c.exporter.ExportSpans(ctx, spans)
	if err == nil {
		c.delivered.Add(float64(len(spans)))
		return nil
	}
	c.failed.Add(float64(len(spans)))
	c.say(len(spans), err)
	return nil
}

// say logs a failure, unless one was logged just now.
func (c *courier) say(lost int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost += lost
	now := time.Now()
	if !c.said.IsZero() && now.Sub(c.said) < sayEvery && c.life.Err() == nil {
		return
	}
	text := err.Error()
	if len(text) > maxSaid {
		text = text[:maxSaid] + "…"
	}
	c.log.Warn("spans not delivered to the collector", "spans", c.lost, "error", text)
	c.lost, c.said = 0, now
}

// Shutdown implements sdktrace.SpanExporter: it is called once, when nothing is
// exported any more.
func (c *courier) Shutdown(ctx context.Context) error {
	defer close(c.done)
	defer c.giveUp(nil)
	return c.exporter.Shutdown(ctx)
}

// tally counts the spans that come to a processor.
type tally struct {
	sdktrace.SpanProcessor
	spans prometheus.Counter
}

// OnEnd implements sdktrace.SpanProcessor.
func (t *tally) OnEnd(s sdktrace.ReadOnlySpan) {
	if s.SpanContext().IsSampled() {
		t.spans.Inc()
	}
	t.SpanProcessor.OnEnd(s)
}
