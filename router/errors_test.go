package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"catbird/conversation"
	"catbird/internal/auth"
	"catbird/persistence"
)

// errorTest leads to one error of the API's table.
type errorTest struct {
	env   func(*Config) // changes the configuration
	setUp func(e *env)
	call  func(e *env) answer
}

func delivers(err error) func(*Config) {
	return func(c *Config) { c.Delivery = refusing(err) }
}

func epochOf(did, convo string) func(*env) answer {
	return func(e *env) answer { return e.get(did, "getEpoch", "convoId", convo) }
}

func posting(did, name string, body obj) func(*env) answer {
	return func(e *env) answer { return e.post(did, name, body) }
}

func twoMembers(e *env) { e.convo(bob) }

// errorTests lead to every error there is.
var errorTests = map[conversation.Code]errorTest{
	conversation.InvalidRequest: {call: epochOf(alice, "")},
	conversation.InvalidCursor: {setUp: twoMembers, call: func(e *env) answer {
		return e.get(alice, "getMessages", "convoId", group, "sinceMessage", "0198c0de-0000-7000-8000-000000000000")
	}},
	conversation.InvalidEpochRange: {setUp: twoMembers, call: func(e *env) answer {
		return e.get(alice, "getCommits", "convoId", group, "fromEpoch", "3", "toEpoch", "2")
	}},
	conversation.InvalidCipherSuite: {call: posting(alice, "createConvo", obj{"groupId": group, "cipherSuite": "ROT13"})},
	conversation.InvalidKeyPackage:  {call: posting(alice, "publishKeyPackage", obj{"keyPackage": "", "cipherSuite": suite})},
	conversation.InvalidCommit: {setUp: twoMembers, call: func(e *env) answer { // an application message
		r := loadRecording(e.t, "small")
		return e.post(alice, "commit", obj{"convoId": group, "commit": r.Steps[2].Ciphertext})
	}},
	conversation.ExpirationTooFar: {call: func(e *env) answer {
		return e.post(alice, "publishKeyPackage", obj{"keyPackage": b64("k"), "cipherSuite": suite, "expires": time.Now().AddDate(0, 0, 91)})
	}},
	conversation.TooManyMembers: {
		env:  func(c *Config) { c.Policy = conversation.Policy{MaxMembers: 1} },
		call: posting(alice, "createConvo", obj{"groupId": group, "cipherSuite": suite, "initialMembers": []string{bob}}),
	},
	conversation.TooManyDids: {call: func(e *env) answer {
		var q []string
		for i := range 101 {
			q = append(q, "dids", fmt.Sprint("did:plc:", i))
		}
		return e.get(alice, "getKeyPackages", q...)
	}},
	conversation.TooManyKeyPackages: {
		setUp: func(e *env) {
			for i := range 100 {
				e.post(bob, "publishKeyPackage", obj{"keyPackage": b64(fmt.Sprint(i)), "cipherSuite": suite}).want(e.t, "")
			}
		},
		call: posting(bob, "publishKeyPackage", obj{"keyPackage": b64("one more"), "cipherSuite": suite}),
	},
	conversation.LastMember: {setUp: func(e *env) { e.convo() }, call: posting(alice, "leaveConvo", obj{"convoId": group})},

	conversation.AuthenticationRequired: {call: epochOf("", group)},
	conversation.InvalidToken: {call: func(e *env) answer {
		return e.serve(withToken(token(alice)+"x", request("GET", "/xrpc/"+Prefix+"getEpoch?convoId=a", "")))
	}},
	conversation.ExpiredToken: {
		env: func(c *Config) { c.Verifier = newVerifierAt(time.Now().Add(time.Hour)) }, call: epochOf(alice, group),
	},
	conversation.ReplayDetected: {
		env: func(c *Config) {
			c.Verifier = fakeVerifier{conversation.Refuse(conversation.ReplayDetected, "used")}
		},
		call: epochOf(alice, group),
	},

	conversation.NotMember:          {setUp: twoMembers, call: epochOf(carol, group)},
	conversation.NotAuthorized:      {setUp: twoMembers, call: posting(bob, "leaveConvo", obj{"convoId": group, "targetDid": alice})},
	conversation.ConvoNotFound:      {call: epochOf(alice, group)},
	conversation.WelcomeNotFound:    {setUp: twoMembers, call: func(e *env) answer { return e.get(bob, "getWelcome", "convoId", group) }},
	conversation.KeyPackageNotFound: {setUp: twoMembers, call: posting(alice, "addMembers", obj{"convoId": group, "didList": []string{carol}, "keyPackageHashes": []obj{{"did": carol, "hash": hashOf("x")}}})},
	conversation.MethodNotFound:     {call: posting(alice, "deleteEverything", obj{})},

	conversation.EpochMismatch:      {setUp: twoMembers, call: func(e *env) answer { return e.send(alice, 1, "x") }},
	conversation.AlreadyMember:      {setUp: twoMembers, call: posting(alice, "addMembers", obj{"convoId": group, "didList": []string{bob}})},
	conversation.TargetNotMember:    {setUp: twoMembers, call: posting(alice, "leaveConvo", obj{"convoId": group, "targetDid": carol})},
	conversation.ConvoAlreadyExists: {setUp: twoMembers, call: posting(carol, "createConvo", obj{"groupId": strings.ToUpper(group), "cipherSuite": suite})},
	conversation.IdempotencyConflict: {
		setUp: func(e *env) {
			e.convo(bob)
			e.post(alice, "commit", obj{"convoId": group, "commit": b64("one"), "idempotencyKey": "k"}).want(e.t, "")
		},
		call: posting(alice, "commit", obj{"convoId": group, "commit": b64("two"), "idempotencyKey": "k"}),
	},

	conversation.MessageTooLarge: {setUp: twoMembers, call: func(e *env) answer {
		return e.send(alice, 0, strings.Repeat("x", conversation.MaxMessage+1))
	}},
	conversation.RateLimitExceeded: {
		env:   func(c *Config) { c.RateLimit, c.RateBurst = 0.001, 1 },
		setUp: func(e *env) { epochOf(alice, group)(e).want(e.t, conversation.ConvoNotFound) }, call: epochOf(alice, group),
	},
	conversation.MailboxFull:         {env: delivers(conversation.Refuse(conversation.MailboxFull, "x")), call: epochOf(alice, group)},
	conversation.Overloaded:          {env: delivers(conversation.Refuse(conversation.Overloaded, "x")), call: epochOf(alice, group)},
	conversation.Unavailable:         {env: delivers(fmt.Errorf("read: %w", persistence.ErrUnavailable)), call: epochOf(alice, group)},
	conversation.Draining:            {env: delivers(conversation.Refuse(conversation.Draining, "x")), call: epochOf(alice, group)},
	conversation.OutcomeUnknown:      {env: delivers(fmt.Errorf("append: %w", persistence.ErrOutcomeUnknown)), call: func(e *env) answer { return e.send(alice, 0, "x") }},
	conversation.InternalServerError: {env: delivers(errors.New("SELECT secret FROM tokens")), call: epochOf(alice, group)},
}

