package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"
)

// TestEndpoints holds every method to the API's names: what goes over the wire
// and what comes back.
func TestEndpoints(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	type call = func(context.Context, *Caller) (any, error)
	tests := []struct {
		endpoint string
		call     call
		query    string // of a query
		body     string // of a procedure
		answer   string
		want     any
	}{
		{
			"createConvo",
			func(ctx context.Context, a *Caller) (any, error) {
				return a.CreateConvo(ctx, CreateConvo{
					GroupID: "ab", CipherSuite: "S", InitialMembers: []string{"did:plc:b"}, Welcome: []byte{1}, Commit: []byte{2},
					KeyPackageHashes: []KeyPackageHash{{DID: "did:plc:b", Hash: "00"}}, CurrentEpoch: new(int64(1)),
					Metadata: &Metadata{Name: "n", Description: "d"}, IdempotencyKey: "k",
				})
			},
			"",
			`{"groupId":"ab","cipherSuite":"S","initialMembers":["did:plc:b"],"welcomeMessage":"AQ==","commit":"Ag==",
			  "keyPackageHashes":[{"did":"did:plc:b","hash":"00"}],"currentEpoch":1,"metadata":{"name":"n","description":"d"},"idempotencyKey":"k"}`,
			`{"id":"ab","groupId":"ab","creator":"did:plc:a","members":[{"did":"did:plc:a","joinedAt":"2026-01-02T03:04:05Z"}],"epoch":1,
			  "cipherSuite":"S","createdAt":"2026-01-02T03:04:05Z","lastMessageAt":"2026-01-02T03:04:05Z","unreadCount":3,"metadata":{"name":"n"}}`,
			Convo{
				ID: "ab", GroupID: "ab", Creator: "did:plc:a", Members: []Member{{"did:plc:a", at}}, Epoch: 1, CipherSuite: "S",
				CreatedAt: at, LastMessageAt: &at, UnreadCount: 3, Metadata: &Metadata{Name: "n"},
			},
		},
		{
			"createConvo",
			func(ctx context.Context, a *Caller) (any, error) {
				return a.CreateConvo(ctx, CreateConvo{GroupID: "ab", CipherSuite: "S"})
			},
			"", `{"groupId":"ab","cipherSuite":"S"}`, `{"id":"ab"}`,
			Convo{ID: "ab"},
		},
		{
			"addMembers",
			func(ctx context.Context, a *Caller) (any, error) {
				return a.AddMembers(ctx, AddMembers{
					ConvoID: "c", DIDs: []string{"did:plc:b"}, Commit: []byte{1}, Welcome: []byte{2},
					KeyPackageHashes: []KeyPackageHash{{"did:plc:b", "00"}}, IdempotencyKey: "k", ExpectedEpoch: new(int64(0)),
				})
			},
			"",
			`{"convoId":"c","didList":["did:plc:b"],"commit":"AQ==","welcomeMessage":"Ag==","keyPackageHashes":[{"did":"did:plc:b","hash":"00"}],
			  "idempotencyKey":"k","expectedEpoch":0}`,
			`{"success":true,"newEpoch":4}`,
			Changed{true, 4},
		},
		{
			"leaveConvo",
			func(ctx context.Context, a *Caller) (any, error) {
				return a.LeaveConvo(ctx, LeaveConvo{ConvoID: "c", TargetDID: "did:plc:b", Commit: []byte{1}, IdempotencyKey: "k", ExpectedEpoch: new(int64(3))})
			},
			"", `{"convoId":"c","targetDid":"did:plc:b","commit":"AQ==","idempotencyKey":"k","expectedEpoch":3}`,
			`{"success":true,"newEpoch":4}`,
			Changed{true, 4},
		},
		{
			"leaveConvo",
			func(ctx context.Context, a *Caller) (any, error) { return a.LeaveConvo(ctx, LeaveConvo{ConvoID: "c"}) },
			"", `{"convoId":"c"}`, `{"success":true,"newEpoch":4}`,
			Changed{true, 4},
		},
		{
			"commit",
			func(ctx context.Context, a *Caller) (any, error) {
				return a.Commit(ctx, MakeCommit{ConvoID: "c", Commit: []byte{1}, IdempotencyKey: "k", ExpectedEpoch: new(int64(3))})
			},
			"", `{"convoId":"c","commit":"AQ==","idempotencyKey":"k","expectedEpoch":3}`, `{"success":true,"newEpoch":4}`,
			Changed{true, 4},
		},
		{
			"sendMessage",
			func(ctx context.Context, a *Caller) (any, error) {
				return a.SendMessage(ctx, SendMessage{
					ConvoID: "c", Ciphertext: Bytes{1}, Epoch: 3, SenderDID: "did:plc:a", MsgID: "m", IdempotencyKey: "k", EmbedType: "t", EmbedURI: "u",
				})
			},
			"",
			`{"convoId":"c","ciphertext":{"$bytes":"AQ=="},"epoch":3,"senderDid":"did:plc:a","msgId":"m","idempotencyKey":"k","embedType":"t","embedUri":"u"}`,
			`{"messageId":"i","receivedAt":"2026-01-02T03:04:05Z","seq":9,"epoch":3}`,
			Sent{"i", at, 9, 3},
		},
		{
			"getMessages",
			func(ctx context.Context, a *Caller) (any, error) {
				return a.GetMessages(ctx, GetMessages{ConvoID: "c", Limit: 7, SinceSeq: new(int64(0))})
			},
			"convoId=c&limit=7&sinceSeq=0", "",
			`{"messages":[{"id":"i","convoId":"c","sender":"did:plc:a","ciphertext":{"$bytes":"AQ=="},"epoch":3,"seq":9,"messageType":"app",
			  "createdAt":"2026-01-02T03:04:05Z","embedType":"t","embedUri":"u"}],"lastSeq":12,"cursor":"i"}`,
			Messages{[]Message{{"i", "c", "did:plc:a", Bytes{1}, 3, 9, "app", at, "t", "u"}}, 12, "i"},
		},
		{
			"getMessages",
			func(ctx context.Context, a *Caller) (any, error) {
				return a.GetMessages(ctx, GetMessages{ConvoID: "c", SinceMessage: "a b"})
			},
			"convoId=c&sinceMessage=a+b", "", `{"messages":[],"lastSeq":0}`,
			Messages{Messages: []Message{}},
		},
		{
			"getEpoch",
			func(ctx context.Context, a *Caller) (any, error) { return a.GetEpoch(ctx, "c") },
			"convoId=c", "", `{"convoId":"c","currentEpoch":5}`, int64(5),
		},
		{
			"getCommits",
			func(ctx context.Context, a *Caller) (any, error) { return a.GetCommits(ctx, "c", 2, new(int64(4))) },
			"convoId=c&fromEpoch=2&toEpoch=4", "",
			`{"convoId":"c","commits":[{"epoch":2,"seq":3,"sender":"did:plc:a","commitData":{"$bytes":"AQ=="},"createdAt":"2026-01-02T03:04:05Z"}]}`,
			Commits{"c", []Commit{{2, 3, "did:plc:a", Bytes{1}, at}}},
		},
		{
			"getCommits",
			func(ctx context.Context, a *Caller) (any, error) { return a.GetCommits(ctx, "c", 0, nil) },
			"convoId=c&fromEpoch=0", "", `{"convoId":"c","commits":[]}`,
			Commits{"c", []Commit{}},
		},
		{
			"getConvos",
			func(ctx context.Context, a *Caller) (any, error) { return a.GetConvos(ctx, 10, "x/y") },
			"cursor=x%2Fy&limit=10", "", `{"conversations":[{"id":"c"}],"cursor":"z"}`,
			Convos{[]Convo{{ID: "c"}}, "z"},
		},
		{
			"getConvos",
			func(ctx context.Context, a *Caller) (any, error) { return a.GetConvos(ctx, 0, "") },
			"", "", `{"conversations":[]}`,
			Convos{Conversations: []Convo{}},
		},
		{
			"getWelcome",
			func(ctx context.Context, a *Caller) (any, error) { return a.GetWelcome(ctx, "c") },
			"convoId=c", "", `{"convoId":"c","welcome":"AQ==","epoch":4,"seq":6}`,
			Welcome{"c", []byte{1}, 4, 6},
		},
		{
			"confirmWelcome",
			func(ctx context.Context, a *Caller) (any, error) {
				return a.ConfirmWelcome(ctx, ConfirmWelcome{ConvoID: "c", ErrorDetails: "e"})
			},
			"", `{"convoId":"c","success":false,"errorDetails":"e"}`, `{"confirmed":true}`, true,
		},
		{
			"publishKeyPackage",
			func(ctx context.Context, a *Caller) (any, error) {
				return nil, a.PublishKeyPackage(ctx, PublishKeyPackage{KeyPackage: []byte{1}, CipherSuite: "S", Expires: &at, IdempotencyKey: "k"})
			},
			"", `{"keyPackage":"AQ==","cipherSuite":"S","expires":"2026-01-02T03:04:05Z","idempotencyKey":"k"}`, `{}`, nil,
		},
		{
			"getKeyPackages",
			func(ctx context.Context, a *Caller) (any, error) {
				return a.GetKeyPackages(ctx, []string{"did:plc:a", "did:plc:b"}, "S")
			},
			"cipherSuite=S&dids=did%3Aplc%3Aa&dids=did%3Aplc%3Ab", "",
			`{"keyPackages":[{"did":"did:plc:a","keyPackage":"AQ==","cipherSuite":"S","keyPackageHash":"00"}],"missing":["did:plc:b"]}`,
			KeyPackages{[]KeyPackage{{"did:plc:a", []byte{1}, "S", "00"}}, []string{"did:plc:b"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.endpoint, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				method := http.MethodGet
				if tt.body != "" {
					method = http.MethodPost
				}
				if r.Method != method || r.URL.Path != "/xrpc/blue.catbird.mls."+tt.endpoint || r.URL.RawQuery != tt.query {
					t.Errorf("got %s %s, want query %q", r.Method, r.URL, tt.query)
				}
				if got := r.Header.Get("Authorization"); got != "Bearer for did:plc:a "+Prefix+tt.endpoint {
					t.Errorf("authorization %q", got)
				}
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				if tt.body != "" && r.Header.Get("Content-Type") != "application/json" {
					t.Errorf("content type %q", r.Header.Get("Content-Type"))
				}
				sameJSON(t, string(body), tt.body)
				io.WriteString(w, tt.answer)
			}))
			defer server.Close()
			c, err := New(Config{BaseURLs: []string{server.URL}, Token: func(did, nsid string) (string, error) {
				return "for " + did + " " + nsid, nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := tt.call(t.Context(), c.As("did:plc:a"))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("answer read as\n%+v, want\n%+v", got, tt.want)
			}
		})
	}
}

func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	if got == "" && want == "" {
		return
	}
	var a, b any
	if err := json.Unmarshal([]byte(got), &a); err != nil {
		t.Errorf("%q: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Errorf("%q: %v", want, err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("body %s, want %s", got, want)
	}
}

// A node that dies while it answers, over a real connection.
func TestConnectionThatBreaks(t *testing.T) {
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls++
		if calls == 1 {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"success":true`)
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, `{"success":true,"newEpoch":2}`)
	}))
	defer server.Close()
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close() // nobody listens there any more
	c, err := New(Config{BaseURLs: []string{dead.URL, server.URL}, Token: HS256([]byte("s"), ""), Wait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := c.As("did:plc:a")
	_, err = a.LeaveConvo(t.Context(), LeaveConvo{ConvoID: "c"}) // refused by dead, then broken
	if !OutcomeUnknown(err) {
		t.Errorf("error %v, want an unknown outcome", err)
	}
	out, err := a.LeaveConvo(t.Context(), LeaveConvo{ConvoID: "c"})
	if err != nil || out.NewEpoch != 2 {
		t.Errorf("%+v, %v", out, err)
	}
}
