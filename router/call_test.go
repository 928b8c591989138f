package router

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"catbird/conversation"
	"catbird/persistence"
)

// newBareEnv returns an env with a fake delivery, and tokens that are the caller's name.
func newBareEnv(t testing.TB, change func(*Config)) *env {
	t.Helper()
	e := &env{t: t, logs: &logBuffer{}}
	c := Config{
		Delivery: fakeDelivery{
			epoch: func(context.Context, string, string) (int64, error) { return 7, nil },
			do: func(_ context.Context, r *conversation.Request) (conversation.Result, error) {
				return conversation.Result{ID: r.ID, Epoch: 7, Seq: 1}, nil
			},
		},
		Store: fakeStore{}, Verifier: fakeVerifier{}, Logger: slog.New(slog.NewJSONHandler(e.logs, nil)),
	}
	if change != nil {
		change(&c)
	}
	var err error
	if e.rt, err = New(c); err != nil {
		t.Fatal(err)
	}
	e.handler = e.rt.Handler()
	return e
}

const epochPath = "/xrpc/" + Prefix + "getEpoch?convoId=" + group

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("New accepted a configuration without its parts")
	}
	c := Config{Delivery: fakeDelivery{}, Store: fakeStore{}, Verifier: fakeVerifier{}, MaxInFlightBytes: 1 << 20}
	if _, err := New(c); err == nil {
		t.Error("New accepted a bound that nothing fits in")
	}
}

func TestBearer(t *testing.T) {
	t.Parallel()
	e := newBareEnv(t, nil)
	for name, tt := range map[string]struct {
		values []string
		want   conversation.Code
	}{
		"bearer":       {[]string{"Bearer " + alice}, ""},
		"lower case":   {[]string{"bearer  " + alice}, ""},
		"none":         {nil, conversation.AuthenticationRequired},
		"basic":        {[]string{"Basic YTpi"}, conversation.AuthenticationRequired},
		"only a token": {[]string{alice}, conversation.AuthenticationRequired},
		"no token":     {[]string{"Bearer "}, conversation.AuthenticationRequired},
		"two":          {[]string{"Bearer " + alice, "Bearer " + bob}, conversation.InvalidToken},
	} {
		r := request("GET", epochPath, "")
		r.Header["Authorization"] = tt.values
		if a := e.serve(r); a.name() != tt.want {
			t.Errorf("%s: got %d %s", name, a.status, a.raw)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	e := newBareEnv(t, nil)
	seen := map[string]bool{}
	for given, kept := range map[string]bool{
		"": false, "abc-123_./:+=": true, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false,
		"a b": false, "a\"b": false, "<script>": false, "ä": false, "${jndi:ldap://x}": false,
	} {
		r := withToken(alice, request("GET", epochPath, ""))
		r.Header["X-Request-Id"] = []string{given}
		got := e.serve(r).want(t, "").header.Get("X-Request-Id")
		if (got == given) != kept || got == "" || seen[got] {
			t.Errorf("%q is answered with %q", given, got)
		}
		seen[got] = true
	}
	for _, line := range e.logs.lines(t, "request") {
		if !seen[line["request_id"].(string)] {
			t.Errorf("logged as %v", line)
		}
	}
}

func TestRequestIsLogged(t *testing.T) {
	t.Parallel()
	e := newBareEnv(t, nil)
	e.serve(withToken(alice, request("GET", epochPath, ""))).want(t, "")
	line := e.logs.lines(t, "request")[0]
	for k, want := range map[string]any{
		"level": "INFO", "component": "router", "method": "GET", "path": "/xrpc/" + Prefix + "getEpoch",
		"status": 200.0, "op": "get_epoch", "did": alice,
	} {
		if line[k] != want {
			t.Errorf("%s is %v, want %v", k, line[k], want)
		}
	}
	if d, ok := line["request_duration"].(float64); !ok || d < 0 || d > 10 {
		t.Errorf("request_duration is %v", line["request_duration"])
	}
	if strings.Contains(e.logs.b.String(), "Bearer") {
		t.Error("the token is in the log")
	}
}

func TestHostileTextStaysOnItsLine(t *testing.T) {
	t.Parallel()
	e := newBareEnv(t, nil)
	r := withToken(alice, request("GET", "/x", ""))
	r.URL.Path = "/a\n{\"msg\":\"forged\"}" + strings.Repeat("x", 1000)
	e.serve(r).want(t, conversation.MethodNotFound)
	if len(e.logs.lines(t, "forged")) != 0 || len(e.logs.lines(t, "request")[0]["path"].(string)) > maxLoggedPath {
		t.Errorf("logged %s", e.logs.b.String())
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	e := newBareEnv(t, func(c *Config) { c.Delivery = fakeDelivery{} }) // nil functions
	a := e.serve(withToken(alice, request("GET", epochPath, ""))).want(t, conversation.InternalServerError)
	line := e.logs.lines(t, "request panicked")
	if len(line) != 1 || line[0]["request_id"] != a.header.Get("X-Request-Id") || !strings.Contains(line[0]["stack"].(string), "getEpoch") {
		t.Errorf("logged %v", line)
	}
	if strings.Contains(string(a.raw), "nil pointer") {
		t.Errorf("the client is told %s", a.raw)
	}
	if n := e.rt.inFlight.requests.Load(); n != 0 {
		t.Errorf("%d requests are held in work after the panic", n)
	}
	e = newBareEnv(t, func(c *Config) {
		c.Delivery = fakeDelivery{epoch: func(context.Context, string, string) (int64, error) { panic(http.ErrAbortHandler) }}
	})
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("the server's own panic is swallowed")
		}
	}()
	e.handler.ServeHTTP(httptest.NewRecorder(), withToken(alice, request("GET", epochPath, "")))
}

func TestDrainingAsksClientsToLeave(t *testing.T) {
	t.Parallel()
	draining := false
	e := newBareEnv(t, func(c *Config) { c.Draining = func() bool { return draining } })
	e.rt.Mount("GET", "/health", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }))
	for _, want := range []string{"", "close"} {
		for _, path := range []string{epochPath, "/health", "/nowhere"} {
			a := e.serve(withToken(alice, request("GET", path, "")))
			if got := a.header.Get("Connection"); got != want {
				t.Errorf("draining %v: %s answers Connection %q", draining, path, got)
			}
		}
		draining = true
	}
}

