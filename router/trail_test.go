package router

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"catbird/conversation"
)

// traced makes an env's router trace into what is returned.
func traced(t testing.TB, change func(*Config)) (*env, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	t.Cleanup(func() {
		if err := provider.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return newBareEnv(t, func(c *Config) {
		c.TracerProvider = provider
		if change != nil {
			change(c)
		}
	}), spans
}

// one returns the only span there is.
func one(t testing.TB, spans *tracetest.InMemoryExporter) tracetest.SpanStub {
	t.Helper()
	got := spans.GetSpans()
	if len(got) != 1 {
		t.Fatalf("%d spans, want one", len(got))
	}
	return got[0]
}

func attributesOf(s tracetest.SpanStub) map[string]string {
	out := map[string]string{}
	for _, kv := range s.Attributes {
		out[string(kv.Key)] = kv.Value.String()
	}
	return out
}

// The id that the client is told is the one that the parts below are told.
func TestRequestIDTravels(t *testing.T) {
	t.Parallel()
	if id := RequestID(t.Context()); id != "" {
		t.Errorf("a context of no request has the id %q", id)
	}
	for name, make := range map[string]func(t testing.TB, change func(*Config)) *env{
		"untraced": newBareEnv,
		"traced":   func(t testing.TB, change func(*Config)) *env { e, _ := traced(t, change); return e },
	} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			e := make(t, func(c *Config) {
				c.Delivery = fakeDelivery{
					epoch: func(ctx context.Context, _, _ string) (int64, error) {
						seen = append(seen, RequestID(ctx))
						return 7, nil
					},
					do: func(ctx context.Context, r *conversation.Request) (conversation.Result, error) {
						seen = append(seen, RequestID(ctx))
						return conversation.Result{ID: r.ID}, nil
					},
				}
			})
			var told []string
			for _, r := range []*http.Request{
				request("GET", epochPath, ""), request("POST", "/xrpc/"+Prefix+"sendMessage", sendBody(10)), request("GET", epochPath, ""),
			} {
				if len(told) == 2 {
					r.Header.Set("X-Request-Id", "mine")
				}
				told = append(told, e.serve(withToken(alice, r)).want(t, "").header.Get("X-Request-Id"))
			}
			if !slices.Equal(seen, told) || told[2] != "mine" {
				t.Errorf("clients were told %q, the parts %q", told, seen)
			}
		})
	}
}

const parentHeader = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestSpanOfARequest(t *testing.T) {
	t.Parallel()
	const secretText = "eyJhbGciOi" // how tokens begin
	e, spans := traced(t, func(c *Config) { c.Verifier = newVerifier(t) })
	r := as(alice, request("POST", "/xrpc/"+Prefix+"sendMessage", sendBody(64)))
	r.Header.Set("Traceparent", parentHeader)
	r.Header.Set("X-Request-Id", "r-1")
	e.serve(r).want(t, "")
	s := one(t, spans)
	if s.Name != Prefix+"sendMessage" || s.SpanKind != trace.SpanKindServer || s.Status.Code != codes.Unset {
		t.Errorf("span %q of kind %v with status %v", s.Name, s.SpanKind, s.Status)
	}
	if s.Parent.TraceID().String()+s.Parent.SpanID().String() != "0af7651916cd43dd8448eb211c80319cb7ad6b7169203331" || !s.Parent.IsRemote() {
		t.Errorf("its parent is %v, not the client's span", s.Parent)
	}
	got := attributesOf(s)
	want := map[string]string{
		"http.request.method": "POST", "http.response.status_code": "200", "catbird.op": "send_message",
		"catbird.convo": group, "catbird.request_id": "r-1",
	}
	if !maps.Equal(got, want) {
		t.Errorf("attributes %v, want %v", got, want) // nothing more: no caller, no token, no ciphertext
	}
	if line := e.logs.lines(t, "request")[0]; line["trace_id"] != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("the trace is not in the log: %v", line)
	}
	for _, v := range got {
		if strings.Contains(v, secretText) {
			t.Errorf("a token is in the span: %s", v)
		}
	}
}