func withToken(token string, r *http.Request) *http.Request {
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func newVerifierAt(now time.Time) Verifier {
	v, err := auth.New(auth.Config{JWTSecret: secret, Clock: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	return v
}

func TestEveryError(t *testing.T) {
	t.Parallel()
	for code := range statusOf {
		if _, tested := errorTests[code]; !tested {
			t.Errorf("no test leads to %s", code)
		}
	}
	for code, tt := range errorTests {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, tt.env)
			if tt.setUp != nil {
				tt.setUp(e)
			}
			a := tt.call(e).want(t, code)
			checkErrorAnswer(t, e, a)
			if n := testutil.ToFloat64(e.rt.metrics.errors[code]); n != 1 {
				t.Errorf("counted %v times", n)
			}
		})
	}
}

// checkErrorAnswer checks what all error answers have in common.
func checkErrorAnswer(t *testing.T, e *env, a answer) {
	t.Helper()
	if message, _ := a.body["message"].(string); message == "" || strings.Contains(message, "SELECT") {
		t.Errorf("message %q", message)
	}
	if got, want := a.header.Get("Content-Type"), "application/json"; got != want {
		t.Errorf("content type %q", got)
	}
	needs := a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests
	if got := a.header.Get("Retry-After"); (got != "") != needs || got == "0" {
		t.Errorf("Retry-After %q with status %d", got, a.status)
	}
	if got := a.header.Get("WWW-Authenticate"); (got != "") != (a.status == http.StatusUnauthorized) {
		t.Errorf("WWW-Authenticate %q with status %d", got, a.status)
	}
	id := a.header.Get("X-Request-Id")
	lines := e.logs.lines(t, "request")
	last := lines[len(lines)-1]
	if id == "" || last["request_id"] != id || last["status"] != float64(a.status) || last["error"] != string(a.name()) {
		t.Errorf("request %q is logged as %v", id, last)
	}
	if faults := e.logs.lines(t, "request failed"); (len(faults) == 1) != (a.status == 500) {
		t.Errorf("faults logged: %v", faults)
	} else if len(faults) == 1 && faults[0]["request_id"] != id {
		t.Errorf("fault of request %s logged as %v", id, faults[0])
	}
}