func TestRateLimitHeaders(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	e := newBareEnv(t, func(c *Config) {
		c.RateLimit, c.RateBurst = 0.5, 2
		c.Clock = func() time.Time { return now }
	})
	call := func(did string) answer { return e.serve(withToken(did, request("GET", epochPath, ""))) }
	for _, want := range [][3]string{{"2", "1", "2"}, {"2", "0", "4"}} {
		h := call(alice).want(t, "").header
		if got := [3]string{h.Get("RateLimit-Limit"), h.Get("RateLimit-Remaining"), h.Get("RateLimit-Reset")}; got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if a := call(alice).want(t, conversation.RateLimitExceeded); a.header.Get("Retry-After") != "2" {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	call(bob).want(t, "")
	if h := newBareEnv(t, nil).serve(withToken(alice, request("GET", epochPath, ""))).header; h.Get("RateLimit-Limit") != "" {
		t.Error("a rate is announced where there is none")
	}
}

// stopped is a delivery that holds every call until it is let go.
type stopped struct {
	came chan struct{}
	goOn chan struct{}
}

func (s stopped) wait(ctx context.Context) error {
	s.came <- struct{}{}
	select {
	case <-s.goOn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s stopped) Do(ctx context.Context, r *conversation.Request) (conversation.Result, error) {
	return conversation.Result{ID: r.ID}, s.wait(ctx)
}

func (s stopped) Epoch(ctx context.Context, _, _ string) (int64, error) { return 0, s.wait(ctx) }

func newStopped() stopped { return stopped{make(chan struct{}, 100), make(chan struct{})} }

func TestInFlightIsBounded(t *testing.T) {
	t.Parallel()
	s := newStopped()
	e := newBareEnv(t, func(c *Config) { c.Delivery, c.MaxInFlight = s, 2 })
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { e.serve(withToken(alice, request("GET", epochPath, ""))).want(t, "") })
		<-s.came
	}
	a := e.serve(withToken(alice, request("GET", epochPath, ""))).want(t, conversation.Overloaded)
	if a.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	close(s.goOn)
	wg.Wait()
	e.serve(withToken(alice, request("GET", epochPath, ""))).want(t, "")
}

func sendBody(size int) string {
	return `{"convoId":"` + group + `","epoch":0,"ciphertext":"` + strings.Repeat("A", size) + `"}`
}

func TestBytesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	s := newStopped()
	const most = 1 << 20
	e := newBareEnv(t, func(c *Config) { c.Delivery = s })
	e.rt.inFlight.maxBytes = most
	body := sendBody(most / 4 * 3 / 4)
	post := func(length bool) answer {
		r := withToken(alice, httptest.NewRequest("POST", "/xrpc/"+Prefix+"sendMessage", strings.NewReader(body)))
		if !length {
			r.ContentLength = -1
		}
		return e.serve(r)
	}
	var wg sync.WaitGroup
	for range most / len(body) {
		wg.Go(func() { post(true).want(t, "") })
		<-s.came
	}
	post(true).want(t, conversation.Overloaded)
	post(false).want(t, conversation.Overloaded)
	close(s.goOn)
	wg.Wait()
	post(false).want(t, "")
	if n := e.rt.inFlight.bytes.Load(); n != 0 {
		t.Errorf("%d bytes are held when nothing is in work", n)
	}
}

