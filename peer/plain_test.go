package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"catbird/conversation"
)

func serveHTTP(t testing.TB, h http.Handler) (address string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// startLaterNode starts a node that speaks no version of the stream of ours.
func startLaterNode(t testing.TB, h Handler, edit func(*ServerConfig)) *testNode {
	t.Helper()
	n := startNode(t, h, edit)
	n.server.version = streamVersion + 1
	return n
}

func TestPeerOfAnotherVersionIsAskedPlainly(t *testing.T) {
	big := bytes.Repeat([]byte("catbird "), conversation.MaxMessage/8)
	var got atomic.Pointer[Question]
	n := startLaterNode(t, &fakeHandler{
		serve: func(_ context.Context, q Question) Answer {
			got.Store(&q)
			if q.Subject() == "elsewhere" {
				return Answer{Status: NotMine, Holder: Holder{Node: "c", Address: "10.0.0.3:8081", Session: "s", Fence: 9}}
			}
			return served(q)
		},
	}, nil)
	c := newTestClient(t, nil)
	elsewhere := sendOf("1", 1)
	elsewhere.Change.Convo = "elsewhere"
	large := sendOf("2", 1)
	large.Change.Command = conversation.AddMembers{DIDs: []string{"did:plc:bob"}, Commit: big, Welcome: big}
	for name, tt := range map[string]struct {
		q    Question
		want Answer
	}{
		"epoch query": {Question{Convo: "1", Caller: "did:plc:alice", MustServe: true}, Answer{Status: Served, Epoch: 7}},
		"small":       {sendOf("1", 1), served(sendOf("1", 1))},
		"large":       {large, served(large)},
		"not mine":    {elsewhere, Answer{Status: NotMine, Holder: Holder{Node: "c", Address: "10.0.0.3:8081", Session: "s", Fence: 9}}},
	} {
		a, err := c.Ask(testContext(t), n.address, tt.q)
		if err != nil || !reflect.DeepEqual(a, tt.want) {
			t.Errorf("%s: got %+v, %v; want %+v", name, a, err, tt.want)
		}
		if q := got.Load(); q == nil || !reflect.DeepEqual(*q, tt.q) {
			t.Errorf("%s: arrived otherwise", name)
		}
	}
	n.server.mu.Lock()
	defer n.server.mu.Unlock()
	if len(n.server.sessions.m) != 0 || len(n.server.streams) != 0 {
		t.Errorf("%d sessions and %d streams are left", len(n.server.sessions.m), len(n.server.streams))
	}
}

func TestManyPlainQuestionsAtOnce(t *testing.T) {
	n := startLaterNode(t, &fakeHandler{}, nil)
	c := newTestClient(t, func(cfg *ClientConfig) { cfg.DialTimeout = time.Minute }) // 200 handshakes at once, on a busy machine
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			a, err := c.Ask(testContext(t), n.address, sendOf(strconv.Itoa(i), 100))
			if err != nil || a.Result.ID != strconv.Itoa(i) {
				t.Errorf("question %d: got %+v, %v", i, a, err)
			}
		})
	}
	wg.Wait()
}

func TestPlainErrors(t *testing.T) {
	begun := make(chan struct{}, 1)
	n := startLaterNode(t, &fakeHandler{serve: func(ctx context.Context, q Question) Answer {
		if q.Change.ID == "quick" {
			return served(q)
		}
		begun <- struct{}{}
		<-ctx.Done()
		return served(q)
	}}, func(cfg *ServerConfig) { cfg.MaxBytes = 1 << 20 })
	c := newTestClient(t, nil)

	ctx, cancel := context.WithCancel(testContext(t))
	result := make(chan error, 1)
	go func() {
		_, err := c.Ask(ctx, n.address, sendOf("1", 1))
		result <- err
	}()
	<-begun
	cancel()
	if err := <-result; !errors.Is(err, ErrLost) || !errors.Is(err, context.Canceled) {
		t.Errorf("given up while it was served: %v", err)
	}
	if _, err := c.Ask(testContext(t), n.address, sendOf("2", 2<<20)); !errors.Is(err, ErrBusy) {
		t.Errorf("more bytes than there is room for: %v", err)
	}
	go func() {
		_, err := c.Ask(testContext(t), n.address, sendOf("3", 1))
		result <- err
	}()
	<-begun
	_ = n.http.Close() // cuts the connection; the error is the listener's, if any
	n.cut()
	if err := <-result; !errors.Is(err, ErrLost) {
		t.Errorf("node killed while it served: %v", err)
	}
	if _, err := c.Ask(testContext(t), n.address, sendOf("4", 1)); !errors.Is(err, ErrUnreachable) {
		t.Errorf("node gone: %v", err)
	}
}

