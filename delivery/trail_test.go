package delivery_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"catbird/conversation"
	"catbird/delivery"
	"catbird/internal/memstore"
	"catbird/internal/obs"
	"catbird/peer"
)

type idKey struct{}

// tracedNode is a node whose spans go to the returned exporter, and whose
// requests bear ids.
func (w *world) tracedNode(name string, s setup) (*node, *tracetest.InMemoryExporter) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	s.service = func(c *delivery.Config) {
		c.TracerProvider = provider
		c.Trail = func(ctx context.Context) (string, string) {
			id, _ := ctx.Value(idKey{}).(string)
			return id, obs.Traceparent(ctx)
		}
	}
	return w.node(name, s), spans
}

// root is the context of a request that came with an id and a trace of its own.
func root(t testing.TB) (context.Context, trace.SpanContext) {
	t.Helper()
	ctx := obs.WithTraceparent(context.WithValue(t.Context(), idKey{}, "r-1"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	return ctx, trace.SpanContextFromContext(ctx)
}

// tried is a span as the tests compare them.
type tried struct {
	name, outcome, peer string
	fault               bool
}

func triedIn(spans *tracetest.InMemoryExporter) (out []tried) {
	for _, s := range spans.GetSpans() {
		out = append(out, tried{s.Name, attributeOf(s, "catbird.outcome"), attributeOf(s, "catbird.peer"), s.Status.Code == codes.Error})
	}
	return out
}

func attributeOf(s tracetest.SpanStub, key string) string {
	for _, kv := range s.Attributes {
		if string(kv.Key) == key {
			return kv.Value.String()
		}
	}
	return ""
}

// A change goes from the node that is asked to the one that owns the
// conversation: one trace, one request id in the log of both.
func TestTrailCrossesNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, spansA := w.tracedNode("a", setup{flags: on})
		b, spansB := w.tracedNode("b", setup{flags: on})
		w.setOwner(convo, "b")
		ctx, client := root(t)
		if _, err := a.svc.Do(ctx, request(convo, alice, send(0))); err != nil {
			t.Fatal(err)
		}
		if _, err := a.svc.Epoch(ctx, convo, alice); err != nil {
			t.Fatal(err)
		}
		here, there := spansA.GetSpans(), spansB.GetSpans()
		if len(here) != 2 || len(there) != 4 {
			t.Fatalf("%d spans here and %d there, want 2 and 4", len(here), len(there))
		}
		actor, serve, load, serveEpoch := there[0], there[1], there[2], there[3]
		for _, p := range []struct {
			what          string
			child, parent trace.SpanContext
		}{
			{"asking", here[0].Parent, client},
			{"serving", serve.Parent, here[0].SpanContext},
			{"the actor's work", actor.Parent, serve.SpanContext},
			{"asking for the epoch", here[1].Parent, client},
			{"serving the epoch", serveEpoch.Parent, here[1].SpanContext},
			{"loading for it", load.Parent, serveEpoch.SpanContext},
		} {
			if p.child.SpanID() != p.parent.SpanID() || p.child.TraceID() != client.TraceID() {
				t.Errorf("%s has the parent %v, want %v", p.what, p.child.SpanID(), p.parent.SpanID())
			}
		}
		if !serve.Parent.IsRemote() || serve.SpanKind != trace.SpanKindServer || here[0].SpanKind != trace.SpanKindClient {
			t.Errorf("kinds %v and %v, the parent is remote: %v", here[0].SpanKind, serve.SpanKind, serve.Parent.IsRemote())
		}
		for key, want := range map[string]string{
			"catbird.convo": convo, "catbird.op": "send_message", "catbird.outcome": "served", "catbird.request_id": "r-1",
		} {
			if got := attributeOf(serve, key); got != want {
				t.Errorf("%s of what b served is %q, want %q", key, got, want)
			}
		}
		if got := attributeOf(here[0], "catbird.peer"); got != "b" {
			t.Errorf("asked %q", got)
		}
		if n := b.logs.count(`msg="Using actor system for send_message" component=delivery convo=c0ffee request_id=r-1`); n != 1 {
			t.Errorf("b has logged %d lines under the request's id", n)
		}
		if n := a.logs.count(`msg="Using actor system for get_epoch" component=delivery convo=c0ffee request_id=r-1`); n != 1 {
			t.Errorf("a has logged %d lines under the request's id", n)
		}
	})
}

