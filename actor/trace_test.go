package actor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"catbird/conversation"
	"catbird/internal/memstore"
)

// eventsOf returns the events of a span with what they say, in order.
func eventsOf(s tracetest.SpanStub) (out []string) {
	for _, e := range s.Events {
		text := e.Name
		for _, kv := range e.Attributes {
			if kv.Key != "catbird.bytes" {
				text += fmt.Sprintf(" %s=%s", kv.Key, kv.Value.String())
			}
		}
		out = append(out, text)
	}
	return out
}

// A request's span hears how long it waited, with how many others it was worked
// on, and what the database did with them.
func TestSpansHearOfBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewInMemoryExporter()
		tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("test")
		h := newHouse(t, func(c *Config) { c.Traced = true })
		h.do(sends(1, 0)[0])

		release := h.held()
		var calls []*call
		ask := func(name string, c conversation.Command) {
			ctx, span := tracer.Start(t.Context(), name)
			one := h.startWith(ctx, request(convo, alice, c))
			calls = append(calls, one...)
			go func() {
				<-one[0].wait
				span.End()
			}()
		}
		ask("first", send(0, "x"))
		ask("second", send(0, "x"))
		ask("refused", send(7, "x"))
		calls = append(calls, h.start(sends(1, 0)...)...) // nobody traces this one
		pass(time.Second)
		release()
		synctest.Wait()
		refused(t, calls[2].err, conversation.EpochMismatch)
		h.all(slices.Delete(calls, 2, 3))

		want := map[string][]string{
			"first": {
				"taken from the mailbox catbird.batch=1 catbird.waited_seconds=0",
				"append sent catbird.changes=1 catbird.rows=1", "append answered catbird.outcome=appended",
			},
			"second": {
				"taken from the mailbox catbird.batch=3 catbird.waited_seconds=1",
				"append sent catbird.changes=2 catbird.rows=2", "append answered catbird.outcome=appended",
			},
			"refused": { // it is answered when the others are, rule 13
				"taken from the mailbox catbird.batch=3 catbird.waited_seconds=1",
				"append sent catbird.changes=2 catbird.rows=2", "append answered catbird.outcome=appended",
			},
		}
		for _, s := range spans.GetSpans() {
			if got := eventsOf(s); !slices.Equal(got, want[s.Name]) {
				t.Errorf("%s heard %q, want %q", s.Name, got, want[s.Name])
			}
			delete(want, s.Name)
		}
		if len(want) > 0 {
			t.Errorf("not ended: %v", want)
		}
	})
}

// Who gives up may end their span while the actor still works for them.
func TestSpanThatEndedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewInMemoryExporter()
		tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("test")
		h := newHouse(t, func(c *Config) { c.Traced = true })
		h.store.FailAlways(memstore.Append, memstore.Fault{Before: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		ctx, span := tracer.Start(ctx, "impatient")
		c := h.startWith(ctx, sends(1, 0)...)[0]
		<-c.wait
		span.End()
		if !errors.Is(c.err, context.DeadlineExceeded) {
			t.Errorf("error %v", c.err)
		}
		pass(2 * time.Second)
		h.once([]*call{c})
		if got := eventsOf(spans.GetSpans()[0]); len(got) != 2 {
			t.Errorf("heard %q", got)
		}
	})
}

// Where nothing is traced, nobody looks for a span.
func TestUntracedRequestsLookForNoSpan(t *testing.T) {
	h := newHouse(t, nil)
	ctx := &curious{Context: t.Context()}
	if _, err := h.reg.Do(ctx, sends(1, 0)[0]); err != nil {
		t.Fatal(err)
	}
	if ctx.asked {
		t.Error("the request's context was searched")
	}
}

// curious notes whether a context's values are asked for.
type curious struct {
	context.Context
	asked bool
}

func (c *curious) Value(key any) any {
	c.asked = true
	return c.Context.Value(key)
}