func TestPlainQuestionToAStoppingNode(t *testing.T) {
	n := startLaterNode(t, &fakeHandler{}, nil)
	c := newTestClient(t, nil)
	if _, err := c.Ask(testContext(t), n.address, sendOf("1", 1)); err != nil {
		t.Fatal(err)
	}
	if err := n.server.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ask(testContext(t), n.address, sendOf("2", 1)); !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

// A recorded plain request is of no use to who sends it again, to the same node
// or to another.
func TestReplayedPlainRequest(t *testing.T) {
	var served1 atomic.Int64
	h := &fakeHandler{serve: func(_ context.Context, q Question) Answer {
		served1.Add(1)
		return served(q)
	}}
	n, other := startLaterNode(t, h, nil), startLaterNode(t, h, nil)
	type request struct {
		path, auth string
		body       []byte
	}
	var mu sync.Mutex
	var recorded []request
	address := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		recorded = append(recorded, request{r.URL.Path, r.Header.Get("Authorization"), body})
		mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		n.server.ServeHTTP(w, r)
	}))
	c := newTestClient(t, nil)
	if _, err := c.Ask(testContext(t), address, sendOf("1", 1)); err != nil {
		t.Fatal(err)
	}
	for name, node := range map[string]*testNode{"the same": n, "another": other} {
		for _, r := range recorded[1:] { // the first was the refused upgrade
			w := httptest.NewRecorder()
			req := httptest.NewRequestWithContext(testContext(t), http.MethodPost, r.path, bytes.NewReader(r.body))
			req.Header.Set("Authorization", r.auth)
			node.server.ServeHTTP(w, req)
			if r.path == askPath && w.Code == http.StatusOK {
				t.Errorf("%s node: the question passed", name)
			}
			if r.path == helloPath && node == n && w.Code != http.StatusUnauthorized {
				t.Errorf("the same node: the hello passed with status %d", w.Code)
			}
		}
	}
	if len(recorded) != 3 || served1.Load() != 1 {
		t.Errorf("%d requests, %d served", len(recorded), served1.Load())
	}
}

func TestPlainBodiesThatAreNone(t *testing.T) {
	n := startLaterNode(t, &fakeHandler{}, nil)
	c := newTestClient(t, nil)
	r := newRemote(c, n.address)
	post := func(auth string, body []byte) int {
		resp, err := c.post(testContext(t), r, askPath, auth, body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for name, fill := range map[string]func(k keys) []byte{
		"empty":   func(keys) []byte { return nil },
		"garbage": func(keys) []byte { return make([]byte, 100) },
		"a malformed question": func(k keys) []byte {
			var o outbox
			put(&o, kindChange, 1, []byte{0xff})
			var b bytes.Buffer
			if err := newRecordWriter(&b, k.toServer).flush(&o); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		},
	} {
		o, k, err := c.helloPlain(testContext(t), r)
		if err != nil {
			t.Fatal(err)
		}
		auth := sessionAuthorization(o)
		body := fill(k)
		if status := post(auth, body); status != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, status)
		}
		if status := post(auth, body); status != http.StatusUnauthorized {
			t.Errorf("%s: a session that was used: status %d", name, status)
		}
	}
}

func TestPlainSessionsAreBoundedAndEnd(t *testing.T) {
	var p plainSessions
	now := time.Unix(1000, 0)
	for i := range maxSessions {
		if !p.add(strconv.Itoa(i), keys{}, now) {
			t.Fatalf("session %d refused", i)
		}
	}
	if p.add("one more", keys{}, now) {
		t.Error("more than the bound")
	}
	if _, ok := p.take("0", now); !ok {
		t.Error("a session that is there was not found")
	}
	if _, ok := p.take("0", now); ok {
		t.Error("a session was found twice")
	}
	later := now.Add(sessionLife)
	if _, ok := p.take("1", later); ok {
		t.Error("a session outlived its time")
	}
	for i := range maxSessions { // those of before make room
		if !p.add("later "+strconv.Itoa(i), keys{}, later.Add(1)) {
			t.Fatalf("session %d refused", i)
		}
	}
}
