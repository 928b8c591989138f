package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/obs/obstest"
	"catbird/internal/testenv"
)

// tracesTo sends a node's traces to c.
func tracesTo(c *obstest.Collector) apptest.Change {
	return func(cfg *config.Config) { cfg.Traces.Endpoint = c.URL() }
}

// headers adds headers to every request.
type headers struct {
	http.RoundTripper
	add map[string]string
}

func (h headers) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for k, v := range h.add {
		r.Header.Set(k, v)
	}
	return h.RoundTripper.RoundTrip(r)
}

// tracing returns a client whose requests belong to a trace of its own and bear
// the trace's id as theirs.
func tracing(t *testing.T, n *apptest.Node, trace string) *client.Client {
	transport := client.NewTransport()
	t.Cleanup(transport.CloseIdleConnections)
	return apptest.Client(t, func(c *client.Config) {
		c.HTTP = &http.Client{Transport: headers{transport, map[string]string{
			"Traceparent": "00-" + trace + "-b7ad6b7169203331-01", "X-Request-Id": trace,
		}}}
	}, n.URL)
}

// traceOf returns the spans of a trace by their names, which must be different.
func traceOf(t *testing.T, c *obstest.Collector, trace string) map[string]obstest.Span {
	t.Helper()
	out := map[string]obstest.Span{}
	for _, s := range c.Spans() {
		if s.TraceID != trace {
			continue
		}
		if _, twice := out[s.Name]; twice {
			t.Errorf("there are two spans %s", s.Name)
		}
		out[s.Name] = s
	}
	return out
}

// ownedBy returns a conversation that the ring gives to a node.
func ownedBy(t *testing.T, n *apptest.Node, c *client.Client, name string) *apptest.Group {
	t.Helper()
	for range 100 {
		if g := apptest.NewGroup(t, c, 2); owner(t, n, g.ID).ShouldOwn == name {
			return g
		}
	}
	t.Fatalf("of 100 conversations none belongs to %s", name)
	return nil
}

// A request to one node that another one serves is one trace, from the client's
// span down to the actor's work, and bears one id.
func TestTracesOfTwoNodes(t *testing.T) {
	collector := obstest.Start(t)
	where, traces := apptest.Postgres(testenv.Postgres(t)), tracesTo(collector)
	nodes := apptest.StartCluster(t, testenv.Redis(t), func(c *config.Config) { where(c); traces(c) }, "a", "b")
	a := nodes[0]
	g := ownedBy(t, a, apptest.Client(t, nil, a.URL), "b")

	const sending, asking, here = "0af7651916cd43dd8448eb211c803101", "0af7651916cd43dd8448eb211c803102", "0af7651916cd43dd8448eb211c803103"
	message := client.SendMessage{ConvoID: g.ID, Ciphertext: []byte("nobody's business")}
	if _, err := tracing(t, a, sending).As(g.Members[0]).SendMessage(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	if _, err := tracing(t, a, asking).As(g.Members[0]).GetEpoch(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := tracing(t, nodes[1], here).As(g.Members[0]).GetEpoch(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := n.Stop(t.Context()); err != nil { // what waits is delivered
			t.Errorf("stopping: %v", err)
		}
	}

	type want struct{ name, kind, node, parent string }
	for trace, wants := range map[string][]want{
		sending: {
			{client.Prefix + "sendMessage", "server", "a", ""},
			{"delivery.ask", "client", "a", client.Prefix + "sendMessage"},
			{"delivery.serve", "server", "b", "delivery.ask"},
			{"delivery.actor", "internal", "b", "delivery.serve"},
		},
		asking: {
			{client.Prefix + "getEpoch", "server", "a", ""},
			{"delivery.ask", "client", "a", client.Prefix + "getEpoch"},
			{"delivery.serve", "server", "b", "delivery.ask"},
			{"delivery.actor", "internal", "b", "delivery.serve"},
		},
		here: {{client.Prefix + "getEpoch", "server", "b", ""}}, // from memory, which takes no time
	} {
		spans := traceOf(t, collector, trace)
		if len(spans) != len(wants) {
			t.Errorf("trace %s has %d spans, want %d: %+v", trace, len(spans), len(wants), spans)
		}
		for _, w := range wants {
			s := spans[w.name]
			parent := "b7ad6b7169203331"
			if w.parent != "" {
				parent = spans[w.parent].ID
			}
			if s.Kind != w.kind || s.Node != w.node || s.ParentID != parent || s.Service != "catbird" || s.Failed {
				t.Errorf("trace %s, %s: %+v, want %+v below %s", trace, w.name, s, w, parent)
			}
			if s.Attributes["catbird.convo"] != g.ID {
				t.Errorf("%s is about %v", w.name, s.Attributes["catbird.convo"])
			}
			if id := s.Attributes["catbird.request_id"]; s.Kind == "server" && id != trace {
				t.Errorf("%s on %s bears the id %v, want %s", w.name, w.node, id, trace)
			}
		}
	}
	if events := traceOf(t, collector, sending)["delivery.actor"].Events; len(events) != 3 {
		t.Errorf("the actor's work has the events %q", events)
	}
	all := fmt.Sprintf("%+v", collector.Spans())
	for _, secret := range []string{"eyJ", "Bearer", "nobody's business", apptest.Secret, apptest.ClusterSecret, g.Members[0]} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is in a span", secret)
		}
	}
}

// A collector that takes everything and never answers costs nobody anything: no
// request, and no more than its share of the time to stop.
func TestCollectorThatHangs(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1") // ms
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
	collector := obstest.StartHanging(t)
	const drain = 2 * time.Second
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true), tracesTo(collector), func(c *config.Config) {
		c.Drain.Timeout = drain
	})
	c := apptest.Client(t, nil, n.URL)
	g := apptest.NewGroup(t, c, 2)
	<-collector.Asked()
	books := apptest.NewLedger()
	for range 100 { // many times what the queue holds
		began := time.Now()
		if _, err := books.Send(t.Context(), c, g, g.Members[0], 0); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > soon {
			t.Fatalf("a request took %v", took)
		}
	}
	books.Verify(t, c, g)
	if _, _, body := apptest.Get(t, n.URL+"/metrics"); !strings.Contains(body, "\ntrace_spans_total 20") { // two of each send, and some
		t.Errorf("spans that are dropped are not counted")
	}
	began := time.Now()
	if err := n.Stop(t.Context()); err != nil {
		t.Errorf("stopping: %v", err)
	}
	if took := time.Since(began); took > drain {
		t.Errorf("stopping took %v", took)
	}
}

// Without a collector there is nothing of traces, whatever clients send.
func TestNoCollectorNoTraces(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	c := tracing(t, n, "0af7651916cd43dd8448eb211c803104")
	g := apptest.NewGroup(t, c, 2)
	if _, err := c.As(g.Members[0]).GetEpoch(t.Context(), g.ID); err != nil {
		t.Error(err)
	}
	if _, _, body := apptest.Get(t, n.URL+"/metrics"); strings.Contains(body, "\ntrace_") {
		t.Error("there are metrics of traces")
	}
}
