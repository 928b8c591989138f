package smoke_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"go.uber.org/goleak"
	"gopkg.in/yaml.v3"

	"catbird/internal/app/apptest"
	"catbird/internal/auth"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/smoke"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a smoke test as people who exist nowhere.
func run(t *testing.T, urls ...string) smoke.Report {
	t.Helper()
	return runAs(t, smoke.Invented([]byte(apptest.Secret), ""), urls...)
}

func runAs(t *testing.T, people *smoke.People, urls ...string) smoke.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	r, err := smoke.Run(ctx, smoke.Config{BaseURLs: urls, People: people, StepTimeout: apptest.Patience})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// failed returns the steps of that result.
func failed(r smoke.Report, result smoke.Result) (names []string) {
	for _, s := range r.Steps {
		if s.Result == result {
			names = append(names, s.Name+": "+s.Error)
		}
	}
	return names
}

func TestDeploymentsThatWork(t *testing.T) {
	apptest.Databases(t, func(t *testing.T, where apptest.Change) {
		for name, actors := range map[string]bool{"actors": true, "direct": false} {
			t.Run(name, func(t *testing.T) {
				n := apptest.Start(t, where, apptest.Actors(actors))
				for range 2 { // what one leaves behind does not disturb the next
					if r := run(t, n.URL); !r.Passed {
						t.Errorf("failed: %q", failed(r, smoke.Failed))
					}
				}
			})
		}
	})
}

// TestEveryOperationIsCalled holds a run to the description of the API.
func TestEveryOperationIsCalled(t *testing.T) {
	raw, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var described struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	if err := yaml.Unmarshal(raw, &described); err != nil || len(described.Paths) < 10 {
		t.Fatalf("%d paths: %v", len(described.Paths), err)
	}
	called := &calls{}
	run(t, between(t, apptest.Start(t, apptest.SQLite(t.TempDir())).URL, called.note, nil))
	for path, verbs := range described.Paths {
		for verb := range verbs {
			if want := strings.ToUpper(verb) + " " + path; !slices.Contains(called.all(), want) {
				t.Errorf("a run makes no request %s", want)
			}
		}
	}
}

// calls collects the requests that were answered.
type calls struct {
	mu   sync.Mutex
	seen []string
}

func (c *calls) note(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, r.Method+" "+r.URL.Path)
}

func (c *calls) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.seen)
}