// TestFieldsAreNamed: a refusal of the form says which field it is about.
func TestFieldsAreNamed(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	long := strings.Repeat("x", 10_000)
	dids := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprint("did:plc:", i))
		}
		return out
	}
	create := func(field string, v any) obj {
		return obj{"groupId": group, "cipherSuite": suite, "initialMembers": []string{bob}, field: v}
	}
	add := func(field string, v any) obj {
		return obj{"convoId": group, "didList": []string{bob}, field: v}
	}
	send := func(field string, v any) obj {
		return obj{"convoId": group, "ciphertext": b64("x"), "epoch": 0, field: v}
	}
	hashes := func(did, hash string) []obj { return []obj{{"did": did, "hash": hash}} }
	for i, tt := range []struct {
		name  string
		body  any // an obj, or the parameters of a query
		field string
	}{
		{"createConvo", create("groupId", "xyz"), "groupId"},
		{"createConvo", create("groupId", "abc"), "groupId"},
		{"createConvo", create("groupId", strings.Repeat("ab", 65)), "groupId"},
		{"createConvo", create("groupId", ""), "groupId"},
		{"createConvo", create("initialMembers", dids(101)), "initialMembers"},
		{"createConvo", create("initialMembers", []string{"bob"}), "initialMembers"},
		{"createConvo", create("initialMembers", []string{bob, bob}), "initialMembers"},
		{"createConvo", create("metadata", obj{"name": strings.Repeat("é", 129)}), "metadata.name"},
		{"createConvo", create("metadata", obj{"description": strings.Repeat("é", 513)}), "metadata.description"},
		{"createConvo", create("metadata", obj{"name": 5}), "metadata.name"},
		{"createConvo", create("metadata", obj{"name": "a\x00"}), "metadata.name"},
		{"createConvo", create("currentEpoch", 2), "currentEpoch"},
		{"createConvo", create("currentEpoch", -1), "currentEpoch"},
		{"createConvo", create("keyPackageHashes", hashes("carol", hashOf("x"))), "keyPackageHashes"},
		{"createConvo", create("keyPackageHashes", hashes(bob, "zz")), "keyPackageHashes"},
		{"createConvo", create("keyPackageHashes", []obj{{"did": bob}}), "keyPackageHashes[0].hash"},
		{"createConvo", create("idempotencyKey", long), "idempotencyKey"},
		{"createConvo", create("welcomeMessage", "***"), "welcomeMessage"},
		{"addMembers", add("didList", []string{}), "didList"},
		{"addMembers", add("didList", dids(51)), "didList"},
		{"addMembers", add("didList", bob), "didList"},
		{"addMembers", add("didList", []any{bob, 5}), "didList[1]"},
		{"addMembers", obj{"convoId": group}, "didList"},
		{"addMembers", obj{"didList": []string{bob}}, "convoId"},
		{"addMembers", add("convoId", "with space"), "convoId"},
		{"addMembers", add("convoId", long), "convoId"},
		{"addMembers", add("expectedEpoch", -1), "expectedEpoch"},
		{"addMembers", add("expectedEpoch", "1"), "expectedEpoch"},
		{"addMembers", add("commit", obj{"$bytes": "AQI="}), "commit"},
		{"leaveConvo", obj{"convoId": group, "targetDid": "x"}, "targetDid"},
		{"commit", obj{"convoId": group}, "commit"},
		{"commit", obj{"convoId": group, "commit": ""}, "commit"},
		{"sendMessage", obj{"convoId": group, "ciphertext": b64("x")}, "epoch"},
		{"sendMessage", send("epoch", -1), "epoch"},
		{"sendMessage", send("epoch", 1.5), "epoch"},
		{"sendMessage", send("ciphertext", ""), "ciphertext"},
		{"sendMessage", send("ciphertext", nil), "ciphertext"},
		{"sendMessage", send("ciphertext", 5), "ciphertext"},
		{"sendMessage", send("senderDid", bob), "senderDid"},
		{"sendMessage", send("msgId", strings.Repeat("x", 65)), "msgId"},
		{"sendMessage", send("embedType", long), "embedType"},
		{"sendMessage", send("embedUri", long), "embedUri"},
		{"confirmWelcome", obj{"convoId": group}, "success"},
		{"confirmWelcome", obj{"convoId": group, "success": "yes"}, "success"},
		{"publishKeyPackage", obj{"cipherSuite": suite}, "keyPackage"},
		{"publishKeyPackage", obj{"keyPackage": "*", "cipherSuite": suite}, "keyPackage"},
		{"publishKeyPackage", obj{"keyPackage": "AQ==", "cipherSuite": suite, "expires": "soon"}, "expires"},
		{"publishKeyPackage", obj{"keyPackage": "AQ==", "cipherSuite": suite, "expires": "2020-01-01T00:00:00Z"}, "expires"},
		{"getMessages", []string{}, "convoId"},
		{"getMessages", []string{"convoId", group, "limit", "0"}, "limit"},
		{"getMessages", []string{"convoId", group, "limit", "101"}, "limit"},
		{"getMessages", []string{"convoId", group, "sinceSeq", "-1"}, "sinceSeq"},
		{"getMessages", []string{"convoId", group, "sinceSeq", "1", "sinceMessage", "x"}, "sinceSeq"},
		{"getMessages", []string{"convoId", group, "sinceMessage", "a\x00"}, "sinceMessage"},
		{"getEpoch", []string{"convoId", group, "convoId", group}, "convoId"},
		{"getCommits", []string{"convoId", group}, "fromEpoch"},
		{"getCommits", []string{"convoId", group, "fromEpoch", "-1"}, "fromEpoch"},
		{"getConvos", []string{"limit", "x"}, "limit"},
		{"getConvos", []string{"limit", "101"}, "limit"},
		{"getWelcome", []string{}, "convoId"},
		{"getKeyPackages", []string{}, "dids"},
		{"getKeyPackages", []string{"dids", "bob"}, "dids"},
	} {
		var a answer
		if q, ok := tt.body.([]string); ok {
			a = e.get(alice, tt.name, q...)
		} else {
			a = e.post(alice, tt.name, tt.body)
		}
		message, _ := a.body["message"].(string)
		if a.status != 400 || a.name() != conversation.InvalidRequest || !strings.HasPrefix(message, tt.field+":") {
			t.Errorf("%d: %s %v: got %d %.200s, want InvalidRequest about %s", i, tt.name, tt.body, a.status, a.raw, tt.field)
		}
	}
}