func TestSpanOfAnError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		path   string
		err    error
		span   string
		status codes.Code
		want   map[string]string
	}{
		{
			"refused", epochPath, conversation.Refuse(conversation.NotMember, "no"), Prefix + "getEpoch", codes.Unset,
			map[string]string{"http.response.status_code": "403", "error.type": "NotMember", "catbird.convo": group, "catbird.op": "get_epoch"},
		},
		{
			"overloaded", epochPath, conversation.Refuse(conversation.Overloaded, "no"), Prefix + "getEpoch", codes.Error,
			map[string]string{"http.response.status_code": "503", "error.type": "Overloaded", "catbird.convo": group, "catbird.op": "get_epoch"},
		},
		{
			"malformed id", "/xrpc/" + Prefix + "getEpoch?convoId=%20", nil, Prefix + "getEpoch", codes.Unset,
			map[string]string{"http.response.status_code": "400", "error.type": "InvalidRequest", "catbird.op": "get_epoch"},
		},
		{
			"unknown method", "/xrpc/x.y", nil, "unknown method", codes.Unset,
			map[string]string{"http.response.status_code": "404", "error.type": "MethodNotFound", "catbird.op": "unknown"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, spans := traced(t, func(c *Config) { c.Delivery = refusing(tt.err) })
			a := e.serve(withToken(alice, request("GET", tt.path, "")))
			s := one(t, spans)
			got := attributesOf(s)
			tt.want["http.request.method"], tt.want["catbird.request_id"] = "GET", a.header.Get("X-Request-Id")
			if s.Name != tt.span || s.Status.Code != tt.status || !maps.Equal(got, tt.want) {
				t.Errorf("span %q with status %v: %v, want %q, %v: %v", s.Name, s.Status.Code, got, tt.span, tt.status, tt.want)
			}
			if s.Parent.IsValid() {
				t.Errorf("its parent is %v, want none", s.Parent)
			}
		})
	}
}

func TestSpanOfAPanic(t *testing.T) {
	t.Parallel()
	e, spans := traced(t, func(c *Config) {
		c.Delivery = fakeDelivery{epoch: func(context.Context, string, string) (int64, error) { panic("bug") }}
	})
	e.serve(withToken(alice, request("GET", epochPath, "")))
	if s := one(t, spans); s.Status.Code != codes.Error || attributesOf(s)["http.response.status_code"] != "500" {
		t.Errorf("status %v, attributes %v", s.Status, attributesOf(s))
	}
}

// What the client does not trace is not traced here, and the parts below hear
// which trace it is all the same.
func TestSpanFollowsTheClientsDecision(t *testing.T) {
	t.Parallel()
	var below trace.SpanContext
	e, spans := traced(t, func(c *Config) {
		c.Delivery = fakeDelivery{epoch: func(ctx context.Context, _, _ string) (int64, error) {
			below = trace.SpanContextFromContext(ctx)
			return 7, nil
		}}
	})
	r := withToken(alice, request("GET", epochPath, ""))
	r.Header.Set("Traceparent", strings.TrimSuffix(parentHeader, "1")+"0")
	e.serve(r).want(t, "")
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("%d spans were recorded", n)
	}
	if below.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || below.IsSampled() {
		t.Errorf("below it is %v, sampled: %v", below.TraceID(), below.IsSampled())
	}
	if _, there := e.logs.lines(t, "request")[0]["trace_id"]; there {
		t.Error("a trace is logged that nobody records")
	}
}

// Requests that nobody traces pay nothing for it, and nothing for carrying their
// id to the parts below.
func TestUntracedRequestsAllocateNoMore(t *testing.T) {
	e := newBareEnv(t, func(c *Config) {
		c.Logger = slog.New(slog.DiscardHandler)
		c.Delivery = fakeDelivery{epoch: func(ctx context.Context, _, _ string) (int64, error) {
			if RequestID(ctx) == "" {
				t.Error("the request has no id")
			}
			return 7, nil
		}}
	})
	w := sink{http.Header{}}
	r := withToken(alice, httptest.NewRequest("GET", epochPath, nil))
	r.Header.Set("Traceparent", parentHeader)
	if got := testing.AllocsPerRun(1000, func() { e.handler.ServeHTTP(w, r) }); got > getEpochAllocs {
		t.Errorf("getEpoch allocates %v times, want %d", got, getEpochAllocs)
	}
}
