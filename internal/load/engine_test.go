package load_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/load"
)

// everything is a load of each operation on few conversations, which lasts until
// it is stopped.
func everything(urls ...string) load.Config {
	return load.Config{
		BaseURLs: urls, Token: client.HS256([]byte(apptest.Secret), ""),
		Conversations: 4, Members: 4, Clients: 8, MessageBytes: 200, Seed: 1, Duration: apptest.Patience,
		Mix: load.Mix{
			load.SendMessage: 10, load.Commit: 3, load.AddMembers: 3, load.LeaveConvo: 3,
			load.GetEpoch: 3, load.GetMessages: 3, load.GetCommits: 2, load.GetConvos: 2,
		},
	}
}

// until runs cfg until enough says so of an operation that has ended, and
// returns how many had.
func until(t *testing.T, cfg load.Config, enough func(n int64, o load.Operation) bool) (*load.Report, int64) {
	t.Helper()
	var engine atomic.Pointer[load.Engine]
	var n atomic.Int64
	cfg.Observe = func(o load.Operation) {
		if enough(n.Add(1), o) {
			engine.Load().Stop()
		}
	}
	e, err := load.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	engine.Store(e)
	r, err := e.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r, n.Load()
}

func operations(most int64) func(int64, load.Operation) bool {
	return func(n int64, _ load.Operation) bool { return n >= most }
}

func TestLoadOnANode(t *testing.T) {
	for _, test := range []struct {
		name    string
		payload load.Payload
		actors  bool
	}{{"random", load.Random, true}, {"mls", load.MLS, true}, {"direct", load.Random, false}} {
		t.Run(test.name, func(t *testing.T) {
			n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(test.actors))
			cfg := everything(n.URL)
			if cfg.Payload = test.payload; cfg.Payload == load.MLS {
				cfg.MessageBytes = 0
			}
			r, seen := until(t, cfg, operations(600))
			if !r.OK() {
				t.Errorf("the node is said not to have kept its word: %+v", r.Verification)
			}
			if all := r.Total.OK + r.Total.Conflicts + r.Total.Failed; all != seen || r.Total.Failed != 0 {
				t.Errorf("of %d operations the report has %+v, and these errors: %+v", seen, r.Total, r.Errors)
			}
			ok := map[load.Op]int64{}
			for _, o := range r.Operations {
				if ok[o.Op] = o.OK; o.OK == 0 || o.P50 <= 0 || o.P50 > o.P99 || o.P99 > o.Max {
					t.Errorf("%s: %+v", o.Op, o)
				}
			}
			if v := r.Verification; v.Messages != ok[load.SendMessage] || v.Conversations != cfg.Conversations {
				t.Errorf("%d messages were acknowledged, and read back were %+v", ok[load.SendMessage], v)
			}
			// In an MLS group who leaves by themselves leaves no commit.
			changes := ok[load.Commit] + ok[load.AddMembers] + ok[load.LeaveConvo]
			if v := r.Verification; cfg.Payload == load.Random && v.Commits != changes {
				t.Errorf("%d commits were read back, and %d acknowledged", v.Commits, changes)
			}
		})
	}
}

// Conversations that are too large for createConvo alone.
func TestLargeConversations(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	cfg := everything(n.URL)
	cfg.Conversations, cfg.Members, cfg.Payload, cfg.MessageBytes = 1, 180, load.MLS, 0
	r, _ := until(t, cfg, operations(20))
	if !r.OK() {
		t.Errorf("verification: %+v", r.Verification)
	}
	// Who was to be a member is: nobody is refused.
	if r.Total.Failed != 0 || r.Verification.Commits < 3 {
		t.Errorf("%+v, %+v", r.Errors, r.Verification)
	}
}

// An engine that is stopped reports on what it did; its time is not up.
func TestStopEndsTheLoadEarly(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	cfg := everything(n.URL)
	cfg.Duration = load.MaxDuration
	r, _ := until(t, cfg, operations(10))
	if !r.EndedEarly || !r.OK() {
		t.Errorf("ended early: %v, verification: %+v", r.EndedEarly, r.Verification)
	}
}

func TestEndOfContextBreaksOff(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("enough")
	cfg := everything(n.URL)
	cfg.Observe = func(load.Operation) { cancel(gone) }
	r, err := load.Run(ctx, cfg)
	if !errors.Is(err, gone) || r == nil || r.OK() {
		t.Errorf("report %+v, error %v", r, err)
	}
}

func TestNobodyThere(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	cfg := everything(s.URL)
	cfg.Attempts = 1
	r, err := load.Run(t.Context(), cfg)
	if r != nil || load.NameError(err).Name != "connection refused" {
		t.Errorf("report %v, error %v", r, err)
	}
}

func TestAnEngineRunsOnce(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()))
	cfg := everything(n.URL)
	cfg.Duration = time.Millisecond
	e, err := load.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Run(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := e.Run(t.Context()); !errors.Is(err, load.ErrUsed) {
		t.Errorf("a second run: %v", err)
	}
}

// With tokens from elsewhere the people are those of the tokens, who may leave
// and come back.
func TestGivenTokens(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true), func(c *config.Config) { c.Auth.EnforceJTI = false })
	made := client.HS256([]byte(apptest.Secret), "")
	var file strings.Builder
	for i := range 6 {
		// Nothing is checked of the endpoint that a token is for.
		tok, err := made(apptest.DID("token", i), "blue.catbird.mls.any")
		if err != nil {
			t.Fatal(err)
		}
		file.WriteString(strings.Replace(tok, "\n", "", 1) + "\n\n# a comment\n")
	}
	tokens, err := load.ParseTokens(strings.NewReader(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	cfg := everything(n.URL)
	cfg.Token, cfg.People = anyEndpoint(tokens.Source()), tokens.People()
	r, _ := until(t, cfg, operations(300))
	if !r.OK() || r.Total.Failed != 0 {
		t.Errorf("errors %+v, verification %+v", r.Errors, r.Verification)
	}
}

// anyEndpoint has tokens that name one endpoint used for all.
func anyEndpoint(s client.TokenSource) client.TokenSource {
	return func(did, _ string) (string, error) { return s(did, "blue.catbird.mls.any") }
}
