package peer

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"catbird/conversation"
)

var testSecret = []byte("a secret that the nodes of one cluster share")

// fakeHandler is a Handler of functions; those that are nil serve everything.
type fakeHandler struct {
	serve    func(ctx context.Context, q Question) Answer
	tryEpoch func(convo, caller string) (int64, bool, error)
}

var _ Handler = (*fakeHandler)(nil)

func (h *fakeHandler) Serve(ctx context.Context, q Question) Answer {
	if h.serve != nil {
		return h.serve(ctx, q)
	}
	return served(q)
}

func (h *fakeHandler) TryEpoch(convo, caller string) (int64, bool, error) {
	if h.tryEpoch != nil {
		return h.tryEpoch(convo, caller)
	}
	return 7, true, nil
}

// served answers a change as if it had been done.
func served(q Question) Answer {
	if q.Change == nil {
		return Answer{Status: Served, Epoch: 7}
	}
	return Answer{Status: Served, Result: conversation.Result{
		ID: q.Change.ID, Epoch: 7, Seq: 70, At: time.UnixMicro(1700000000000001).UTC(),
	}}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// testNode is a Server on an internal port of its own.
type testNode struct {
	server  *Server
	http    *http.Server
	address string
}

// startNode starts a node named b. What edit changes of the configuration is
// up to the test.
func startNode(t testing.TB, h Handler, edit func(*ServerConfig)) *testNode {
	t.Helper()
	cfg := ServerConfig{Handler: h, Secret: testSecret, Self: "b", Version: "v-test", Logger: discard()}
	if edit != nil {
		edit(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(Prefix, s)
	n := &testNode{server: s, http: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, address: l.Addr().String()}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = n.http.Serve(l) // always http.ErrServerClosed
	}()
	t.Cleanup(func() {
		n.cut()
		<-served
	})
	return n
}

// cut ends the node at once, whatever is under way.
func (n *testNode) cut() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = n.server.Stop(ctx)
	_ = n.http.Close()
}

// newTestClient returns a client of node a, closed with the test.
func newTestClient(t testing.TB, edit func(*ClientConfig)) *Client {
	t.Helper()
	cfg := ClientConfig{Secret: testSecret, Self: "a", Version: "v-test", Logger: discard()}
	if edit != nil {
		edit(&cfg)
	}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("closing client: %v", err)
		}
	})
	return c
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// sendOf is a sendMessage of size bytes.
func sendOf(id string, size int) Question {
	return Question{
		RequestID: "req-" + id, Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Change: &conversation.Request{
			ID: id, Convo: "00aa", Caller: "did:plc:alice", Digest: []byte{1, 2, 3},
			Command: conversation.Send{Ciphertext: make([]byte, size), Epoch: 7},
		},
	}
}

func epochOf(convo string) Question { return Question{Convo: convo, Caller: "did:plc:alice"} }
