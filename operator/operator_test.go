package operator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"catbird/conversation"
	"catbird/persistence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fakeNode struct {
	flags   Flags
	err     error
	since   time.Time
	convo   string
	drained int
	limit   int
	cursor  string
	check   func(ctx context.Context)
	held    persistence.Holder
}

func (f *fakeNode) Flags() Flags { return f.flags }

func (f *fakeNode) SetFlags(_ context.Context, flags Flags) error {
	if f.err == nil {
		f.flags = flags
	}
	return f.err
}

func (f *fakeNode) List(limit int, cursor string) ([]Actor, string) {
	f.limit, f.cursor = limit, cursor
	if cursor == "end" {
		return nil, ""
	}
	return []Actor{{Convo: "aa", Epoch: 1, Seq: 2, Fence: 3, Mailbox: 4, IdleSeconds: 0.5, Trusted: true}}, "end"
}

func (f *fakeNode) Overview(_ context.Context, convo string) (persistence.Overview, error) {
	f.convo = convo
	return persistence.Overview{ID: convo, Members: []persistence.OverviewMember{}, ByEpoch: []persistence.EpochSummary{}}, f.err
}

func (f *fakeNode) Integrity(ctx context.Context, since time.Time) (persistence.Integrity, error) {
	f.since = since
	if f.check != nil {
		f.check(ctx)
	}
	return persistence.Integrity{SequenceGaps: persistence.Finding{Count: 1}}, f.err
}

func (f *fakeNode) Holder(_ context.Context, convo string) (persistence.Holder, bool, error) {
	f.convo = convo
	return f.held, f.held.Session != "", f.err
}

func newAPI(f *fakeNode, secret string) *API { return newAPIOf(f, &fakeCluster{}, secret) }

