// Package obstest is a collector of traces for tests: what a node sends by OTLP
// over HTTP, it takes apart and shows, or lets hang.
package obstest

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as a collector sees it.
type Span struct {
	Name                   string
	Kind                   string // server, client or internal
	TraceID, ID, ParentID  string
	Service, Node, Version string // of the process
	Failed                 bool
	Attributes             map[string]any
	Events                 []string // their names, in order
	EventAttributes        []map[string]any
}

// Collector takes spans. Its methods may be called from any goroutine.
type Collector struct {
	server *httptest.Server
	asked  chan struct{} // closed with the first request

	once  sync.Once
	mu    sync.Mutex
	spans []Span
}

// Start starts a collector, which ends with the test.
func Start(t testing.TB) *Collector {
	c := &Collector{asked: make(chan struct{})}
	c.start(t, func(w http.ResponseWriter, r *http.Request) { c.serve(t, w, r) })
	return c
}

// StartHanging starts one that takes requests and never answers any. Each hangs
// until its sender gives up, or until the test ends.
func StartHanging(t testing.TB) *Collector {
	c := &Collector{asked: make(chan struct{})}
	ended := make(chan struct{})
	c.start(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the sender is gone
		select {
		case <-r.Context().Done():
		case <-ended:
		}
	})
	t.Cleanup(func() { close(ended) }) // before the server is closed
	return c
}

// StartRefusing starts one that answers every request with status.
func StartRefusing(t testing.TB, status int) *Collector {
	c := &Collector{asked: make(chan struct{})}
	c.start(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	return c
}

func (c *Collector) start(t testing.TB, h http.HandlerFunc) {
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.once.Do(func() { close(c.asked) })
		h(w, r)
	}))
	t.Cleanup(c.server.Close)
}

// URL returns the collector's address, as OTEL_EXPORTER_OTLP_ENDPOINT has it.
func (c *Collector) URL() string { return c.server.URL }

// Asked is closed with the first request.
func (c *Collector) Asked() <-chan struct{} { return c.asked }

// Spans returns what has come so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

func (c *Collector) serve(t testing.TB, w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" {
		t.Errorf("the collector was asked for %s %s", r.Method, r.URL.Path)
		w.WriteHeader(http.StatusNotFound)
		return
	}
	req, err := read(r)
	if err != nil {
		t.Errorf("the collector cannot read what it was sent: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, process := range req.GetResourceSpans() {
		about := attributes(process.GetResource().GetAttributes())
		for _, scope := range process.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, spanOf(about, s))
			}
		}
	}
}

func read(r *http.Request) (*collector.ExportTraceServiceRequest, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = z
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	req := &collector.ExportTraceServiceRequest{}
	return req, proto.Unmarshal(b, req)
}

var kinds = map[traces.Span_SpanKind]string{
	traces.Span_SPAN_KIND_SERVER: "server", traces.Span_SPAN_KIND_CLIENT: "client", traces.Span_SPAN_KIND_INTERNAL: "internal",
}

func spanOf(about map[string]any, s *traces.Span) Span {
	text := func(key string) string { v, _ := about[key].(string); return v }
	out := Span{
		Name: s.GetName(), Kind: kinds[s.GetKind()], TraceID: hex.EncodeToString(s.GetTraceId()),
		ID: hex.EncodeToString(s.GetSpanId()), ParentID: hex.EncodeToString(s.GetParentSpanId()),
		Service: text("service.name"), Node: text("service.instance.id"), Version: text("service.version"),
		Failed:     s.GetStatus().GetCode() == traces.Status_STATUS_CODE_ERROR,
		Attributes: attributes(s.GetAttributes()),
	}
	for _, e := range s.GetEvents() {
		out.Events = append(out.Events, e.GetName())
		out.EventAttributes = append(out.EventAttributes, attributes(e.GetAttributes()))
	}
	return out
}

func attributes(list []*common.KeyValue) map[string]any {
	out := map[string]any{}
	for _, kv := range list {
		switch v := kv.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			out[kv.GetKey()] = v.StringValue
		case *common.AnyValue_IntValue:
			out[kv.GetKey()] = v.IntValue
		case *common.AnyValue_BoolValue:
			out[kv.GetKey()] = v.BoolValue
		case *common.AnyValue_DoubleValue:
			out[kv.GetKey()] = v.DoubleValue
		default:
			out[kv.GetKey()] = kv.GetValue().String()
		}
	}
	return out
}
