package replay

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"catbird/conversation"
	"catbird/internal/client"
	"catbird/testdata/transcripts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func asDID(did, _ string) (string, error) { return did, nil }

func small() []*transcripts.Transcript { return []*transcripts.Transcript{transcripts.Small()} }

func TestReplayOfTheRecordedGroups(t *testing.T) {
	f, url := newFake(t)
	f.late = 2
	var out bytes.Buffer
	s, err := Run(t.Context(), Config{BaseURLs: []string{url}, Token: asDID, Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	want := []GroupSummary{
		{Name: "small", ConvoID: "67726f75702d736d616c6c", Members: 2, Left: 2, Commits: 4, Messages: 7, Epoch: 4, Seq: 11},
		{Name: "large", ConvoID: "67726f75702d6c61726765", Members: 37, Left: 3, Commits: 16, Messages: 104, Epoch: 16, Seq: 120},
	}
	for i, g := range s.Groups {
		if g.Wrote <= 0 || g.Verified <= 0 {
			t.Errorf("%s: written in %v, read back in %v", g.Name, g.Wrote, g.Verified)
		}
		g.Wrote, g.Verified = 0, 0
		if g != want[i] {
			t.Errorf("got %+v, want %+v", g, want[i])
		}
	}
	counts := make(map[string]int)
	for _, e := range s.Endpoints {
		counts[e.Endpoint] = e.Requests
	}
	for endpoint, n := range map[string]int{
		"createConvo": 2, "addMembers": 15, "leaveConvo": 5, "sendMessage": 111, "publishKeyPackage": 88,
		"confirmWelcome": 42 + 15, // everybody added, the first of each time twice
	} {
		if counts[endpoint] != n {
			t.Errorf("%s was called %d times, want %d", endpoint, counts[endpoint], n)
		}
	}
	if s.Requests.Requests < 500 || s.Requests.P99 < s.Requests.P50 || s.Requests.Repeated != 0 || s.Elapsed <= 0 {
		t.Errorf("requests: %+v in %v", s.Requests, s.Elapsed)
	}
	for _, line := range []string{"large: 121 steps\n", "small: 100% (20 of 20)\n", "sendMessage", "group  members"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("output lacks %q:\n%s", line, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("output that goes to no terminal holds escape sequences")
	}
}

// A second replay finds the groups there, says so before it writes anything,
// and can verify them instead.
func TestReplayTwice(t *testing.T) {
	f, url := newFake(t)
	cfg := Config{BaseURLs: []string{url}, Token: asDID, Groups: small()}
	if _, err := Run(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	published := len(f.keyPackages)
	_, err := Run(t.Context(), cfg)
	if !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "small") {
		t.Fatalf("got %v, want ErrExists", err)
	}
	if len(f.keyPackages) != published {
		t.Error("key packages were published again")
	}
	cfg.VerifyOnly = true
	s, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Endpoints {
		if !strings.HasPrefix(e.Endpoint, "get") {
			t.Errorf("verifying called %s", e.Endpoint)
		}
	}
}

func TestVerifyOnlyWithoutTheGroup(t *testing.T) {
	_, url := newFake(t)
	_, err := Run(t.Context(), Config{BaseURLs: []string{url}, Token: asDID, Groups: small(), VerifyOnly: true})
	if !errors.Is(err, &client.Error{Name: conversation.ConvoNotFound}) {
		t.Errorf("got %v", err)
	}
}

// TestReplaySurvivesFaults: refusals for now, lost connections and unknown
// outcomes at every kind of request, over two nodes.
func TestReplaySurvivesFaults(t *testing.T) {
	f, url := newFake(t)
	faults := 0
	f.fault = func(n int, _ string) spoil {
		if n%3 != 0 {
			return nothing
		}
		faults++
		return []spoil{refuse, lose, doubtful}[faults%3]
	}
	s, err := Run(t.Context(), Config{BaseURLs: []string{url, url + "/"}, Token: asDID, Groups: small()})
	if err != nil {
		t.Fatal(err)
	}
	// Not every fault is seen: net/http itself sends a query again whose
	// connection turns out closed.
	if faults < 20 || s.Requests.Repeated < 20 || s.Requests.Repeated > faults {
		t.Errorf("%d requests were repeated after %d faults", s.Requests.Repeated, faults)
	}
}

func TestRemovePolicyIsNamed(t *testing.T) {
	f, url := newFake(t)
	f.policy.AnyMemberRemoves = false
	_, err := Run(t.Context(), Config{BaseURLs: []string{url}, Token: asDID, Groups: small()})
	if err == nil || !strings.Contains(err.Error(), "REMOVE_POLICY=member") || !strings.Contains(err.Error(), "step 9 (leaveConvo by did:plc:carol") {
		t.Errorf("got %v", err)
	}
}

// Whoever replays may bring the way to the nodes, and sees every attempt.
func TestOwnHTTPAndObservation(t *testing.T) {
	_, url := newFake(t)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	var sent, seen atomic.Int64
	s, err := Run(t.Context(), Config{
		BaseURLs: []string{url}, Token: asDID, Groups: small(),
		HTTP: &http.Client{Transport: counted{transport, &sent}}, Observe: func(client.Observation) { seen.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(s.Requests.Requests); n == 0 || sent.Load() != n || seen.Load() != n {
		t.Errorf("%d requests by the summary, %d sent, %d seen", n, sent.Load(), seen.Load())
	}
}

type counted struct {
	http.RoundTripper
	n *atomic.Int64
}

func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.RoundTripper.RoundTrip(r)
}

func TestBeforeStep(t *testing.T) {
	_, url := newFake(t)
	var mu sync.Mutex
	var seen []Step
	stop := errors.New("stop here")
	// The beginning of the large group, with those who are in it by then.
	other := transcripts.Large()
	other.People, other.Steps = other.People[:4], other.Steps[:10]
	groups := append(small(), other)
	_, err := Run(t.Context(), Config{BaseURLs: []string{url}, Token: asDID, Groups: groups, BeforeStep: func(_ context.Context, s Step) error {
		mu.Lock()
		defer mu.Unlock()
		if s.Group == "small" {
			seen = append(seen, s)
			if s.Index == 2 {
				return stop
			}
		}
		return nil
	}})
	if !errors.Is(err, stop) || !strings.Contains(err.Error(), "group small: step 2 (sendMessage by") {
		t.Errorf("got %v", err)
	}
	if strings.Contains(err.Error(), "large") {
		t.Errorf("the other group was drawn in: %v", err)
	}
	alice := transcripts.Small().Steps[0].By
	want := []Step{
		{"small", "67726f75702d736d616c6c", 0, 12, transcripts.CreateConvo, alice},
		{"small", "67726f75702d736d616c6c", 1, 12, transcripts.AddMembers, alice},
		{"small", "67726f75702d736d616c6c", 2, 12, transcripts.SendMessage, alice},
	}
	if !slices.Equal(seen, want) {
		t.Errorf("steps %+v, want %+v", seen, want)
	}
}

func TestReplayEndsWithItsContext(t *testing.T) {
	_, url := newFake(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	_, err := Run(ctx, Config{BaseURLs: []string{url}, Token: asDID, Groups: small(), BeforeStep: func(_ context.Context, s Step) error {
		if s.Index == 5 {
			cancel(cause)
		}
		return nil
	}})
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// TestMismatches spoils one thing of one kind of answer at a time: the replay
// must name it, and must not show what was encrypted.
func TestMismatches(t *testing.T) {
	first := func(m map[string]any, list string) map[string]any {
		if l, _ := m[list].([]any); len(l) > 0 {
			e, _ := l[0].(map[string]any)
			return e
		}
		return map[string]any{}
	}
	plus := func(m map[string]any, field string) {
		if n, ok := m[field].(float64); ok {
			m[field] = n + 1
		}
	}
	flip := func(m map[string]any, field string) {
		if b, ok := m[field].(map[string]any); ok {
			raw, _ := base64.StdEncoding.DecodeString(b["$bytes"].(string))
			raw[len(raw)-1] ^= 1
			b["$bytes"] = base64.StdEncoding.EncodeToString(raw)
		}
	}
	drop := func(m map[string]any, list string, i int) {
		if l, _ := m[list].([]any); len(l) > i {
			m[list] = slices.Delete(l, i, i+1)
		}
	}
	tests := []struct {
		name, endpoint string
		tamper         func(m map[string]any)
		want           []string // in the error's text
	}{
		{"a flipped bit", "getMessages", func(m map[string]any) { flip(first(m, "messages"), "ciphertext") }, []string{"getMessages", "step 1", "ciphertext is", "bytes with SHA-256"}},
		{"another epoch", "getMessages", func(m map[string]any) { plus(first(m, "messages"), "epoch") }, []string{"row 1 (step 1)", "epoch is 2, want 1"}},
		{"another seq", "getMessages", func(m map[string]any) { plus(first(m, "messages"), "seq") }, []string{"seq is 2, want 1"}},
		{"another sender", "getMessages", func(m map[string]any) { first(m, "messages")["sender"] = "did:plc:eve" }, []string{`sender is "did:plc:eve", want "did:plc:alice`}},
		{"another kind", "getMessages", func(m map[string]any) { first(m, "messages")["messageType"] = "app" }, []string{`messageType is "app", want "commit"`}},
		{"another conversation", "getMessages", func(m map[string]any) { first(m, "messages")["convoId"] = "00" }, []string{"convoId"}},
		{"another time", "getMessages", func(m map[string]any) {
			if l, _ := m["messages"].([]any); len(l) > 2 {
				l[2].(map[string]any)["createdAt"] = "2020-01-01T00:00:00Z"
			}
		}, []string{"createdAt is 2020", "not before the row before it", "as it was acknowledged"}},
		{"another id", "getMessages", func(m map[string]any) {
			if l, _ := m["messages"].([]any); len(l) > 2 {
				l[2].(map[string]any)["id"] = "x"
			}
		}, []string{`id is "x"`}},
		{"a message lost", "getMessages", func(m map[string]any) { drop(m, "messages", 2) }, []string{"number of messages is 10, want 11"}},
		{"two out of order", "getMessages", func(m map[string]any) {
			if l, _ := m["messages"].([]any); len(l) > 2 {
				l[1], l[2] = l[2], l[1]
			}
		}, []string{"row 2 (step 2): seq is 3, want 2"}},
		{"lastSeq", "getMessages", func(m map[string]any) { plus(m, "lastSeq") }, []string{"lastSeq is 12, want 11", "lastSeq is 10, want 9"}},
		{"unread not reset", "getConvos", func(m map[string]any) { plus(first(m, "conversations"), "unreadCount") }, []string{"unreadCount is 5, want 4", "unreadCount is 1, want 0"}},
		{"a conversation missing", "getConvos", func(m map[string]any) { drop(m, "conversations", 0) }, []string{"conversations is without this one, want with it"}},
		{"a former member listed", "getConvos", func(m map[string]any) {
			m["conversations"] = []any{map[string]any{"id": transcripts.Small().GroupID}}
		}, []string{"want without it", "members is 0 with none too many"}},
		{"another last message", "getConvos", func(m map[string]any) { first(m, "conversations")["lastMessageAt"] = nil }, []string{"lastMessageAt is 0001-01-01"}},
		{"another suite", "getConvos", func(m map[string]any) { first(m, "conversations")["cipherSuite"] = "S" }, []string{`cipherSuite is "S"`}},
		{"a commit lost", "getCommits", func(m map[string]any) { drop(m, "commits", 0) }, []string{"number of commits is 3, want 4"}},
		{"a commit's bytes", "getCommits", func(m map[string]any) { flip(first(m, "commits"), "commitData") }, []string{"getCommits, epoch 1 (step 1): commitData is"}},
		{"a commit too many", "getCommits", func(m map[string]any) {
			if l, _ := m["commits"].([]any); len(l) == 0 {
				m["commits"] = []any{map[string]any{"epoch": 5}}
			}
		}, []string{"past the last epoch: number of commits is 1, want 0"}},
		{"a stale epoch", "getEpoch", func(m map[string]any) {
			if n, _ := m["currentEpoch"].(float64); n > 0 {
				m["currentEpoch"] = n - 1
			}
		}, []string{"getEpoch: currentEpoch is 0, want 1"}},
		{"newEpoch", "addMembers", func(m map[string]any) { plus(m, "newEpoch") }, []string{"step 1 (addMembers by", "newEpoch is 2, want 1"}},
		{"no success", "leaveConvo", func(m map[string]any) { m["success"] = false }, []string{"step 7 (leaveConvo by", "success is false, want true"}},
		{"a sent message's seq", "sendMessage", func(m map[string]any) { plus(m, "seq") }, []string{"step 2 (sendMessage by", "seq is 3, want 2"}},
		{"a sent message's epoch", "sendMessage", func(m map[string]any) { plus(m, "epoch") }, []string{"epoch is 2, want 1"}},
		{"a sent message without an id", "sendMessage", func(m map[string]any) { m["messageId"] = "" }, []string{"messageId is empty"}},
		{"the welcome", "getWelcome", func(m map[string]any) { m["welcome"] = "AAAA" }, []string{"did:plc:bob", "welcome is 3 bytes with"}},
		{"the welcome's epoch", "getWelcome", func(m map[string]any) { plus(m, "epoch") }, []string{"getWelcome after step 1: epoch is 2, want 1"}},
		{"the welcome's seq", "getWelcome", func(m map[string]any) { plus(m, "seq") }, []string{"seq is 2, want 1"}},
		{"a welcome not confirmed", "confirmWelcome", func(m map[string]any) { m["confirmed"] = false }, []string{"confirmed is false"}},
		{"a welcome that stays", "refused getWelcome", func(m map[string]any) { m["error"] = "NotMember" }, []string{`error is "NotMember", want "WelcomeNotFound"`}},
		{"a key package's bytes", "getKeyPackages", func(m map[string]any) { first(m, "keyPackages")["keyPackage"] = "AAAA" }, []string{"keyPackage of did:plc:bob"}},
		{"a key package missing", "getKeyPackages", func(m map[string]any) { drop(m, "keyPackages", 0) }, []string{"keyPackages is without that of did:plc:bob"}},
		{"the conversation's creator", "createConvo", func(m map[string]any) { m["creator"] = "did:plc:eve" }, []string{`creator is "did:plc:eve"`}},
		{"an answer to a former member", "refused getEpoch", func(m map[string]any) {
			if m["error"] == "NotMember" {
				m["error"] = "NotAuthorized"
			}
		}, []string{`did:plc:bob`, `error is "NotAuthorized", want "NotMember"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, url := newFake(t)
			f.tamper = func(endpoint, _ string, m map[string]any) {
				if endpoint == tt.endpoint {
					tt.tamper(m)
				}
			}
			_, err := Run(t.Context(), Config{BaseURLs: []string{url}, Token: asDID, Groups: small(), Settle: time.Millisecond})
			var m *Mismatch
			if !errors.As(err, &m) || m.Group != "small" {
				t.Fatalf("got %v, want a mismatch", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q:\n%v", want, err)
				}
			}
			for i, s := range transcripts.Small().Steps {
				for _, b := range [][]byte{s.Ciphertext, s.Commit, s.Welcome} {
					if len(b) > 20 && (strings.Contains(err.Error(), string(b[:20])) || strings.Contains(err.Error(), base64.StdEncoding.EncodeToString(b)[:24])) {
						t.Errorf("the error shows bytes of step %d", i)
					}
				}
			}
		})
	}
}

// A key package that a change did not use up is left over.
func TestMismatchOfKeyPackagesLeft(t *testing.T) {
	f, url := newFake(t)
	cfg := Config{BaseURLs: []string{url}, Token: asDID, Groups: small()}
	if _, err := Run(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, k := range f.keyPackages {
		k.used = false
	}
	cfg.VerifyOnly = true
	_, err := Run(t.Context(), cfg)
	if err == nil || strings.Count(err.Error(), "number of key packages left is 2, want 1") != 3 { // all but the creator
		t.Errorf("got %v", err)
	}
}

func TestUnreadThatIsTooHighIsNotWaitedFor(t *testing.T) {
	f, url := newFake(t)
	f.tamper = func(_, _ string, m map[string]any) {
		if l, _ := m["conversations"].([]any); len(l) > 0 {
			if v := l[0].(map[string]any); v["unreadCount"] != 0.0 {
				v["unreadCount"] = 99
			}
		}
	}
	s, err := Run(t.Context(), Config{BaseURLs: []string{url}, Token: asDID, Groups: small(), Settle: time.Minute})
	if err == nil || !strings.Contains(err.Error(), "unreadCount is 99, want 4") || s.Elapsed > 30*time.Second {
		t.Errorf("got %v after %v", err, s.Elapsed)
	}
}

func TestConfigIsChecked(t *testing.T) {
	twice := append(small(), small()...)
	for name, cfg := range map[string]Config{
		"no node":         {Token: asDID},
		"no tokens":       {BaseURLs: []string{"http://127.0.0.1:1"}},
		"a bad URL":       {BaseURLs: []string{"127.0.0.1"}, Token: asDID},
		"one group twice": {BaseURLs: []string{"http://127.0.0.1:1"}, Token: asDID, Groups: twice},
	} {
		if _, err := Run(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestOutputThatCannotBeWritten(t *testing.T) {
	_, url := newFake(t)
	_, err := Run(t.Context(), Config{BaseURLs: []string{url}, Token: asDID, Groups: small(), Out: brokenWriter{}})
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

func TestErrorsAreBounded(t *testing.T) {
	var errs []error
	for i := range 50 {
		errs = append(errs, fmt.Errorf("error %d", i))
	}
	text := joined(errs).Error()
	if !strings.Contains(text, "error 19") || strings.Contains(text, "error 20") || !strings.HasSuffix(text, "and 30 more") {
		t.Errorf("got %s", text)
	}
	if joined(nil) != nil {
		t.Error("no errors are an error")
	}
}