// between puts a proxy before target that notes each request and may change its
// answer.
func between(t *testing.T, target string, note func(*http.Request), change func(*http.Response) error) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := client.NewTransport()
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(u) },
		ModifyResponse: change,
		Transport:      transport,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if note != nil {
			note(r)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// lie is a server's wrong answer.
type lie struct {
	path   string // what it is given for, or the end of it
	status int    // 0: as it was
	old    string // what is replaced in the body by new; "": all of it
	new    string
	caught string // the step that must fail
	// others are further steps that may fail, since they ask for the same.
	others []string
}

func TestWrongAnswers(t *testing.T) {
	node := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	const late = "a message of the past is refused"
	for _, l := range []lie{
		{path: "/health/live", status: 500, caught: "every node lives"},
		{path: "/health/ready", status: 503, caught: "every node is ready"},
		{path: "/health/ready", old: "true", new: "false", caught: "every node is ready"},
		{path: "/health", new: "<html>", caught: "every node is healthy"},
		{path: "/health", old: `"connected"`, new: `"disconnected"`, caught: "every node is healthy"},
		{path: "publishKeyPackage", status: 400, new: `{"error":"InvalidKeyPackage"}`, caught: "bob publishes a key package"},
		{path: "getKeyPackages", new: `{"keyPackages":[],"missing":[]}`, caught: "alice finds it"},
		{path: "createConvo", old: `"epoch":0`, new: `"epoch":1`, caught: "alice creates the conversation"},
		{path: "getEpoch", status: 200, new: `{"currentEpoch":0}`, caught: "bob is told nothing yet", others: []string{"bob knows the epoch"}},
		{path: "getEpoch", old: `:2`, new: `:1`, caught: "bob knows the epoch"},
		{path: "addMembers", old: `"newEpoch":1`, new: `"newEpoch":2`, caught: "alice adds bob"},
		{path: "getConvos", old: `"id"`, new: `"di"`, caught: "bob finds the conversation"},
		{path: "getConvos", status: 200, caught: "nobody reads without a token"},
		{path: "getWelcome", old: `"welcome":"`, new: `"welcome":"AAAA`, caught: "bob gets the welcome"},
		{path: "confirmWelcome", old: "true", new: "false", caught: "bob confirms it"},
		{path: "sendMessage", old: `"seq":2`, new: `"seq":3`, caught: "alice sends a message"},
		{path: "sendMessage", status: 200, old: "EpochMismatch", new: "", caught: late},
		{path: "sendMessage", old: `"currentEpoch":2`, new: `"currentEpoch":9`, caught: late},
		{path: "getMessages", old: `{"$bytes":"`, new: `{"$bytes":"AAAA`, caught: "bob reads both"},
		{path: "getMessages", old: `"lastSeq":2`, new: `"lastSeq":1`, caught: "bob reads both"},
		{path: "commit", status: 409, new: `{"error":"EpochMismatch","currentEpoch":7}`, caught: "alice commits new keys"},
		{path: "getCommits", old: `"epoch":2`, new: `"epoch":1`, caught: "bob reads the commits"},
		{path: "leaveConvo", old: "true", new: "false", caught: "bob leaves"},
		{path: "leaveConvo", old: "LastMember", new: "NotMember", caught: "alice is the last and stays"},
	} {
		t.Run(l.caught, func(t *testing.T) {
			r := run(t, between(t, node.URL, nil, l.tell))
			got := failed(r, smoke.Failed)
			if r.Passed || len(got) == 0 || !strings.HasPrefix(got[0], l.caught+": ") {
				t.Fatalf("failed: %q; want %q to fail first", got, l.caught)
			}
			for _, f := range got[1:] {
				if !slices.ContainsFunc(l.others, func(o string) bool { return strings.HasPrefix(f, o+": ") }) {
					t.Errorf("%q failed too", f)
				}
			}
		})
	}
}

// tell changes the answer.
func (l lie) tell(resp *http.Response) error {
	if !strings.HasSuffix(resp.Request.URL.Path, l.path) {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	switch {
	case l.old == "" && l.new != "":
		body = []byte(l.new)
	case l.old != "" && !bytes.Contains(body, []byte(l.old)):
		l.status = 0 // not the answer that is meant
	default:
		body = bytes.Replace(body, []byte(l.old), []byte(l.new), 1)
	}
	if l.status != 0 {
		resp.StatusCode = l.status
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	resp.Header.Del("Content-Length")
	return nil
}

// Whoever joined leaves, whatever has failed between.
func TestBobLeavesAfterAFailure(t *testing.T) {
	node := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	l := lie{path: "sendMessage", status: 500, new: `{"error":"InternalServerError"}`}
	r := run(t, between(t, node.URL, nil, l.tell))
	if r.Passed || len(failed(r, smoke.Skipped)) == 0 {
		t.Errorf("passed, or nothing was left out: %+v", r.Steps)
	}
	o, err := node.Operator(t).Conversation(t.Context(), r.Convo)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range o.Members {
		if strings.Contains(m.DID, "bob") && m.LeftAt == nil {
			t.Errorf("%s is still a member", m.DID)
		}
	}
	if len(o.Members) != 2 {
		t.Errorf("members: %+v", o.Members)
	}
}

// A server that is not there fails every step that asks it something, and ends.
func TestNobodyThere(t *testing.T) {
	r := run(t, "http://127.0.0.1:1")
	if r.Passed || len(failed(r, smoke.Passed)) != 0 || len(failed(r, smoke.Failed)) < 5 {
		t.Errorf("passed %q, failed %q", failed(r, smoke.Passed), failed(r, smoke.Failed))
	}
	for _, s := range r.Steps {
		if s.Result == smoke.Failed && !strings.Contains(s.Error, "connection refused") {
			t.Errorf("%s: %s", s.Name, s.Error)
		}
	}
}

// Two nodes that share a database are asked in turn.
func TestSeveralURLs(t *testing.T) {
	dir := apptest.SQLite(t.TempDir())
	first, second := &calls{}, &calls{}
	n := apptest.Start(t, dir)
	r := run(t, between(t, n.URL, first.note, nil), between(t, n.URL, second.note, nil)+"/")
	if !r.Passed {
		t.Errorf("failed: %q", failed(r, smoke.Failed))
	}
	for i, c := range []*calls{first, second} {
		if n := len(c.all()); n < 10 {
			t.Errorf("URL %d was asked %d times", i+1, n)
		}
	}
}

func TestTokensOfAFile(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), func(c *config.Config) { c.Auth.EnforceLXM = true })
	source := client.HS256([]byte(apptest.Secret), "")
	wallet := func(each int, dids ...string) string {
		lines := []string{"# tokens", ""}
		for _, did := range dids {
			for _, m := range []string{
				"publishKeyPackage", "getKeyPackages", "createConvo", "getEpoch", "addMembers", "getConvos", "getWelcome",
				"confirmWelcome", "sendMessage", "getMessages", "commit", "getCommits", "leaveConvo",
			} {
				for range each {
					token, err := source(did, client.Prefix+m)
					if err != nil {
						t.Fatal(err)
					}
					lines = append(lines, token)
				}
			}
		}
		return strings.Join(lines, "\n")
	}
	t.Run("enough", func(t *testing.T) {
		people, err := smoke.ReadTokens(strings.NewReader(wallet(3, "did:web:ann.test", "did:web:ben.test")))
		if err != nil {
			t.Fatal(err)
		}
		if r := runAs(t, people, n.URL); !r.Passed {
			t.Errorf("failed: %q", failed(r, smoke.Failed))
		}
	})
	t.Run("too few", func(t *testing.T) {
		people, err := smoke.ReadTokens(strings.NewReader(wallet(1, "did:web:ann.test", "did:web:ben.test")))
		if err != nil {
			t.Fatal(err)
		}
		if got := failed(runAs(t, people, n.URL), smoke.Failed); len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), "ReplayDetected") {
			t.Errorf("failed: %q; want the server to say that a token was used", got)
		}
	})
	for name, text := range map[string]string{
		"one person":    wallet(1, "did:web:ann.test"),
		"three":         wallet(1, "did:web:ann.test", "did:web:ben.test", "did:web:cat.test"),
		"no token":      "secret",
		"no claims":     "secret.!!.x",
		"nobody's":      "secret.e30.x",
		"nothing there": "# nothing",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := smoke.ReadTokens(strings.NewReader(text))
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Whoever has no tokens at hand sees health, and that nobody reads without one.
func TestAnonymous(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()))
	seen := &calls{}
	r := runAs(t, nil, between(t, n.URL, seen.note, nil))
	if !r.Passed || len(r.Steps) != 4 || r.Convo != "" {
		t.Errorf("%+v", r)
	}
	for _, c := range seen.all() {
		if strings.HasPrefix(c, "POST") {
			t.Errorf("it calls %s", c)
		}
	}
	l := lie{path: "/health/ready", status: 503}
	if r := runAs(t, nil, between(t, n.URL, nil, l.tell)); r.Passed {
		t.Error("a node that is not ready passes")
	}
}

