package obs

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/trace"

	"catbird/internal/obs/obstest"
)

// testTraces returns traces that go to c.
func testTraces(t *testing.T, c *obstest.Collector, change func(*TracesConfig)) *Traces {
	t.Helper()
	cfg := TracesConfig{URL: c.URL() + "/v1/traces", Version: "v1", Node: "n1", Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	tr, err := NewTraces(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		tr.Stop(ctx)
	})
	return tr
}

func TestTracesOff(t *testing.T) {
	tr, err := NewTraces(t.Context(), TracesConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if tr.Provider() != nil {
		t.Error("there is a provider although there are no traces")
	}
	tr.Stop(t.Context())
}

func TestStopDeliversWhatWaits(t *testing.T) {
	c := obstest.Start(t)
	reg := prometheus.NewRegistry()
	tr := testTraces(t, c, func(cfg *TracesConfig) { cfg.Registerer = reg })
	ctx, outer := tr.Provider().Tracer("test").Start(t.Context(), "outer")
	_, inner := tr.Provider().Tracer("test").Start(ctx, "inner")
	inner.End()
	outer.End()
	tr.Stop(t.Context())
	tr.Stop(t.Context())

	spans := map[string]obstest.Span{}
	for _, s := range c.Spans() {
		spans[s.Name] = s
	}
	in, out := spans["inner"], spans["outer"]
	if len(c.Spans()) != 2 || in.ParentID == "" || in.ParentID != out.ID || in.TraceID != out.TraceID {
		t.Errorf("spans = %+v", c.Spans())
	}
	if out.Service != "catbird" || out.Node != "n1" || out.Version != "v1" {
		t.Errorf("the span is of service %q, node %q, version %q", out.Service, out.Node, out.Version)
	}
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP trace_exported_spans_total Spans that were sent to the collector, by outcome.
# TYPE trace_exported_spans_total counter
trace_exported_spans_total{outcome="delivered"} 2
trace_exported_spans_total{outcome="failed"} 0
# HELP trace_spans_total Spans that ended; those never exported found the queue full.
# TYPE trace_spans_total counter
trace_spans_total 2
`))
	if err != nil {
		t.Error(err)
	}
	_, late := tr.Provider().Tracer("test").Start(t.Context(), "late")
	if late.IsRecording() {
		t.Error("spans are recorded that nobody will deliver")
	}
}

func TestWhoseSpansTheyAre(t *testing.T) {
	for _, c := range []struct{ service, variable, want string }{
		{"", "", "catbird"},
		{"", "service.name=fromenv,service.instance.id=x", "fromenv"},
		{"asked", "service.name=fromenv", "asked"},
	} {
		t.Run(c.want, func(t *testing.T) {
			t.Setenv("OTEL_RESOURCE_ATTRIBUTES", c.variable)
			col := obstest.Start(t)
			tr := testTraces(t, col, func(cfg *TracesConfig) { cfg.Service = c.service })
			_, span := tr.Provider().Tracer("test").Start(t.Context(), "x")
			span.End()
			tr.Stop(t.Context())
			if got := col.Spans(); len(got) != 1 || got[0].Service != c.want || got[0].Node != "n1" {
				t.Errorf("spans = %+v, want one of %s on n1", got, c.want)
			}
		})
	}
	t.Run("malformed", func(t *testing.T) {
		t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "nonsense")
		_, err := NewTraces(t.Context(), TracesConfig{URL: "http://127.0.0.1:1/v1/traces", Logger: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), "OTEL_RESOURCE_ATTRIBUTES") {
			t.Errorf("err = %v, want one that names the variable", err)
		}
	})
}

// A collector that hangs costs the one who stops no more than they allow.
func TestStopGivesUpOnACollectorThatHangs(t *testing.T) {
	c := obstest.StartHanging(t)
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	tr := testTraces(t, c, func(cfg *TracesConfig) {
		cfg.Logger, cfg.Registerer = slog.New(slog.NewTextHandler(&log, nil)), reg
	})
	const n = 3000 // more than the queue holds
	tracer := tr.Provider().Tracer("test")
	for range n {
		_, span := tracer.Start(t.Context(), "x")
		span.End()
	}
	<-c.Asked()
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tr.Stop(ctx)
	}()
	cancel(errors.New("out of time"))
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		t.Fatal("still not stopped")
	}
	failed := testutil.ToFloat64(tr.courier.failed)
	if failed == 0 || failed > n || testutil.ToFloat64(tr.courier.spans) != n {
		t.Errorf("%v of %v spans are counted as lost", failed, testutil.ToFloat64(tr.courier.spans))
	}
	if !strings.Contains(log.String(), "spans not delivered") || !strings.Contains(log.String(), "component=traces") {
		t.Errorf("the log does not say what became of them: %s", log.String())
	}
}

func TestStopWithoutTimeLeft(t *testing.T) {
	tr := testTraces(t, obstest.StartHanging(t), nil)
	_, span := tr.Provider().Tracer("test").Start(t.Context(), "x")
	span.End()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tr.Stop(ctx)
	if got := testutil.ToFloat64(tr.courier.failed); got != 1 {
		t.Errorf("%v spans are counted as lost, want 1", got)
	}
}

// A collector that says no is logged once, not with every batch.
func TestFailuresAreLoggedOnce(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
	c := obstest.StartRefusing(t, 400)
	var log bytes.Buffer
	tr := testTraces(t, c, func(cfg *TracesConfig) { cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	tracer := tr.Provider().Tracer("test")
	for range 5 {
		_, span := tracer.Start(t.Context(), "x")
		span.End()
	}
	tr.Stop(t.Context())
	if n := strings.Count(log.String(), "\n"); n != 1 || testutil.ToFloat64(tr.courier.failed) != 5 {
		t.Errorf("%v spans were lost, and %d lines logged: %s", testutil.ToFloat64(tr.courier.failed), n, log.String())
	}
}

func TestParseSampler(t *testing.T) {
	for _, c := range []struct{ name, arg, want string }{
		{"", "", "ParentBased{root:AlwaysOnSampler"},
		{"always_on", "", "AlwaysOnSampler"},
		{"always_off", "0.5", "AlwaysOffSampler"},
		{"traceidratio", "", "TraceIDRatioBased{1}"},
		{" TraceIDRatio ", "0.25", "TraceIDRatioBased{0.25}"},
		{"parentbased_always_on", "", "ParentBased{root:AlwaysOnSampler"},
		{"parentbased_always_off", "", "ParentBased{root:AlwaysOffSampler"},
		{"parentbased_traceidratio", "0.1", "ParentBased{root:TraceIDRatioBased{0.1}"},
	} {
		s, err := ParseSampler(c.name, c.arg)
		if err != nil || !strings.HasPrefix(s.Description(), c.want) {
			t.Errorf("%q with %q is %v, %v, want %s", c.name, c.arg, s, err, c.want)
		}
	}
	for _, c := range []struct{ name, arg, variable string }{
		{"jaeger_remote", "", "OTEL_TRACES_SAMPLER:"},
		{"parentbased_", "", "OTEL_TRACES_SAMPLER:"},
		{"traceidratio", "2", "OTEL_TRACES_SAMPLER_ARG:"},
		{"traceidratio", "-1", "OTEL_TRACES_SAMPLER_ARG:"},
		{"traceidratio", "NaN", "OTEL_TRACES_SAMPLER_ARG:"},
		{"parentbased_traceidratio", "half", "OTEL_TRACES_SAMPLER_ARG:"},
	} {
		if s, err := ParseSampler(c.name, c.arg); err == nil || !strings.HasPrefix(err.Error(), c.variable) {
			t.Errorf("%q with %q is %v, %v, want an error of %s", c.name, c.arg, s, err, c.variable)
		}
	}
}

func TestTraceparent(t *testing.T) {
	const header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ctx := WithTraceparent(t.Context(), header)
	if got := Traceparent(ctx); got != header {
		t.Errorf("traceparent = %q, want %q", got, header)
	}
	if s := trace.SpanContextFromContext(ctx); !s.IsRemote() || !s.IsSampled() {
		t.Errorf("the span is remote: %v, sampled: %v", s.IsRemote(), s.IsSampled())
	}
	for _, bad := range []string{"", "00", "00-00000000000000000000000000000000-0000000000000000-01", header + "-x"} {
		if got := Traceparent(WithTraceparent(t.Context(), bad)); got != "" {
			t.Errorf("%q is taken for %q", bad, got)
		}
	}
}