func TestAnswersInFlightAreBounded(t *testing.T) {
	t.Parallel()
	large := persistence.MessagesPage{Messages: []persistence.Message{{Ciphertext: make([]byte, 30<<20)}}}
	e := newBareEnv(t, func(c *Config) {
		c.MaxInFlightBytes = minInFlightSize // which one such answer takes more than
		c.Store = fakeStore{messages: func(persistence.MessagesQuery) (persistence.MessagesPage, error) { return large, nil }}
	})
	e.serve(withToken(alice, request("GET", "/xrpc/"+Prefix+"getMessages?convoId=a", ""))).want(t, conversation.Overloaded)
}

func TestBodies(t *testing.T) {
	t.Parallel()
	e := newBareEnv(t, nil)
	s := httptest.NewServer(e.handler)
	defer s.Close()
	post := func(name string, body io.Reader) answer {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/xrpc/"+Prefix+name, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(withToken(alice, r))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return readAnswer(t, resp)
	}
	chunked := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) } // no length is known
	full := sendBody((conversation.MaxMessage + 2) / 3 * 4)
	post("sendMessage", strings.NewReader(full)).want(t, conversation.MessageTooLarge) // two bytes too many
	full = sendBody(conversation.MaxMessage / 3 * 4)                                   // less than the most, unpadded
	post("sendMessage", strings.NewReader(full)).want(t, "")
	post("sendMessage", chunked(full)).want(t, "")
	post("sendMessage", chunked(sendBody(1000))).want(t, "")
	post("sendMessage", strings.NewReader(sendBody(1000))).want(t, "")

	tooLong := strings.Repeat(" ", bodyOther+1)
	post("confirmWelcome", strings.NewReader(tooLong)).want(t, conversation.MessageTooLarge)
	if a := post("confirmWelcome", chunked(tooLong)).want(t, conversation.MessageTooLarge); !strings.Contains(string(a.raw), fmt.Sprint(bodyOther)) {
		t.Errorf("the limit is not named: %s", a.raw)
	}
	post("confirmWelcome", strings.NewReader("")).want(t, conversation.InvalidRequest)
	post("confirmWelcome", strings.NewReader("[]")).want(t, conversation.InvalidRequest)
}

// TestSlowBody: a client that does not send what it promised is not waited for.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	e := newBareEnv(t, func(c *Config) { c.RequestTimeout = 50 * time.Millisecond })
	s := httptest.NewServer(e.handler)
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /xrpc/%scommit HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{", Prefix, alice)
	answer, err := io.ReadAll(conn) // the server closes the connection
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400") || !strings.Contains(string(answer), "took too long") {
		t.Errorf("got %q, %v", answer, err)
	}
}

// slowReader gives what it has after a while.
type slowReader struct {
	io.Reader
	wait time.Duration
}

