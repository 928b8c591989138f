package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is written to by the tool and read by the test at the same time.
type output struct {
	mu  sync.Mutex
	all bytes.Buffer
	// on is told of everything that is written.
	on func(text string)
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.on != nil {
		o.on(string(b))
	}
	return o.all.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

// tell runs the tool.
func tell(t *testing.T, s streams, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	out := &output{}
	errs, _ := s.err.(*output)
	if errs == nil {
		errs = &output{}
	}
	s.out, s.err = out, errs
	if s.columns == nil {
		s.columns = func() int { return 0 }
	}
	code = run(args, s, func(int) { t.Errorf("%v ended the process", args) })
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	t.Setenv("JWT_SECRET", "")
	t.Setenv("SERVICE_DID", "")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const node, secret = "http://127.0.0.1:1", "--jwt-secret=x"
	for _, test := range []struct {
		want string
		args []string
	}{
		{"<url>", []string{"-d1s", secret}},
		{"--duration", []string{secret, node}},
		{"--duration", []string{secret, "-d0s", node}},
		{"--duration", []string{secret, "-d100000h", node}},
		{"no tokens", []string{"-d1s", node}},
		{"base URL", []string{"-d1s", secret, "127.0.0.1:1"}},
		{"--mix", []string{"-d1s", secret, "--mix=sing=1", node}},
		{"--rate", []string{"-d1s", secret, "--rate=-1", node}},
		{"--clients", []string{"-d1s", secret, "--clients=1000000", node}},
		{"--conversations", []string{"-d1s", secret, "--conversations=-1", node}},
		{"--members", []string{"-d1s", secret, "--members=5000", node}},
		{"--payload", []string{"-d1s", secret, "--payload=poems", node}},
		{"--size", []string{"-d1s", secret, "--size=3", node}},
		{"--size", []string{"-d1s", secret, "--size=300", "--payload=mls", node}},
		{"--tokens", []string{"-d1s", "--tokens=" + dir + "/none", node}},
		{"--tokens", []string{"-d1s", "--tokens=" + file("tokens", "abc"), node}},
		{"--tokens: a token is good until", []string{"-d1s", "--tokens=" + file("old", "e30.eyJpc3MiOiJkaWQ6cGxjOmEiLCJleHAiOjF9.x"), node}},
		{"can't be used together", []string{"-d1s", secret, "--tokens=x", node}},
		{"--json", []string{"-d1s", secret, "--json=" + dir + "/no/such/folder", node}},
		{"--html", []string{"-d1s", secret, "--json=" + dir + "/j", "--html=" + dir + "/no/such/folder", node}},
		{"unknown flag", []string{"-d1s", secret, "--speed=1", node}},
	} {
		code, _, stderr := tell(t, streams{}, test.args...)
		if code != exitUsage || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, said %q, want %q", test.args, code, stderr, test.want)
		}
	}
}

func TestRun(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	t.Setenv("JWT_SECRET", apptest.Secret)
	dir := t.TempDir()
	code, out, stderr := tell(t, streams{},
		"--duration=300ms", "--conversations=3", "--members=3", "--json="+dir+"/r.json", "--html="+dir+"/r.html", n.URL)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{"sendMessage", "Everything acknowledged is there once"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
	b, err := os.ReadFile(dir + "/r.json")
	if err != nil {
		t.Fatal(err)
	}
	var r load.Report
	if err := json.Unmarshal(b, &r); err != nil || !r.OK() || r.Settings.Conversations != 3 {
		t.Errorf("%v: %s", err, b)
	}
	if page, err := os.ReadFile(dir + "/r.html"); err != nil || !bytes.Contains(page, []byte(r.Run)) {
		t.Errorf("the page is not of this run: %v", err)
	}
}

// A cluster that does not keep its word is what the exit code says, and what is
// wrong is named.
func TestWrong(t *testing.T) {
	url := bypassing(t, func(w http.ResponseWriter, serve func(http.ResponseWriter)) {
		serve(httptest.NewRecorder()) // it is done, and denied
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"error":"NotMember"}`))
	})
	code, out, _ := tell(t, streams{}, "-q", "--jwt-secret="+apptest.Secret, "-d1s", "--conversations=1", "--mix=sendMessage=1", url)
	if code != exitWrong || !strings.Contains(out, "refused-but-stored, conversation") {
		t.Errorf("exit code %d, said %s", code, out)
	}
}

// Failures are no lie. Whoever allows none hears of them by the exit code.
func TestMaxFailed(t *testing.T) {
	url := bypassing(t, func(w http.ResponseWriter, _ func(http.ResponseWriter)) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"error":"Unavailable"}`))
	})
	args := []string{"-q", "--jwt-secret=" + apptest.Secret, "-d200ms", "--attempts=1", "--clients=1", "--conversations=1", "--mix=sendMessage=1", url}
	if code, out, stderr := tell(t, streams{}, args...); code != exitOK {
		t.Errorf("exit code %d, said %s%s", code, out, stderr)
	}
	if code, _, stderr := tell(t, streams{}, append(args, "--max-failed=0")...); code != exitWrong || !strings.Contains(stderr, "more than --max-failed=0") {
		t.Errorf("none allowed: exit code %d, said %s", code, stderr)
	}
	if code, _, stderr := tell(t, streams{}, append(args, "--max-failed=1000000")...); code != exitOK {
		t.Errorf("many allowed: exit code %d, said %s", code, stderr)
	}
}

