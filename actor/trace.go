package actor

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"catbird/conversation"
	"catbird/persistence"
)

// The events that tell a request's span where its time went: in the mailbox, in
// deciding, or in the database. What is appended for many requests at once is
// no span of its own, since it would belong to none of them.
const (
	eventTaken    = "taken from the mailbox"
	eventSent     = "append sent"
	eventAnswered = "append answered"
)

// belongTo remembers the span that ctx carries, if that is recorded.
func (l *letter) belongTo(ctx context.Context) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		l.span = span
	}
}

func tellAll(letters []*letter, event string, attributes func(l *letter) []attribute.KeyValue) {
	for _, l := range letters {
		if l.span != nil {
			l.span.AddEvent(event, trace.WithAttributes(attributes(l)...))
		}
	}
}

// tellTaken tells how many requests are worked on together, and how long each
// has waited for that.
func tellTaken(letters []*letter) {
	now := time.Now()
	tellAll(letters, eventTaken, func(l *letter) []attribute.KeyValue {
		return []attribute.KeyValue{
			attribute.Int("catbird.batch", len(letters)),
			attribute.Float64("catbird.waited_seconds", now.Sub(l.at).Seconds()),
		}
	})
}

// tellSent tells how much goes to the database for how many requests.
func tellSent(letters []*letter, u *conversation.Unit) {
	rows, size := u.Weight()
	tellAll(letters, eventSent, func(*letter) []attribute.KeyValue {
		return []attribute.KeyValue{
			attribute.Int("catbird.changes", len(u.IDs)), attribute.Int("catbird.rows", rows), attribute.Int("catbird.bytes", size),
		}
	})
}

// tellAnswered tells what the database said.
func tellAnswered(letters []*letter, outcome persistence.AppendOutcome, err error) {
	said := []attribute.KeyValue{attribute.String("catbird.outcome", appendLabel(outcome))}
	if err != nil {
		said[0] = attribute.String("catbird.outcome", "error")
	}
	tellAll(letters, eventAnswered, func(*letter) []attribute.KeyValue { return said })
}
