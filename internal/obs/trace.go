package obs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TracesConfig says what becomes of traces. Logger is required.
type TracesConfig struct {
	// URL is where spans are sent by OTLP over HTTP, its path included; "": there
	// are no traces.
	URL string
	// Service is the name that the spans are under; "": what
	// OTEL_RESOURCE_ATTRIBUTES says, else catbird. Node tells its processes
	// apart.
	Service, Version, Node string
	// Sampler decides what is traced; nil: what the caller traces, and all that
	// begins here.
	Sampler sdktrace.Sampler
	Logger  *slog.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

// Traces sends spans to a collector, in batches, behind everybody's back: a
// span that finds the queue full is dropped, and a collector that is slow, wrong
// or gone costs spans and nothing else. The queue and the batches are as long,
// and a try to send takes as much time, as the SDK's variables OTEL_BSP_* and
// OTEL_EXPORTER_OTLP_* say; by default 2,048 spans, 512 and 10 s.
//
// Its methods may be called from any goroutine.
type Traces struct {
	provider  *sdktrace.TracerProvider // nil: there are no traces
	processor sdktrace.SpanProcessor
	courier   *courier
}

// NewTraces returns traces as c says. It reaches for no network. Stop ends them.
func NewTraces(ctx context.Context, c TracesConfig) (*Traces, error) {
	if c.URL == "" {
		return &Traces{}, nil
	}
	about, err := describe(ctx, c)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.URL))
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	sampler := c.Sampler
	if sampler == nil {
		sampler = sdktrace.ParentBased(sdktrace.AlwaysSample())
	}
	t := &Traces{courier: newCourier(exporter, c.Logger, c.Registerer)}
	t.processor = &tally{SpanProcessor: sdktrace.NewBatchSpanProcessor(t.courier), spans: t.courier.spans}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(t.processor), sdktrace.WithResource(about), sdktrace.WithSampler(sampler),
	)
	return t, nil
}

// describe says whose spans these are. What an operator has set in the
// environment goes before the default name, and what was asked for before that.
func describe(ctx context.Context, c TracesConfig) (*resource.Resource, error) {
	own := []attribute.KeyValue{
		attribute.String("service.version", c.Version), attribute.String("service.instance.id", c.Node),
	}
	if c.Service != "" {
		own = append(own, attribute.String("service.name", c.Service))
	}
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithAttributes(attribute.String("service.name", "catbird")),
		resource.WithFromEnv(), resource.WithAttributes(own...),
	)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return about, nil
}

// Provider returns what makes tracers, nil where there are no traces.
func (t *Traces) Provider() trace.TracerProvider {
	if t.provider == nil {
		return nil // and not a nil pointer that is not nil
	}
	return t.provider
}

// Stop sends what waits and stops, or gives up on it when ctx ends: what could
// not be delivered is logged, and is no reason for anything else. Spans that end
// later are dropped. It may be called twice.
func (t *Traces) Stop(ctx context.Context) {
	if t.provider == nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { t.courier.giveUp(context.Cause(ctx)) })
	defer stop()
	_ = t.processor.Shutdown(ctx) // the courier has logged what went wrong
	<-t.courier.done
	_ = t.provider.Shutdown(context.WithoutCancel(ctx)) // makes later spans cost nothing
}

// ErrSampler is the error of a sampler that nobody knows.
var ErrSampler = errors.New("must be always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio")

// ParseSampler reads a sampler as OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG
// name it. No name is parentbased_always_on, no ratio is 1. Errors name the
// variable.
func ParseSampler(name, arg string) (sdktrace.Sampler, error) {
	kind, parentBased := strings.CutPrefix(strings.ToLower(strings.TrimSpace(name)), "parentbased_")
	var root sdktrace.Sampler
	switch kind {
	case "":
		if parentBased {
			return nil, fmt.Errorf("OTEL_TRACES_SAMPLER: %q %w", name, ErrSampler)
		}
		root, parentBased = sdktrace.AlwaysSample(), true
	case "always_on":
		root = sdktrace.AlwaysSample()
	case "always_off":
		root = sdktrace.NeverSample()
	case "traceidratio":
		ratio, err := parseRatio(arg)
		if err != nil {
			return nil, err
		}
		root = sdktrace.TraceIDRatioBased(ratio)
	default:
		return nil, fmt.Errorf("OTEL_TRACES_SAMPLER: %q %w", name, ErrSampler)
	}
	if parentBased {
		return sdktrace.ParentBased(root), nil
	}
	return root, nil
}

func parseRatio(arg string) (float64, error) {
	arg = strings.TrimSpace(arg)
	if arg == "" {
		return 1, nil
	}
	ratio, err := strconv.ParseFloat(arg, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) { // not a number is neither
		return 0, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG: %q is not a ratio from 0 to 1", arg)
	}
	return ratio, nil
}

const traceparentKey = "traceparent"

// Traceparent returns the span of ctx as the W3C's traceparent header, "" where
// there is none.
func Traceparent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	header := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, header)
	return header[traceparentKey]
}

// WithTraceparent returns ctx with the span that a traceparent header names as
// its remote parent, and ctx itself where that names none.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceparentKey: traceparent})
}