// bypassing returns the address of a proxy before a node that lets send answer
// sendMessage, and passes everything else on.
func bypassing(t *testing.T, send func(w http.ResponseWriter, serve func(http.ResponseWriter))) string {
	t.Helper()
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	target, err := url.Parse(n.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := client.NewTransport()
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "sendMessage") {
			send(w, func(w http.ResponseWriter) { proxy.ServeHTTP(w, r) })
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(transport.CloseIdleConnections)
	t.Cleanup(s.Close)
	return s.URL
}

func TestUnreachable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	code, out, stderr := tell(t, streams{}, "--jwt-secret=x", "-d1s", "--attempts=1", s.URL)
	if code != exitWrong || out != "" || !strings.Contains(stderr, "create the conversations") {
		t.Errorf("exit code %d, said %s%s", code, out, stderr)
	}
}

// The first interrupt ends the load, and there is a report. In a terminal the
// progress is one line that is gone in the end.
func TestInterrupt(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	var once sync.Once
	errs := &output{on: func(text string) {
		if strings.Contains(text, "loading") {
			once.Do(func() {
				if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
					t.Error(err)
				}
			})
		}
	}}
	code, out, stderr := tell(t, streams{err: errs, columns: func() int { return 60 }},
		"--jwt-secret="+apptest.Secret, "-d1h", "--conversations=1", "--rate=50", n.URL)
	if code != exitOK || !strings.Contains(out, "ended before its time") || !strings.Contains(out, "Everything acknowledged") {
		t.Errorf("exit code %d, said %s", code, out)
	}
	if !strings.Contains(stderr, "received interrupt") || !strings.Contains(stderr, "\x1b[K") {
		t.Errorf("the terminal got %q", stderr)
	}
	if end := strings.LastIndexAny(stderr, "\n\r"); stderr[end:] != "\n" && stderr[end:] != "\r\x1b[K" {
		t.Errorf("a line is left on the terminal: %q", stderr)
	}
	for _, part := range strings.Split(stderr, "\r") {
		if text, drawn := strings.CutSuffix(part, "\x1b[K"); drawn && len([]rune(text)) > 59 {
			t.Errorf("a line is too wide for the terminal: %q", text)
		}
	}
}

// The second interrupt ends the process at once.
func TestSecondInterrupt(t *testing.T) {
	gate := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-gate // nobody is answered
		w.WriteHeader(http.StatusForbidden)
	}))
	defer s.Close()
	interrupt := func() { _ = syscall.Kill(syscall.Getpid(), syscall.SIGINT) }
	var first, second, open sync.Once
	errs := &output{on: func(text string) {
		if strings.Contains(text, "preparing") {
			first.Do(interrupt)
		}
		if strings.Contains(text, "received interrupt") {
			second.Do(interrupt)
		}
	}}
	ended := 0
	code := run([]string{"--jwt-secret=x", "-d1h", "--conversations=1", "--attempts=1", s.URL},
		streams{out: &output{}, err: errs, columns: func() int { return 0 }},
		func(code int) { ended = code; open.Do(func() { close(gate) }) })
	if ended != exitWrong || code != exitWrong {
		t.Errorf("the process ended with %d, the run with %d", ended, code)
	}
}