// TestOrderOfChecks: each call is wrong in two ways, and hears of the first.
func TestOrderOfChecks(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.convo(bob)
	e.post(alice, "commit", obj{"convoId": group, "commit": b64("one"), "idempotencyKey": "k"}).want(t, "")
	for name, tt := range map[string]struct {
		a    answer
		want conversation.Code
	}{
		"token before form":         {e.post("", "sendMessage", "{"), conversation.AuthenticationRequired},
		"token before size":         {e.post("", "sendMessage", strings.Repeat(" ", bodyMessage+1)), conversation.AuthenticationRequired},
		"form before existence":     {e.post(alice, "sendMessage", obj{"convoId": "ff", "epoch": -1, "ciphertext": b64("x")}), conversation.InvalidRequest},
		"form before membership":    {e.post(carol, "addMembers", obj{"convoId": group, "didList": []string{}}), conversation.InvalidRequest},
		"range before membership":   {e.get(carol, "getCommits", "convoId", group, "fromEpoch", "2", "toEpoch", "1"), conversation.InvalidEpochRange},
		"suite before groupId":      {e.post(alice, "createConvo", obj{"groupId": group, "cipherSuite": "x"}), conversation.InvalidCipherSuite},
		"key before epoch":          {e.post(alice, "commit", obj{"convoId": group, "commit": b64("two"), "idempotencyKey": "k", "expectedEpoch": 7}), conversation.IdempotencyConflict},
		"existence before epoch":    {e.post(alice, "commit", obj{"convoId": "ff", "commit": b64("x"), "expectedEpoch": 7}), conversation.ConvoNotFound},
		"membership before epoch":   {e.post(carol, "commit", obj{"convoId": group, "commit": b64("x"), "expectedEpoch": 7}), conversation.NotMember},
		"epoch before the rest":     {e.post(alice, "addMembers", obj{"convoId": group, "didList": []string{bob}, "expectedEpoch": 0}), conversation.EpochMismatch},
		"epoch before the target":   {e.post(alice, "leaveConvo", obj{"convoId": group, "targetDid": carol, "expectedEpoch": 0}), conversation.EpochMismatch},
		"epoch before rights":       {e.post(bob, "leaveConvo", obj{"convoId": group, "targetDid": alice, "expectedEpoch": 0}), conversation.EpochMismatch},
		"epoch before key packages": {e.post(alice, "addMembers", obj{"convoId": group, "didList": []string{carol}, "expectedEpoch": 0, "keyPackageHashes": []obj{{"did": carol, "hash": hashOf("x")}}}), conversation.EpochMismatch},
	} {
		if tt.a.name() != tt.want {
			t.Errorf("%s: got %d %s, want %s", name, tt.a.status, tt.a.raw, tt.want)
		}
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for i, tt := range []struct {
		err      error
		changing bool
		want     conversation.Code
	}{
		{fmt.Errorf("x: %w", conversation.Refuse(conversation.NotMember, "x")), true, conversation.NotMember},
		{conversation.Refuse("SomethingNew", "x"), false, conversation.InternalServerError},
		{conversation.Refuse(conversation.InternalServerError, "SELECT x"), false, conversation.InternalServerError},
		{fmt.Errorf("x: %w", persistence.ErrUnavailable), true, conversation.Unavailable},
		{fmt.Errorf("x: %w", persistence.ErrOutcomeUnknown), true, conversation.OutcomeUnknown},
		{fmt.Errorf("x: %w", persistence.ErrOutcomeUnknown), false, conversation.Unavailable},
		{context.DeadlineExceeded, true, conversation.OutcomeUnknown},
		{context.DeadlineExceeded, false, conversation.Unavailable},
		{context.Canceled, true, conversation.OutcomeUnknown},
		{&persistence.HeldError{}, true, conversation.InternalServerError},
		{errors.New("x"), true, conversation.InternalServerError},
	} {
		got := classify(tt.err, tt.changing)
		if got.Code != tt.want || strings.Contains(got.Message, "SELECT") {
			t.Errorf("%d: %v: got %v, want %s", i, tt.err, got, tt.want)
		}
	}
}

func TestWrongVerbAndUnknownPath(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for _, tt := range []struct {
		method, path string
		want         conversation.Code
		allow        string
	}{
		{"GET", "/xrpc/" + Prefix + "sendMessage", conversation.InvalidRequest, "POST"},
		{"DELETE", "/xrpc/" + Prefix + "getEpoch", conversation.InvalidRequest, "GET"},
		{"BREW", "/xrpc/" + Prefix + "getEpoch", conversation.InvalidRequest, "GET"},
		{"GET", "/xrpc/" + Prefix + "getepoch", conversation.MethodNotFound, ""},
		{"GET", "/xrpc/" + Prefix + "getEpoch/", conversation.MethodNotFound, ""},
		{"POST", "/xrpc/com.atproto.server.createSession", conversation.MethodNotFound, ""},
		{"GET", "/", conversation.MethodNotFound, ""},
		{"GET", "/xrpc/../etc/passwd", conversation.MethodNotFound, ""},
		{"GET", "/%0aforged", conversation.MethodNotFound, ""},
	} {
		a := e.serve(as(alice, request(tt.method, tt.path, ""))).want(t, tt.want)
		if a.header.Get("Allow") != tt.allow || a.header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s: header %v", tt.method, tt.path, a.header)
		}
	}
	if n := testutil.ToFloat64(e.rt.metrics.requests.WithLabelValues("unknown", "404")); n != 6 {
		t.Errorf("%v requests counted as unknown, want 6", n)
	}
	var labels []string
	families, err := e.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
		}
	}
	if slices.ContainsFunc(labels, func(l string) bool { return strings.Contains(l, "/") || strings.Contains(l, "BREW") }) {
		t.Errorf("clients can make label values: %v", labels)
	}
}
