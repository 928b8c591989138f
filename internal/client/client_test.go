package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"catbird/conversation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	nodeA = "http://a.test"
	nodeB = "http://b.test"
)

// script is a transport that gives one answer after another, and keeps the
// requests.
type script struct {
	answers []func(*http.Request) (*http.Response, error)
	seen    []*http.Request
	at      []time.Time
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	n := len(s.seen)
	s.seen, s.at = append(s.seen, r), append(s.at, time.Now())
	if n >= len(s.answers) {
		return nil, fmt.Errorf("request %d is one too many", n+1)
	}
	return s.answers[n](r)
}

type answer = func(*http.Request) (*http.Response, error)

func says(status int, body string, headers ...string) answer {
	return func(*http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

func refuses(status int, name conversation.Code, headers ...string) answer {
	return says(status, fmt.Sprintf(`{"error":%q,"message":"no"}`, name), headers...)
}

func fails(err error) answer {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

func freezes(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

var (
	ok      = says(200, `{"success":true,"newEpoch":1,"currentEpoch":1,"confirmed":true}`)
	lost    = fails(io.ErrUnexpectedEOF)
	noRoute = fails(&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")})
)

// scripted returns Alice's API over nodes A and B, which give the answers.
func scripted(t *testing.T, change func(*Config), answers ...answer) (*Caller, *script) {
	t.Helper()
	s := &script{answers: answers}
	tokens := 0
	cfg := Config{
		BaseURLs: []string{nodeA, nodeB + "/"},
		HTTP:     &http.Client{Transport: s},
		Attempts: 4,
		Token: func(did, nsid string) (string, error) {
			tokens++
			return fmt.Sprintf("token-%d/%s/%s", tokens, did, nsid), nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c.As("did:plc:alice"), s
}

func keyed(ctx context.Context, a *Caller) error {
	_, err := a.LeaveConvo(ctx, LeaveConvo{ConvoID: "c", IdempotencyKey: "k", ExpectedEpoch: new(int64(5))})
	return err
}

func keyless(ctx context.Context, a *Caller) error {
	_, err := a.LeaveConvo(ctx, LeaveConvo{ConvoID: "c"})
	return err
}

func query(ctx context.Context, a *Caller) error {
	_, err := a.GetEpoch(ctx, "c")
	return err
}

func confirm(ctx context.Context, a *Caller) error {
	_, err := a.ConfirmWelcome(ctx, ConfirmWelcome{ConvoID: "c", Success: true})
	return err
}

func withMsgID(ctx context.Context, a *Caller) error {
	_, err := a.SendMessage(ctx, SendMessage{ConvoID: "c", MsgID: "m"})
	return err
}

// TestRepetition says which requests are made again after what, and whether a
// change is reported as one that may have happened.
func TestRepetition(t *testing.T) {
	mismatch := func(current int) answer {
		return says(409, fmt.Sprintf(`{"error":"EpochMismatch","message":"no","currentEpoch":%d}`, current))
	}
	tests := []struct {
		name     string
		call     func(context.Context, *Caller) error
		answers  []answer
		attempts int
		want     conversation.Code // of the last answer; "" and no error: success
		fails    bool
		unknown  bool
	}{
		{"success", keyless, []answer{ok}, 1, "", false, false},
		{"503, any change: it did not happen", keyless, []answer{refuses(503, "Draining"), ok}, 2, "", false, false},
		{"429", keyless, []answer{refuses(429, "RateLimitExceeded"), ok}, 2, "", false, false},
		{"a proxy's 503", keyless, []answer{says(503, "<html>"), ok}, 2, "", false, false},
		{"503 until attempts are used up", keyless, []answer{refuses(503, "MailboxFull"), refuses(503, "MailboxFull"), refuses(503, "MailboxFull"), refuses(503, "MailboxFull")}, 4, conversation.MailboxFull, true, false},
		{"400", keyed, []answer{refuses(400, "InvalidRequest")}, 1, conversation.InvalidRequest, true, false},
		{"500: a fault, but it did not happen", keyed, []answer{refuses(500, "InternalServerError")}, 1, conversation.InternalServerError, true, false},

		{"504 without a key", keyless, []answer{refuses(504, "OutcomeUnknown")}, 1, conversation.OutcomeUnknown, true, true},
		{"504 with a key", keyed, []answer{refuses(504, "OutcomeUnknown"), ok}, 2, "", false, false},
		{"504 with a msgId", withMsgID, []answer{refuses(504, "OutcomeUnknown"), ok}, 2, "", false, false},
		{"504 of a change that is harmless to repeat", confirm, []answer{refuses(504, "OutcomeUnknown"), ok}, 2, "", false, false},
		{"504 of a query", query, []answer{refuses(504, "OutcomeUnknown"), ok}, 2, "", false, false},
		{"a proxy's 502 without a key", keyless, []answer{says(502, "<html>")}, 1, "", true, true},
		{"a proxy's 500 with a key", keyed, []answer{says(500, "<html>"), ok}, 2, "", false, false},
		{"lost without a key", keyless, []answer{lost}, 1, "", true, true},
		{"lost with a key", keyed, []answer{lost, ok}, 2, "", false, false},
		{"lost, a query", query, []answer{lost, lost, ok}, 3, "", false, false},
		{"lost, a query, to the end: a query is never in doubt", query, []answer{lost, lost, lost, lost}, 4, "", true, false},
		{"never sent, without a key", keyless, []answer{noRoute, ok}, 2, "", false, false},
		{"never sent, to the end: it did not happen", keyless, []answer{noRoute, noRoute, noRoute, noRoute}, 4, "", true, false},
		{"half an answer without a key", keyless, []answer{says(200, `{"succ`)}, 1, "", true, true},
		{"half an answer with a key", keyed, []answer{says(200, `{"succ`), ok}, 2, "", false, false},

		{"lost, then refused: the first may have been stored", keyed, []answer{lost, refuses(403, "NotMember")}, 2, conversation.NotMember, true, true},
		{"lost, then 503 to the end", keyed, []answer{lost, refuses(503, "Unavailable"), refuses(503, "Unavailable"), refuses(503, "Unavailable")}, 4, conversation.Unavailable, true, true},
		{"lost, then never sent", keyed, []answer{lost, noRoute, noRoute, noRoute}, 4, "", true, true},
		{"lost, then behind for good", keyed, []answer{lost, mismatch(6)}, 2, conversation.EpochMismatch, true, false},
		{"lost, then ahead: may be right later", keyed, []answer{lost, mismatch(4)}, 2, conversation.EpochMismatch, true, true},
		{"lost, then another body under the key", keyed, []answer{lost, refuses(409, "IdempotencyConflict")}, 2, conversation.IdempotencyConflict, true, false},

		{"token seen, a query: net/http had sent it again", query, []answer{refuses(401, "ReplayDetected"), ok}, 2, "", false, false},
		{"token seen, a change", keyed, []answer{refuses(401, "ReplayDetected")}, 1, conversation.ReplayDetected, true, false},
		{"a redirect is not followed", query, []answer{says(302, "", "Location", "http://evil.test/")}, 1, "", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, s := scripted(t, nil, tt.answers...)
				err := tt.call(t.Context(), a)
				if (err != nil) != tt.fails || NameOf(err) != tt.want {
					t.Fatalf("error %v, want name %q", err, tt.want)
				}
				if len(s.seen) != tt.attempts {
					t.Errorf("%d attempts, want %d", len(s.seen), tt.attempts)
				}
				if OutcomeUnknown(err) != tt.unknown {
					t.Errorf("OutcomeUnknown(%v) = %v, want %v", err, !tt.unknown, tt.unknown)
				}
				tokens := make(map[string]bool)
				for i, r := range s.seen {
					if want := []string{nodeA, nodeB}[i%2]; !strings.HasPrefix(r.URL.String(), want+"/xrpc/blue.catbird.mls.") {
						t.Errorf("attempt %d went to %s, want %s", i+1, r.URL, want)
					}
					tokens[r.Header.Get("Authorization")] = true
				}
				if len(tokens) != len(s.seen) {
					t.Errorf("%d tokens for %d attempts", len(tokens), len(s.seen))
				}
			})
		})
	}
}

func TestPauses(t *testing.T) {
	t.Run("Retry-After is waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, s := scripted(t, nil, refuses(503, "Overloaded", "Retry-After", "2"), ok)
			if err := keyless(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if d := s.at[1].Sub(s.at[0]); d < 2*time.Second || d > 3*time.Second {
				t.Errorf("waited %v, want 2 s and a bit", d)
			}
		})
	})
	t.Run("without one the pause grows, within its bound", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			answers := make([]answer, 12)
			for i := range answers {
				answers[i] = refuses(503, "Overloaded")
			}
			a, s := scripted(t, func(c *Config) { c.Attempts, c.MaxWait = 12, time.Second }, answers...)
			if err := keyless(t.Context(), a); NameOf(err) != conversation.Overloaded {
				t.Fatal(err)
			}
			for i := 1; i < len(s.at); i++ {
				most := min(DefaultWait<<(i-1), time.Second)
				if d := s.at[i].Sub(s.at[i-1]); d < most/2 || d > most {
					t.Errorf("pause %d took %v, want %v to %v", i, d, most/2, most)
				}
			}
		})
	})
	t.Run("a Retry-After beyond the bound ends it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, s := scripted(t, nil, refuses(503, "Overloaded", "Retry-After", "3600"))
			err := keyed(t.Context(), a)
			var e *Error
			if !errors.As(err, &e) || e.RetryAfter != time.Hour || len(s.seen) != 1 {
				t.Errorf("error %v after %d attempts, want the refusal with its hour", err, len(s.seen))
			}
		})
	})
	t.Run("the context ends a pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, _ := scripted(t, nil, refuses(503, "Overloaded", "Retry-After", "9"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			err := keyless(ctx, a)
			if !errors.Is(err, context.DeadlineExceeded) || NameOf(err) != conversation.Overloaded || OutcomeUnknown(err) {
				t.Errorf("error %v, want the refusal and the deadline, nothing in doubt", err)
			}
			if d := time.Since(start); d != time.Second {
				t.Errorf("took %v", d)
			}
		})
	})
	t.Run("a frozen node costs one attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, s := scripted(t, func(c *Config) { c.AttemptTimeout = 3 * time.Second }, freezes, ok)
			start := time.Now()
			if err := keyed(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); len(s.seen) != 2 || d < 3*time.Second || d > 4*time.Second {
				t.Errorf("%d attempts in %v", len(s.seen), d)
			}
		})
	})
	t.Run("the caller's context ends an attempt, in doubt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, s := scripted(t, nil, freezes)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := keyed(ctx, a)
			if !errors.Is(err, context.DeadlineExceeded) || !OutcomeUnknown(err) || len(s.seen) != 1 {
				t.Errorf("error %v after %d attempts", err, len(s.seen))
			}
		})
	})
}

