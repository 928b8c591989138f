package delivery

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"catbird/actor"
	"catbird/conversation"
	"catbird/internal/obs"
	"catbird/peer"
	"catbird/persistence"
)

// The names of the spans: one for each attempt at a request, and one for what
// is done for another node.
const (
	spanActor  = "delivery.actor"  // through the conversation's actor, here
	spanDirect = "delivery.direct" // straight in the database
	spanAsk    = "delivery.ask"    // at another node
	spanServe  = "delivery.serve"  // another node's question
)

// noSpan is what ends and tells where nothing is traced.
var noSpan trace.Span = noop.Span{}

// span begins a span about convo. Where nothing is traced that costs nothing.
func (s *Service) span(ctx context.Context, name string, kind trace.SpanKind, op conversation.Op, convo string) (context.Context, trace.Span) {
	if s.tracer == nil {
		return ctx, noSpan
	}
	return s.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(
		attribute.String("catbird.op", string(op)), attribute.String("catbird.convo", convo),
	))
}

// endSpan says what became of an attempt on this node.
func endSpan(span trace.Span, err error) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	outcome, fault := outcomeOf(err)
	tell(span, outcome, fault)
}

// endAsked says what another node answered.
func endAsked(span trace.Span, node string, a *peer.Answer, err error) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.String("catbird.peer", node))
	switch {
	case err == nil:
		outcome, fault := outcomeOfAnswer(a)
		tell(span, outcome, fault)
	case errors.Is(err, peer.ErrBusy):
		tell(span, "busy", false)
	case errors.Is(err, peer.ErrLost):
		tell(span, "lost", true)
	default:
		tell(span, "unreachable", true)
	}
}

// endServed says what another node was answered.
func endServed(span trace.Span, a *peer.Answer) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	outcome, fault := outcomeOfAnswer(a)
	tell(span, outcome, fault)
}

func tell(span trace.Span, outcome string, fault bool) {
	span.SetAttributes(attribute.String("catbird.outcome", outcome))
	if fault {
		span.SetStatus(codes.Error, outcome)
	}
}

// outcomeOf names what became of an attempt on this node. What sends a request
// elsewhere, or tells a client no, is no fault.
func outcomeOf(err error) (name string, fault bool) {
	var held *persistence.HeldError
	var refusal *conversation.Error
	switch {
	case err == nil:
		return peer.Served.String(), false
	case errors.Is(err, persistence.ErrOutcomeUnknown):
		return string(conversation.OutcomeUnknown), true
	case errors.As(err, &held):
		return peer.NotMine.String(), false
	case errors.Is(err, actor.ErrMoving), errors.Is(err, actor.ErrClosed):
		return peer.Moving.String(), false
	case errors.Is(err, persistence.ErrUnavailable):
		return string(conversation.Unavailable), true
	case errors.As(err, &refusal):
		return outcomeOfRefusal(refusal)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "given_up", false
	default:
		return string(conversation.InternalServerError), true
	}
}

func outcomeOfAnswer(a *peer.Answer) (name string, fault bool) {
	if a.Status == peer.Refused && a.Refusal != nil {
		return outcomeOfRefusal(a.Refusal)
	}
	return a.Status.String(), false
}

func outcomeOfRefusal(e *conversation.Error) (name string, fault bool) {
	switch e.Code {
	case conversation.OutcomeUnknown, conversation.Unavailable, conversation.InternalServerError:
		return string(e.Code), true
	default:
		return string(e.Code), false
	}
}

// arrived is the context of another node's question: it knows the request's id.
type arrived struct {
	context.Context
	id string
}

type arrivedKey struct{}

// Value implements context.Context.
func (a *arrived) Value(key any) any {
	if key == (arrivedKey{}) {
		return a
	}
	return a.Context.Value(key)
}

// requestID returns the id of the request that ctx belongs to, here or at the
// node that asks; "" for none.
func (s *Service) requestID(ctx context.Context) string {
	if a, ok := ctx.Value(arrivedKey{}).(*arrived); ok {
		return a.id
	}
	if s.cfg.Trail == nil {
		return ""
	}
	id, _ := s.cfg.Trail(ctx)
	return id
}

// say logs what is about a request, under its id.
func (s *Service) say(ctx context.Context, level slog.Level, msg string, attrs ...slog.Attr) {
	if !s.log.Enabled(ctx, level) {
		return
	}
	if id := s.requestID(ctx); id != "" {
		attrs = append(attrs, slog.String("request_id", id))
	}
	s.log.LogAttrs(ctx, level, msg, attrs...)
}

// continued takes up what the node that asks was doing: the span that it serves
// begins below that node's.
func (s *Service) continued(ctx context.Context, q *peer.Question) (context.Context, trace.Span) {
	if q.RequestID != "" {
		ctx = &arrived{ctx, q.RequestID}
	}
	if s.tracer == nil || len(q.Offer) > 0 || len(q.Take) > 0 { // no client waits for those
		return ctx, noSpan
	}
	op := conversation.OpGetEpoch
	if q.Change != nil {
		op = q.Change.Command.Op()
	}
	ctx, span := s.span(obs.WithTraceparent(ctx, q.Traceparent), spanServe, trace.SpanKindServer, op, q.Subject())
	if q.RequestID != "" && span.IsRecording() {
		span.SetAttributes(attribute.String("catbird.request_id", q.RequestID))
	}
	return ctx, span
}
