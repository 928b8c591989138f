package router

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"catbird/conversation"
	"catbird/internal/auth"
	"catbird/persistence/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "did:plc:alice2222222222222222222"
	bob   = "did:plc:bob222222222222222222222"
	carol = "did:plc:carol2222222222222222222"
	dave  = "did:plc:dave22222222222222222222"
	suite = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"
	group = "abcdef012345"
)

var secret = []byte("a secret of at least thirty-two bytes")

// env is the API on an embedded store, with a delivery that goes straight to it.
type env struct {
	t       testing.TB
	rt      *Router
	handler http.Handler
	store   *sqlite.Store
	logs    *logBuffer
	reg     *prometheus.Registry
}

// direct is a Delivery of one node without actors.
type direct struct {
	store  *sqlite.Store
	policy conversation.Policy
}

func (d direct) Do(ctx context.Context, r *conversation.Request) (conversation.Result, error) {
	return d.store.Direct(ctx, "", r, conversation.Env{Now: time.Now().UTC().Truncate(time.Microsecond), Policy: d.policy})
}

func (d direct) Epoch(ctx context.Context, convo, caller string) (int64, error) {
	return d.store.Epoch(ctx, convo, caller)
}

// newEnv returns an env; change, where not nil, changes its configuration.
func newEnv(t testing.TB, change func(*Config)) *env {
	t.Helper()
	store, err := sqlite.Open(t.Context(), sqlite.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := store.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, store: store, logs: &logBuffer{}, reg: prometheus.NewRegistry()}
	c := Config{
		Delivery: direct{store, conversation.DefaultPolicy()}, Store: store, Verifier: newVerifier(t),
		Registerer: e.reg, Logger: slog.New(slog.NewJSONHandler(e.logs, nil)),
	}
	if change != nil {
		change(&c)
	}
	if e.rt, err = New(c); err != nil {
		t.Fatal(err)
	}
	e.handler = e.rt.Handler()
	return e
}

func newVerifier(t testing.TB) *auth.Verifier {
	t.Helper()
	v, err := auth.New(auth.Config{JWTSecret: secret, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// logBuffer holds log lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines returns the log lines with that message.
func (l *logBuffer) lines(t testing.TB, msg string) (out []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if m["msg"] == msg {
			out = append(out, m)
		}
	}
	return out
}

func token(did string) string {
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": did, "exp": time.Now().Add(time.Minute).Unix()}).SignedString(secret)
	if err != nil {
		panic(err)
	}
	return s
}

// obj is a JSON object.
type obj map[string]any

// answer is what the API answered.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   obj
}

func (a answer) name() conversation.Code {
	s, _ := a.body["error"].(string)
	return conversation.Code(s)
}
func (a answer) num(field string) int64 { n, _ := a.body[field].(float64); return int64(n) }
func (a answer) list(field string) (out []obj) {
	l, _ := a.body[field].([]any)
	for _, v := range l {
		out = append(out, obj(v.(map[string]any)))
	}
	return out
}

func (e *env) serve(r *http.Request) answer {
	e.t.Helper()
	rec := httptest.NewRecorder()
	e.handler.ServeHTTP(rec, r)
	return readAnswer(e.t, rec.Result())
}

func readAnswer(t testing.TB, resp *http.Response) answer {
	t.Helper()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, raw: raw}
	if err := json.Unmarshal(raw, &a.body); err != nil {
		t.Fatalf("status %d, answer %.200q: %v", resp.StatusCode, raw, err)
	}
	return a
}

// as signs r in the name of did, "" for nobody.
func as(did string, r *http.Request) *http.Request {
	if did != "" {
		r.Header.Set("Authorization", "Bearer "+token(did))
	}
	return r
}

func request(method, target, body string) *http.Request {
	return httptest.NewRequest(method, target, strings.NewReader(body))
}

// post calls a procedure with body, an obj or a text.
func (e *env) post(did, name string, body any) answer {
	e.t.Helper()
	text, ok := body.(string)
	if !ok {
		raw, err := json.Marshal(body)
		if err != nil {
			e.t.Fatal(err)
		}
		text = string(raw)
	}
	return e.serve(as(did, request("POST", "/xrpc/"+Prefix+name, text)))
}

// get calls a query with parameters: name, value, name, value…
func (e *env) get(did, name string, parameters ...string) answer {
	e.t.Helper()
	q := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		q.Add(parameters[i], parameters[i+1])
	}
	return e.serve(as(did, request("GET", "/xrpc/"+Prefix+name+"?"+q.Encode(), "")))
}

// want fails unless the answer is an error of that name, or with "" none, and
// returns it.
func (a answer) want(t testing.TB, name conversation.Code) answer {
	t.Helper()
	status := http.StatusOK
	if name != "" {
		status = statusOf[name]
	}
	if a.status != status || a.name() != name {
		t.Fatalf("got %d %.300s, want %d %s", a.status, a.raw, status, name)
	}
	return a
}

// convo makes the conversation of group by alice with members.
func (e *env) convo(members ...string) {
	e.t.Helper()
	e.post(alice, "createConvo", obj{"groupId": group, "cipherSuite": suite, "initialMembers": members}).want(e.t, "")
}

func (e *env) send(did string, epoch int64, text string) answer {
	e.t.Helper()
	return e.post(did, "sendMessage", obj{"convoId": group, "epoch": epoch, "ciphertext": blob(text)})
}

func blob(s string) obj { return obj{"$bytes": b64(s)} }

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func unb64(t testing.TB, s string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return string(b)
}

// unblob returns the text in a field of type bytes, which must be padded.
func unblob(t testing.TB, v any) string {
	t.Helper()
	s, ok := v.(map[string]any)["$bytes"].(string)
	if !ok {
		t.Fatalf("%v is not of type bytes", v)
	}
	return unb64(t, s)
}

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// recording is a group recorded from a real MLS client.
type recording struct {
	CipherSuite string
	GroupID     string
	People      []struct {
		DID         string
		KeyPackages []struct{ Data, SHA256 string }
	}
	Steps []struct {
		Op, By                  string
		Epoch                   int64
		EpochBefore, EpochAfter int64
		TargetDID               string   `json:"targetDid"`
		DIDList                 []string `json:"didList"`
		Commit, WelcomeMessage  string
		Ciphertext              string
		KeyPackageHashes        []struct {
			DID  string `json:"did"`
			Hash string `json:"hash"`
		}
	}
}

func loadRecording(t testing.TB, name string) (r recording) {
	t.Helper()
	raw, err := os.ReadFile("../testdata/transcripts/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r
}