func TestErrorCarriesWhatTheClientMissed(t *testing.T) {
	a, _ := scripted(t, nil, says(409, `{"error":"EpochMismatch","message":"at 7","currentEpoch":7,"more":true,
		"commits":[{"epoch":6,"seq":8,"sender":"did:plc:bob","commitData":{"$bytes":"AQI"},"createdAt":"2026-01-02T03:04:05Z"}]}`))
	err := keyed(t.Context(), a)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	want := Commit{Epoch: 6, Seq: 8, Sender: "did:plc:bob", CommitData: Bytes{1, 2}, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if e.CurrentEpoch != 7 || !e.More || len(e.Commits) != 1 || !equalJSON(t, e.Commits[0], want) {
		t.Errorf("got %+v", e)
	}
	if got := err.Error(); got != "leaveConvo: 409 EpochMismatch: at 7" {
		t.Errorf("text %q", got)
	}
	if !errors.Is(err, &Error{Name: conversation.EpochMismatch}) || errors.Is(err, &Error{Name: conversation.NotMember}) {
		t.Error("errors.Is does not compare names")
	}
}

// TestErrorsHoldNoSecrets: errors end up in logs.
func TestErrorsHoldNoSecrets(t *testing.T) {
	for _, last := range []answer{lost, noRoute, says(502, "<html>"), refuses(401, "InvalidToken"), says(200, "{")} {
		a, _ := scripted(t, func(c *Config) { c.Attempts = 1 }, last)
		_, err := a.GetKeyPackages(t.Context(), []string{"did:plc:secretfriend"}, "")
		if err == nil {
			t.Fatal("no error")
		}
		for _, secret := range []string{"token-1", "Bearer", "secretfriend"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q holds %q", err, secret)
			}
		}
	}
	_, err := New(Config{BaseURLs: []string{"http://user:hunter2@host"}, Token: HS256(nil, "")})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	token := HS256([]byte("s"), "")
	for _, cfg := range []Config{
		{Token: token},
		{BaseURLs: []string{"http://a"}},
		{BaseURLs: []string{"a:8080"}, Token: token},
		{BaseURLs: []string{"ftp://a"}, Token: token},
		{BaseURLs: []string{"http://"}, Token: token},
		{BaseURLs: []string{"http://a?x=y"}, Token: token},
		{BaseURLs: []string{"http://a", "http://b\x00"}, Token: token},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%q was taken", cfg.BaseURLs)
		}
	}
}