// What stands before the nodes may pass the API on and nothing else. A run says so,
// and passes once it is told.
func TestOnlyTheAPIIsPassedOn(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()))
	seen := &calls{}
	front := between(t, n.URL, seen.note, func(resp *http.Response) error {
		if !strings.HasPrefix(resp.Request.URL.Path, "/xrpc/") {
			resp.StatusCode = http.StatusNotFound
		}
		return nil
	})
	if got := failed(run(t, front), smoke.Failed); len(got) != 3 || !strings.Contains(got[0], "--without-health") {
		t.Errorf("failed: %q; want the three of health, and what to do", got)
	}
	before := len(seen.all())
	r, err := smoke.Run(t.Context(), smoke.Config{
		BaseURLs: []string{front}, People: smoke.Invented([]byte(apptest.Secret), ""), WithoutHealth: true, StepTimeout: apptest.Patience,
	})
	if err != nil || !r.Passed || len(r.Steps) < 15 {
		t.Errorf("%v, failed: %q", err, failed(r, smoke.Failed))
	}
	for _, c := range seen.all()[before:] {
		if strings.Contains(c, "/health") {
			t.Errorf("it asks %s", c)
		}
	}
}

func TestKeysOfAFile(t *testing.T) {
	first, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	second, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	ann, ben := "did:web:ann.test "+first.Multibase(), "did:web:ben.test   "+second.Multibase()
	people, err := smoke.ReadKeys(strings.NewReader("# people\n\n"+ann+"\n"+ben+"\n"), "did:web:chat.test")
	if err != nil {
		t.Fatal(err)
	}
	annKey, _ := first.PublicKey()
	benKey, _ := second.PublicKey()
	verifier, err := auth.New(auth.Config{
		Resolver: documents{"did:web:ann.test": annKey, "did:web:ben.test": benKey}, Replay: auth.NewMemoryReplay(0, nil),
		ServiceDID: "did:web:chat.test", EnforceLXM: true, EnforceJTI: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		did, err := verifier.Verify(r.Context(), token, strings.TrimPrefix(r.URL.Path, "/xrpc/"))
		if token != "" && err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		seen[did] = true
		http.Error(w, "{}", http.StatusBadRequest)
	}))
	defer front.Close()
	runAs(t, people, front.URL) // one after another
	if !seen["did:web:ann.test"] || !seen["did:web:ben.test"] {
		t.Errorf("requests of %v", seen)
	}
	for name, text := range map[string]string{
		"one person": ann, "three": ann + "\n" + ben + "\ndid:web:cat.test " + first.Multibase(), "twice": ann + "\n" + ann,
		"no key": "did:web:ann.test hunter2", "nobody's": "hunter2 " + first.Multibase(), "a key alone": first.Multibase(), "nothing there": "# nothing",
	} {
		_, err := smoke.ReadKeys(strings.NewReader(text), "")
		if !errors.Is(err, smoke.ErrKeys) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), first.Multibase()) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// documents are the keys that DID documents show.
type documents map[string]atcrypto.PublicKey

func (d documents) Key(_ context.Context, did string) (atcrypto.PublicKey, error) { return d[did], nil }
func (d documents) Refresh(_ context.Context, did string) (atcrypto.PublicKey, error) {
	return d[did], nil
}
