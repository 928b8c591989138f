package router

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"catbird/conversation"
)

// trail is the context above a call's own: it tells what the request is called
// and, below the server's span, what it belongs to. It is part of the call, so
// that telling takes no memory of its own.
type trail struct {
	context.Context
	id   string
	span trace.Span // nil: there are no spans
}

type trailKey struct{}

// Value implements context.Context.
func (t *trail) Value(key any) any {
	if key == (trailKey{}) {
		return t
	}
	return t.Context.Value(key)
}

// RequestID returns the id of the request that ctx belongs to, as it stands in
// the answer's X-Request-Id and in the log; "" for none. It does not allocate.
func RequestID(ctx context.Context) string {
	if t, ok := ctx.Value(trailKey{}).(*trail); ok {
		return t.id
	}
	return ""
}

// startTrail gives the call its id, and its span below the one that the client
// names in traceparent.
func (rt *Router) startTrail(c *call) {
	c.trail = trail{Context: c.request.Context(), id: rt.ids.of(c.request.Header)}
	if rt.tracer == nil {
		return
	}
	name := "unknown method"
	if c.endpoint.name != "" {
		name = c.endpoint.nsid()
	}
	ctx := propagation.TraceContext{}.Extract(c.trail.Context, propagation.HeaderCarrier(c.request.Header))
	c.trail.Context, c.trail.span = rt.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", verb(c.request.Method)),
		attribute.String("catbird.op", string(c.endpoint.op)), attribute.String("catbird.request_id", c.trail.id),
	))
}

// endSpan says in the call's span what became of it. Who called, what they sent
// and what they were told is nobody's business there.
func (c *call) endSpan() {
	span := c.trail.span
	if span == nil {
		return
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.Int("http.response.status_code", c.status))
	if c.convo != "" {
		span.SetAttributes(attribute.String("catbird.convo", c.convo))
	}
	if c.err != nil {
		span.SetAttributes(attribute.String("error.type", string(c.name)))
	}
	if c.status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, string(c.name))
	}
}

// traceID returns the id of the trace that the call is part of, if that is
// recorded, else "".
func (c *call) traceID() string {
	if c.trail.span == nil || !c.trail.span.IsRecording() {
		return ""
	}
	return c.trail.span.SpanContext().TraceID().String()
}

// about says which conversation the call is about.
func (c *call) about(convoID string) (convo string, err error) {
	c.convo, err = conversation.ParseConvoID(convoID)
	return c.convo, err
}