// Each tried has a span that says what became of it, and only faults are
// marked as such.
func TestSpansOfAttempts(t *testing.T) {
	asked := func(outcome string, fault bool) tried { return tried{"delivery.ask", outcome, "b", fault} }
	served := tried{"delivery.actor", "served", "", false}
	for _, tt := range []struct {
		name    string
		flags   delivery.Flags
		prepare func(w *world, b *node)
		command conversation.Command
		want    []tried // those that must be there, in this order
	}{
		{"here", on, func(w *world, _ *node) { w.setOwner(convo, "a") }, send(0), []tried{served}},
		{"direct", off, func(*world, *node) {}, send(0), []tried{{"delivery.direct", "served", "", false}}},
		{"not a member", off, func(w *world, _ *node) { w.setOwner(convo, "a") }, conversation.Leave{Target: carol}, []tried{{"delivery.direct", "TargetNotMember", "", false}}},
		{"not mine", on, func(_ *world, b *node) { b.leaving.Store(true) }, send(0), []tried{asked("not_mine", false), served}},
		{"unreachable", on, func(w *world, _ *node) { w.link("a", "b", down) }, send(0), []tried{asked("unreachable", true), served}},
		{"busy", on, func(w *world, _ *node) { w.link("a", "b", busy) }, send(0), []tried{asked("busy", false)}},
		{"lost", on, func(w *world, _ *node) { w.link("a", "b", lost) }, send(0), []tried{asked("lost", true)}},
		{"refused", on, func(*world, *node) {}, send(3), []tried{asked("EpochMismatch", false)}},
		{
			"held", off,
			func(_ *world, b *node) { b.do(request(convo, alice, send(0))) },
			send(0),
			[]tried{{"delivery.direct", "not_mine", "", false}, asked("served", false)},
		},
		{
			"no database", off,
			func(w *world, _ *node) { w.store.FailAlways(memstore.Direct, memstore.Fault{Fate: memstore.Refused}) },
			send(0),
			[]tried{{"delivery.direct", "Unavailable", "", true}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				a, spans := w.tracedNode("a", setup{flags: tt.flags})
				b := w.node("b", setup{flags: on})
				w.setOwner(convo, "b")
				tt.prepare(w, b)
				_, err := a.try(request(convo, alice, tt.command))
				got := triedIn(spans)
				if len(got) < len(tt.want) || !slices.Equal(got[:len(tt.want)], tt.want) {
					t.Errorf("attempts %+v (error %v), want %+v", got, err, tt.want)
				}
				w.store.SetFaults(nil)
			})
		})
	}
}

// A node that is not told of a trace begins one; one that is told that nobody
// records it records nothing.
func TestServingWithoutATrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b, spans := w.tracedNode("b", setup{flags: on})
		q := peer.Question{Convo: convo, Caller: alice}
		if a := b.svc.Serve(t.Context(), q); a.Status != peer.Served {
			t.Fatalf("answer %+v", a)
		}
		got := spans.GetSpans()
		if len(got) != 2 || got[1].Name != "delivery.serve" || got[1].Parent.IsValid() {
			t.Errorf("spans %+v", got)
		}
		spans.Reset()
		q.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
		if a := b.svc.Serve(t.Context(), q); a.Status != peer.Served {
			t.Fatalf("answer %+v", a)
		}
		if a := b.svc.Serve(t.Context(), peer.Question{Offer: []string{convo}}); a.Status != peer.Served {
			t.Fatalf("answer %+v", a)
		}
		if n := len(spans.GetSpans()); n != 0 {
			t.Errorf("%d spans that nobody wants", n)
		}
	})
}

// What goes wrong for another node is logged under the request's id.
func TestFailureIsLoggedUnderTheRequestsID(t *testing.T) {
	logs := &logBuffer{}
	_, actors := scriptedService(errors.New("odd"))
	s := delivery.New(delivery.Config{
		Policy: conversation.DefaultPolicy(), Flags: on, Logger: slog.New(slog.NewTextHandler(logs, nil)), Session: func() string { return "s" },
	})
	s.Use(actors)
	a := s.Serve(t.Context(), peer.Question{Change: request(convo, alice, send(0)), MustServe: true, RequestID: "r-7"})
	if a.Status != peer.Refused || a.Refusal.Code != conversation.InternalServerError {
		t.Fatalf("answer %+v", a)
	}
	if logs.count(`msg="change failed"`) != 1 || logs.count("request_id=r-7") != 2 {
		t.Errorf("logged: %s", logs.b.String())
	}
}

// Answers from memory cost no memory, traced or not.
func TestEpochFromMemoryDoesNotAllocate(t *testing.T) {
	w := newWorld(t)
	plain := w.node("a", setup{flags: on, noNetwork: true, quiet: true})
	traced, spans := w.tracedNode("b", setup{flags: on, noNetwork: true, quiet: true})
	ctx, _ := root(t)
	for _, n := range []*node{plain, traced} {
		if err := n.reg.Release(ctx, convo); err != nil {
			t.Fatal(err)
		}
		if err := n.reg.Load(ctx, convo); err != nil {
			t.Fatal(err)
		}
		allocs := testing.AllocsPerRun(1000, func() {
			if epoch, err := n.svc.Epoch(ctx, convo, alice); err != nil || epoch != 0 {
				t.Errorf("epoch %d, %v", epoch, err)
			}
			if _, ok, err := n.svc.TryEpoch(convo, alice); err != nil || !ok {
				t.Errorf("not answered from memory: %v", err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s allocates %v times", n.name, allocs)
		}
		if err := n.reg.Release(ctx, convo); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("%d spans of what took no time", n)
	}
}