func (r slowReader) Read(p []byte) (int, error) {
	<-time.After(r.wait)
	return r.Reader.Read(p)
}

// TestSlowBodyLeavesItsTime: the time for the work begins when the body is in.
func TestSlowBodyLeavesItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var left time.Duration
		e := newBareEnv(t, func(c *Config) {
			c.Delivery = fakeDelivery{do: func(ctx context.Context, r *conversation.Request) (conversation.Result, error) {
				deadline, _ := ctx.Deadline()
				left = time.Until(deadline)
				return conversation.Result{}, ctx.Err()
			}}
		})
		body := slowReader{strings.NewReader(sendBody(4)), 20 * time.Second}
		e.serve(withToken(alice, httptest.NewRequest("POST", "/xrpc/"+Prefix+"sendMessage", body))).want(t, "")
		if left != defaultTimeout {
			t.Errorf("%v are left for the work, want %v", left, defaultTimeout)
		}
	})
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	s := newStopped()
	e := newBareEnv(t, func(c *Config) { c.Delivery, c.RequestTimeout = s, 10*time.Millisecond })
	e.serve(withToken(alice, request("GET", epochPath, ""))).want(t, conversation.Unavailable)
	e.serve(withToken(alice, request("POST", "/xrpc/"+Prefix+"sendMessage", sendBody(4)))).want(t, conversation.OutcomeUnknown)
}

// TestDeadlineBeforeAnythingWasDone: whoever was not let in has changed nothing.
func TestDeadlineBeforeAnythingWasDone(t *testing.T) {
	t.Parallel()
	e := newBareEnv(t, func(c *Config) { c.Verifier = fakeVerifier{context.DeadlineExceeded} })
	e.serve(withToken(alice, request("POST", "/xrpc/"+Prefix+"sendMessage", sendBody(4)))).want(t, conversation.Unavailable)
}

func TestClientGone(t *testing.T) {
	t.Parallel()
	s := newStopped()
	e := newBareEnv(t, func(c *Config) { c.Delivery = s })
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.serve(withToken(alice, request("GET", epochPath, "")).WithContext(ctx))
	}()
	<-s.came
	leave()
	<-done
	if n := testutil.ToFloat64(e.rt.metrics.requests.WithLabelValues("get_epoch", "499")); n != 1 {
		t.Errorf("counted %v times", n)
	}
	if line := e.logs.lines(t, "request")[0]; line["status"] != 499.0 {
		t.Errorf("logged %v", line)
	}
	if len(e.logs.lines(t, "request failed")) != 0 {
		t.Error("a client that leaves is logged as a fault of ours")
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.convo()
	e.get(alice, "getEpoch", "convoId", group).want(t, "")
	e.get(bob, "getEpoch", "convoId", group).want(t, conversation.NotMember)
	for labels, n := range map[[2]string]float64{
		{"create_convo", "200"}: 1, {"get_epoch", "200"}: 1, {"get_epoch", "403"}: 1, {"send_message", "200"}: 0,
	} {
		if got := testutil.ToFloat64(e.rt.metrics.requests.WithLabelValues(labels[0], labels[1])); got != n {
			t.Errorf("%v: %v, want %v", labels, got, n)
		}
	}
	if n := testutil.CollectAndCount(e.reg, "http_errors_total"); n != len(statusOf) {
		t.Errorf("%d series of errors, want one each of %d", n, len(statusOf))
	}
	if n := testutil.CollectAndCount(e.reg, "http_request_duration_seconds"); n != len(endpoints())+1 {
		t.Errorf("%d series of durations, want one per operation", n)
	}
}

func TestReadingIsAnnounced(t *testing.T) {
	t.Parallel()
	var got []string
	e := newEnv(t, func(c *Config) {
		c.Reading = func(_ context.Context, op conversation.Op, convo string) { got = append(got, string(op)+" "+convo) }
	})
	e.convo()
	e.get(alice, "getMessages", "convoId", strings.ToUpper(group)).want(t, "")
	e.get(alice, "getMessages", "convoId", group, "limit", "0").want(t, conversation.InvalidRequest)
	if len(got) != 1 || got[0] != "get_messages "+group {
		t.Errorf("announced %v", got)
	}
}