func newAPIOf(f *fakeNode, c Cluster, secret string) *API {
	return New(Config{
		Switchboard: f, Actors: f, Store: f, Cluster: c, Drain: func() { f.drained++ }, Secret: secret,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

func ask(a *API, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

func TestRoutes(t *testing.T) {
	for _, c := range []struct {
		method, target, body string
		err                  error
		status               int
		want                 string // exact, or the error's name
	}{
		{method: "GET", target: "/flags", status: 200, want: `{"actorSystem":false,"rolloutPercent":100}`},
		{method: "PUT", target: "/flags", body: `{"actorSystem":true,"rolloutPercent":5}`, status: 200, want: `{"actorSystem":true,"rolloutPercent":5}`},
		{method: "PUT", target: "/flags", body: `{"actorSystem":true}`, status: 200, want: `{"actorSystem":true,"rolloutPercent":100}`},
		{method: "PUT", target: "/flags", body: `{"rolloutPercent":101}`, status: 400, want: "InvalidRequest"},
		{method: "PUT", target: "/flags", body: `{"actorSystm":true}`, status: 400, want: "InvalidRequest"},
		{method: "PUT", target: "/flags", body: `{"actorSystem":"yes"}`, status: 400, want: "InvalidRequest"},
		{method: "PUT", target: "/flags", body: strings.Repeat(" ", maxBody+1) + "{}", status: 400, want: "InvalidRequest"},
		{method: "PUT", target: "/flags", body: `{}`, err: errors.New("boom"), status: 500, want: "InternalServerError"},
		{method: "GET", target: "/actors", status: 200, want: `{"actors":[{"convoId":"aa","epoch":1,"seq":2,"fence":3,"mailbox":4,"idleSeconds":0.5,"trusted":true}],"cursor":"end"}`},
		{method: "GET", target: "/actors?limit=7&cursor=end", status: 200, want: `{"actors":[]}`},
		{method: "GET", target: "/actors?limit=0", status: 400, want: "InvalidRequest"},
		{method: "GET", target: "/actors?limit=1001", status: 400, want: "InvalidRequest"},
		{method: "GET", target: "/integrity", status: 200, want: `{"duplicateEpochs":{"count":0,"examples":[]},"missingEpochs":{"count":0,"examples":[]},"sequenceGaps":{"count":1,"examples":[]},"epochMismatches":{"count":0,"examples":[]}}`},
		{method: "GET", target: "/integrity?since=yesterday", status: 400, want: "InvalidRequest"},
		{method: "GET", target: "/integrity", err: persistence.ErrUnavailable, status: 503, want: "Unavailable"},
		{method: "GET", target: "/conversations/AB", status: 200, want: `{"id":"ab","epoch":0,"seq":0,"creator":"","createdAt":"0001-01-01T00:00:00Z","members":[],"messagesByEpoch":[]}`},
		{method: "GET", target: "/conversations/ab", err: conversation.Refuse(conversation.ConvoNotFound, "no"), status: 404, want: "ConvoNotFound"},
		{method: "GET", target: "/conversations/a%20b", status: 400, want: "InvalidRequest"},
		{method: "GET", target: "/node", status: 200, want: `{"name":"a","state":"ready","version":"v","actorsEnabled":true,"rolloutPercent":50,"activeActors":7,"ringVersion":9,"checks":{"database":"healthy","redis":"healthy","cluster":"3 members"}}`},
		{method: "GET", target: "/cluster", status: 200, want: `{"node":"a","members":[],"ring":{"partitions":0,"version":0}}`},
		{method: "GET", target: "/cluster/owner?convoId=AB", status: 200, want: `{"convoId":"ab","partition":5,"shouldOwn":"b","lease":null,"claim":null}`},
		{method: "GET", target: "/cluster/owner", status: 400, want: "InvalidRequest"},
		{method: "GET", target: "/cluster/owner?convoId=a%20b", status: 400, want: "InvalidRequest"},
		{method: "GET", target: "/cluster/owner?convoId=ab", err: conversation.Refuse(conversation.ConvoNotFound, "no"), status: 404, want: "ConvoNotFound"},
		{method: "GET", target: "/cluster/owner?convoId=ab", err: persistence.ErrUnavailable, status: 503, want: "Unavailable"},
		{method: "PUT", target: "/node", status: 404, want: "MethodNotFound"},
		{method: "POST", target: "/drain", status: 202, want: `{"draining":true}`},
		{method: "GET", target: "/drain", status: 404, want: "MethodNotFound"},
		{method: "GET", target: "/nothing", status: 404, want: "MethodNotFound"},
	} {
		t.Run(c.method+" "+c.target+" "+c.body[:min(len(c.body), 30)], func(t *testing.T) {
			f := &fakeNode{flags: Flags{RolloutPercent: 100}, err: c.err}
			w := ask(newAPI(f, ""), c.method, c.target, c.body)
			if w.Code != c.status {
				t.Fatalf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if ct := w.Header().Get("Content-Type"); ct != "application/json" {
				t.Errorf("content type %q", ct)
			}
			if got := w.Header().Get("Retry-After"); (got != "") != (c.status == 503) {
				t.Errorf("Retry-After = %q with status %d", got, c.status)
			}
			if c.status < 400 {
				if got := strings.TrimSpace(w.Body.String()); got != c.want {
					t.Errorf("body\n%s, want\n%s", got, c.want)
				}
				return
			}
			var e struct{ Error, Message string }
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error != c.want || e.Message == "" {
				t.Errorf("error %+v (%v), want %s", e, err, c.want)
			}
			if strings.Contains(w.Body.String(), "boom") {
				t.Error("the cause of a fault was told")
			}
		})
	}
}

func TestSecret(t *testing.T) {
	a := newAPI(&fakeNode{}, "s3cret")
	for header, want := range map[string]int{
		"": 401, "Bearer": 401, "Bearer ": 401, "Bearer wrong": 401, "s3cret": 401, "Basic s3cret": 401,
		"Bearer s3cret": 200, "bearer s3cret": 200, "Bearer s3cret ": 401,
	} {
		if w := ask(a, "GET", "/flags", "", "Authorization", header); w.Code != want {
			t.Errorf("Authorization %q: status %d, want %d", header, w.Code, want)
		}
	}
	for _, target := range []string{"/actors", "/integrity", "/conversations/ab", "/node", "/cluster", "/cluster/owner?convoId=ab", "/nothing"} {
		if w := ask(a, "GET", target, ""); w.Code != 401 {
			t.Errorf("%s answers %d without the secret", target, w.Code)
		}
	}
	f := &fakeNode{}
	if w := ask(newAPI(f, "x"), "POST", "/drain", ""); w.Code != 401 || f.drained != 0 {
		t.Errorf("a stranger drained the node: %d", w.Code)
	}
}

func TestDrainAndPages(t *testing.T) {
	f := &fakeNode{}
	a := newAPI(f, "")
	ask(a, "POST", "/drain", "")
	if f.drained != 1 {
		t.Errorf("drained %d times, want once", f.drained)
	}
	ask(a, "GET", "/actors?limit=7&cursor=c", "")
	if f.limit != 7 || f.cursor != "c" {
		t.Errorf("asked for %d from %q, want 7 from c", f.limit, f.cursor)
	}
	ask(a, "GET", "/integrity?since=7d", "")
	if age := time.Since(f.since); age < 7*24*time.Hour || age > 7*24*time.Hour+time.Minute {
		t.Errorf("looked back %v, want 7 days", age)
	}
}

func TestOneLookThroughTheDataAtATime(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	f := &fakeNode{check: func(context.Context) { close(entered); <-release }}
	a := newAPI(f, "")
	done := make(chan int)
	go func() { done <- ask(a, "GET", "/integrity", "").Code }()
	<-entered
	if w := ask(a, "GET", "/integrity", ""); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a second look: status %d, want 503 with Retry-After", w.Code)
	}
	close(release)
	if code := <-done; code != http.StatusOK {
		t.Errorf("the first look: %d", code)
	}
	f.check = nil
	if w := ask(a, "GET", "/integrity", ""); w.Code != 200 {
		t.Errorf("a look after the first: %d", w.Code)
	}
}

func TestParseSince(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "0d": 0, "48h": 48 * time.Hour, "7d": 7 * 24 * time.Hour, "90m": 90 * time.Minute,
	} {
		if got, err := ParseSince(text); err != nil || got != want {
			t.Errorf("%q = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"d", "-1h", "-7d", "7", "1.5d", "99999999d", "week"} {
		if got, err := ParseSince(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
	if !Since(time.Now(), 0).IsZero() {
		t.Error("0 does not mean everything")
	}
}
