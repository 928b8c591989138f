package ctl

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"catbird/operator"
	"catbird/persistence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := NewClient(s.URL+"/", "s3cret", s.Client())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientAsks(t *testing.T) {
	on, percent := true, 5
	for _, test := range []struct {
		name   string
		call   func(ctx context.Context, c *Client) error
		method string
		uri    string
		body   string
	}{
		{"flags", func(ctx context.Context, c *Client) error { _, err := c.Flags(ctx); return err }, "GET", "/flags", ""},
		{"set both", func(ctx context.Context, c *Client) error {
			_, err := c.SetFlags(ctx, &on, &percent)
			return err
		}, "PUT", "/flags", `{"actorSystem":true,"rolloutPercent":5}`},
		{"set one", func(ctx context.Context, c *Client) error {
			_, err := c.SetFlags(ctx, nil, &percent)
			return err
		}, "PUT", "/flags", `{"rolloutPercent":5}`},
		{"actors", func(ctx context.Context, c *Client) error {
			_, err := c.Actors(ctx, 7, "a&b")
			return err
		}, "GET", "/actors?cursor=a%26b&limit=7", ""},
		{"conversation", func(ctx context.Context, c *Client) error {
			_, err := c.Conversation(ctx, "a/b")
			return err
		}, "GET", "/conversations/a%2Fb", ""},
		{"integrity", func(ctx context.Context, c *Client) error {
			_, err := c.Integrity(ctx, "7d")
			return err
		}, "GET", "/integrity?since=7d", ""},
		{"node", func(ctx context.Context, c *Client) error { _, err := c.Node(ctx); return err }, "GET", "/node", ""},
		{"cluster", func(ctx context.Context, c *Client) error { _, err := c.Cluster(ctx); return err }, "GET", "/cluster", ""},
		{"owner", func(ctx context.Context, c *Client) error {
			_, err := c.Owner(ctx, "a&b")
			return err
		}, "GET", "/cluster/owner?convoId=a%26b", ""},
		{"drain", func(ctx context.Context, c *Client) error { _, err := c.Drain(ctx); return err }, "POST", "/drain", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				var body bytes.Buffer
				_, _ = body.ReadFrom(r.Body)
				if r.Method != test.method || r.RequestURI != test.uri || body.String() != test.body {
					t.Errorf("asked %s %s %s, want %s %s %s", r.Method, r.RequestURI, body.String(), test.method, test.uri, test.body)
				}
				if got := r.Header.Get("Authorization"); got != "Bearer s3cret" {
					t.Errorf("Authorization %q", got)
				}
				_, _ = w.Write([]byte("{}"))
			})
			if err := test.call(context.Background(), c); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClientErrors(t *testing.T) {
	ctx := context.Background()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error":"ConvoNotFound","message":"there is none"}`))
	})
	_, err := c.Conversation(ctx, "ab")
	var e *Error
	if !errors.As(err, &e) || e.Status != 404 || e.Code != "ConvoNotFound" || e.Error() != "ConvoNotFound: there is none" {
		t.Errorf("err = %v", err)
	}
	c = serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) })
	if _, err = c.Flags(ctx); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("a stranger's answer: %v", err)
	}
	c = serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("nonsense")) })
	if _, err = c.Flags(ctx); err == nil {
		t.Error("nonsense was read")
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	if c, err = NewClient(gone.URL, "", http.DefaultClient); err != nil {
		t.Fatal(err)
	}
	if _, err = c.Flags(ctx); err == nil || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("a node that is gone: %v", err)
	}
	for _, base := range []string{"", "127.0.0.1:8081", "ftp://h", "http://"} {
		if _, err := NewClient(base, "", nil); err == nil {
			t.Errorf("%q was taken for an address", base)
		}
	}
}

func TestTables(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	epoch := int64(4)
	for _, test := range []struct {
		name  string
		write func(w *bytes.Buffer) error
		want  string
	}{
		{"clean", func(w *bytes.Buffer) error { return Integrity(w, persistence.Integrity{}) }, `
FOUND             COUNT
duplicate epochs  0
missing epochs    0
sequence gaps     0
epoch mismatches  0
`},
		{"found", func(w *bytes.Buffer) error {
			return Integrity(w, persistence.Integrity{DuplicateEpochs: persistence.Finding{
				Count: 12, Examples: []persistence.Example{{Convo: "ab", Epoch: &epoch, Detail: "2 commits"}},
			}})
		}, `
FOUND             COUNT
duplicate epochs  12
missing epochs    0
sequence gaps     0
epoch mismatches  0

KIND              CONVERSATION  EPOCH  SEQ  DETAIL
duplicate epochs  ab            4      -    2 commits
`},
		{"overview", func(w *bytes.Buffer) error {
			return Overview(w, persistence.Overview{
				ID: "ab", Epoch: 1, Seq: 2, Creator: "did:plc:a", CreatedAt: at,
				Members: []persistence.OverviewMember{{DID: "did:plc:a", JoinedAt: at, Unread: 3}, {DID: "did:plc:b", JoinedAt: at, LeftAt: &at}},
				ByEpoch: []persistence.EpochSummary{{Epoch: 1, Commits: 1, Messages: 1, First: at, Last: at}},
			})
		}, `
conversation  ab
creator       did:plc:a
created       2026-01-02T03:04:05Z
epoch         1
seq           2

MEMBER     JOINED                LEFT                  UNREAD
did:plc:a  2026-01-02T03:04:05Z  -                     3
did:plc:b  2026-01-02T03:04:05Z  2026-01-02T03:04:05Z  0

EPOCH  COMMITS  MESSAGES  FIRST                 LAST
1      1        1         2026-01-02T03:04:05Z  2026-01-02T03:04:05Z
`},
		{"flags", func(w *bytes.Buffer) error { return Flags(w, operator.Flags{ActorSystem: true, RolloutPercent: 5}) }, `
actor system  on
rollout       5%
`},
		{"actors", func(w *bytes.Buffer) error {
			return Actors(w, operator.ActorsPage{
				Actors: []operator.Actor{{Convo: "ab", Epoch: 1, Seq: 2, Fence: 3, Mailbox: 4, IdleSeconds: 1.25}}, Cursor: "ab",
			})
		}, `
CONVERSATION  EPOCH  SEQ  FENCE  WAITING  IDLE
ab            1      2    3      4        1.25s

more with --cursor ab
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := test.write(&out); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + out.String(); got != test.want {
				t.Errorf("wrote%s\nwant%s", got, test.want)
			}
		})
	}
}

func TestJSONIsIndented(t *testing.T) {
	var out bytes.Buffer
	if err := JSON(&out, operator.Flags{}); err != nil || out.String() != "{\n  \"actorSystem\": false,\n  \"rolloutPercent\": 0\n}\n" {
		t.Errorf("wrote %q, %v", out.String(), err)
	}
}