func TestTokenErrorsAreNotRepeated(t *testing.T) {
	broken := errors.New("no key")
	a, s := scripted(t, func(c *Config) { c.Token = func(string, string) (string, error) { return "", broken } }, ok)
	if err := keyed(t.Context(), a); !errors.Is(err, broken) || OutcomeUnknown(err) || len(s.seen) != 0 {
		t.Errorf("error %v after %d requests", err, len(s.seen))
	}
}

func TestRequestsGoRound(t *testing.T) {
	a, s := scripted(t, nil, ok, ok, ok)
	for range 3 {
		if err := query(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []string{"a.test", "b.test", "a.test"} {
		if got := s.seen[i].URL.Host; got != want {
			t.Errorf("request %d went to %s, want %s", i+1, got, want)
		}
	}
}

func TestObserveSeesEveryAttempt(t *testing.T) {
	var seen []Observation
	a, _ := scripted(t, func(c *Config) { c.Observe = func(o Observation) { seen = append(seen, o) } }, lost, refuses(503, "Draining"), ok)
	if err := keyed(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 3 {
		t.Fatalf("%d observations, want 3", len(seen))
	}
	for i, want := range []struct {
		node   string
		status int
		err    bool
	}{{nodeA, 0, true}, {nodeB, 503, true}, {nodeA, 200, false}} {
		o := seen[i]
		if o.Endpoint != "leaveConvo" || o.Node != want.node || o.Attempt != i+1 || o.Status != want.status || (o.Err != nil) != want.err {
			t.Errorf("observation %d: %+v", i+1, o)
		}
	}
}

func TestHS256(t *testing.T) {
	secret := []byte("a secret of some length")
	source := HS256(secret, "did:web:catbird.test")
	ids := make(map[any]bool)
	for range 3 {
		token, err := source("did:plc:alice", Prefix+"getEpoch")
		if err != nil {
			t.Fatal(err)
		}
		claims := jwt.MapClaims{}
		_, err = jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return secret, nil },
			jwt.WithValidMethods([]string{"HS256"}), jwt.WithIssuer("did:plc:alice"), jwt.WithAudience("did:web:catbird.test"),
			jwt.WithExpirationRequired(), jwt.WithIssuedAt())
		if err != nil {
			t.Fatal(err)
		}
		if claims["lxm"] != "blue.catbird.mls.getEpoch" {
			t.Errorf("lxm is %v", claims["lxm"])
		}
		ids[claims["jti"]] = true
	}
	if len(ids) != 3 || ids[nil] {
		t.Errorf("three tokens have the ids %v", ids)
	}
}

func TestBytes(t *testing.T) {
	for _, in := range []string{`{"$bytes":"AQID/w=="}`, `{"$bytes":"AQID/w"}`} {
		var b Bytes
		if err := json.Unmarshal([]byte(in), &b); err != nil || !bytes.Equal(b, []byte{1, 2, 3, 255}) {
			t.Errorf("%s: %v, %v", in, b, err)
		}
	}
	for _, in := range []string{`{}`, `"AQID"`, `{"$bytes":"!"}`, `{"$bytes":1}`} {
		var b Bytes
		if err := json.Unmarshal([]byte(in), &b); err == nil {
			t.Errorf("%s was taken", in)
		}
	}
	out, err := json.Marshal(Bytes{1, 2, 3, 255})
	if err != nil || string(out) != `{"$bytes":"AQID/w=="}` {
		t.Errorf("written as %s, %v", out, err)
	}
}

func TestRetryAfterForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
		past := time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat)
		for header, want := range map[string]time.Duration{
			"": 0, "0": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, in: 90 * time.Second, past: 0, "99999999999999": 0,
		} {
			if got := retryAfter(header); got != want {
				t.Errorf("%q: %v, want %v", header, got, want)
			}
		}
	})
}

func equalJSON(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}
