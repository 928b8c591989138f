package hostile

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/obs"
)

// evil are texts that do harm where text is taken for more than that: for SQL,
// for a line of a log, for what a terminal does, or for a path.
var evil = []string{
	`'; DROP TABLE messages; --`,
	`' OR '1'='1`,
	`"; DELETE FROM members; --`,
	`$1); DROP TABLE conversations; --`,
	`\'; SELECT pg_sleep(60); --`,
	"a\n{\"time\":\"2026-01-01T00:00:00Z\",\"level\":\"INFO\",\"msg\":\"forged\"}\n",
	"a\r\ntime=2026-01-01T00:00:00Z level=INFO msg=forged component=router\r\n",
	"a\x1b[2J\x1b]0;forged\a\u202e\u2028\u0085b",
	"a\x00b",
	"../../../../etc/passwd%00${jndi:ldap://x}{{7*7}}<script>",
	strings.Repeat("%n%s", 2000),
}

// injector sends what it is told to one node, and counts.
type injector struct {
	t    *testing.T
	node *apptest.Node
	http *http.Client
	sent int
	// convo is a conversation in which nothing has happened yet; "": there is none.
	convo string
	taken int // texts that were not refused
}

func newInjector(t *testing.T, n *apptest.Node) *injector {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &injector{t: t, node: n, http: &http.Client{Transport: transport, Timeout: apptest.Patience}}
}

// call calls a method as did and returns the status and the answer.
func (i *injector) call(did string, m method, in any) (int, map[string]any) {
	i.t.Helper()
	target, body := i.node.URL+"/xrpc/"+client.Prefix+m.name, io.Reader(nil)
	if m.verb == http.MethodGet {
		target += "?" + query(in.(map[string]any)).Encode()
	} else {
		raw, err := json.Marshal(in)
		if err != nil {
			i.t.Fatal(err)
		}
		body = bytes.NewReader(raw)
	}
	return i.send(m.verb, target, body, http.Header{"Authorization": {"Bearer " + token(i.t, did, m.name)}})
}

func (i *injector) send(verb, target string, body io.Reader, h http.Header) (int, map[string]any) {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), verb, target, body)
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header = h
	resp, err := i.http.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	i.sent++
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		i.t.Fatalf("%s %.100s: status %d, no JSON: %v", verb, target, resp.StatusCode, err)
	}
	return resp.StatusCode, out
}

// query writes a flat input as parameters.
func query(in map[string]any) url.Values {
	q := url.Values{}
	for name, v := range in {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, e := range list {
			q.Add(name, fmt.Sprint(e))
		}
	}
	return q
}

const alice, bob = "did:plc:alice", "did:plc:bob"

// fresh makes a conversation of alice and bob.
func (i *injector) fresh() string {
	i.t.Helper()
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	convo := hex.EncodeToString(id[:])
	status, out := i.call(alice, method{name: "createConvo", verb: "POST"}, map[string]any{
		"groupId": convo, "cipherSuite": suite, "initialMembers": []string{bob}, "welcomeMessage": b64("welcome"),
	})
	if status != http.StatusOK {
		i.t.Fatalf("createConvo: %d %v", status, out)
	}
	return convo
}

// good returns a value for a field in which there is no harm.
func good(convo string) func(name string, s *schema) any {
	return func(name string, s *schema) any {
		switch {
		case name == "convoId":
			return convo
		case name == "groupId":
			return hex.EncodeToString([]byte(rand.Text()))
		case name == "cipherSuite":
			return suite
		case name == "didList" || name == "dids":
			return "did:plc:carol"
		case name == "did":
			return bob
		case s.Format == "date-time":
			return time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		case s.Type == "boolean":
			return true
		case s.Type == "integer":
			return 0
		case name == "hash":
			return strings.Repeat("00", 32)
		default:
			return b64("bytes of " + name)
		}
	}
}

// inject puts text into one field of one method, and says what is wrong with
// what came of it, "" for nothing.
func (i *injector) inject(m method, at []string, text string) string {
	i.t.Helper()
	if i.convo == "" {
		i.convo = i.fresh()
	}
	convo := i.convo
	in := m.input.value(at, text, "", good(convo))
	status, out := i.call(alice, m, in)
	name, _ := out["error"].(string)
	switch {
	case status == http.StatusOK:
	case status >= 400 && status < 500 && name != "":
		return "" // refused, and said so
	default:
		return fmt.Sprintf("answered %d %v", status, out)
	}
	// It was taken: what the field holds now is what was sent.
	i.taken++
	i.convo = ""
	field := at[len(at)-1]
	if !isText(field) {
		return ""
	}
	views := []any{out}
	for _, read := range []string{"getMessages", "getConvos"} {
		in := map[string]any{"convoId": convo}
		if read == "getConvos" {
			in = map[string]any{}
		}
		status, out := i.call(bob, method{name: read, verb: "GET"}, in)
		if status != http.StatusOK {
			return fmt.Sprintf("afterwards %s answers %d %v", read, status, out)
		}
		views = append(views, firstOf(out))
	}
	seen := 0
	for _, v := range views {
		got, there := find(v, field)
		if there && got != text {
			return fmt.Sprintf("comes back as %q", got)
		}
		if there {
			seen++
		}
	}
	if seen == 0 {
		return "is not seen again"
	}
	return ""
}

// isText reports whether a field is answered as it was sent: ids are folded, and
// MLS objects are answered in one form of base64.
func isText(field string) bool {
	switch field {
	case "name", "description", "embedUri", "embedType":
		return true
	default:
		return false
	}
}

// firstOf returns the newest conversation or message of a page.
func firstOf(page map[string]any) any {
	for _, list := range []string{"conversations", "messages"} {
		if l, ok := page[list].([]any); ok && len(l) > 0 {
			return l[0]
		}
	}
	return nil
}

// find returns the first string called field in v.
func find(v any, field string) (string, bool) {
	object, ok := v.(map[string]any)
	if !ok {
		return "", false
	}
	if s, ok := object[field].(string); ok {
		return s, true
	}
	for _, inner := range object {
		if s, ok := find(inner, field); ok {
			return s, true
		}
	}
	return "", false
}

// Every text that a client can send, in every field of every method, is data: it
// is stored as it is or refused, no table suffers, and the log has one line for
// each request and none that a client wrote.
func TestInjectionThroughEveryField(t *testing.T) {
	apptest.Databases(t, func(t *testing.T, where apptest.Change) {
		format := obs.FormatJSON
		if strings.HasSuffix(t.Name(), "postgres") {
			format = obs.FormatText
		}
		var log journal
		n := apptest.StartLogging(t, log.logger(t, format), where, apptest.Actors(true))
		i := newInjector(t, n)
		canary := i.fresh()
		fields := 0
		for _, m := range methods(t) {
			for _, at := range m.input.texts([]string{}) {
				fields++
				for _, text := range evil {
					if wrong := i.inject(m, at, text); wrong != "" {
						t.Errorf("%s %s = %.60q: %s", m.name, strings.Join(at, "."), text, wrong)
					}
				}
			}
		}
		if fields < 40 || i.taken < 30 {
			t.Errorf("only %d fields were found, and %d texts taken", fields, i.taken)
		}
		i.injectElsewhere()
		i.unharmed(canary)
		log.check(t, format, i.sent)
		t.Logf("%d requests through %d fields, %d texts taken", i.sent, fields, i.taken)
	})
}

// injectElsewhere goes through what is no field: path, query, headers, claims.
func (i *injector) injectElsewhere() {
	i.t.Helper()
	for _, text := range evil {
		for _, target := range []string{"/xrpc/" + url.PathEscape(text), "/xrpc/" + client.Prefix + "getConvos?" + url.QueryEscape(text) + "=x", "/" + url.PathEscape(text)} {
			if status, out := i.send("GET", i.node.URL+target, nil, http.Header{}); status < 400 || status >= 500 {
				i.t.Errorf("%s: %d %v", target, status, out)
			}
		}
		plain := onOneLine(text)
		h := http.Header{"X-Request-Id": {plain}, "Traceparent": {plain}, "User-Agent": {plain}, "Authorization": {"Bearer " + plain}, "X-Forwarded-For": {plain}}
		if status, out := i.send("GET", i.node.URL+"/xrpc/"+client.Prefix+"getConvos", nil, h); status != 401 {
			i.t.Errorf("headers of %.40q: %d %v", plain, status, out)
		}
		if status, out := i.call("did:plc:a"+text, method{name: "getConvos", verb: "GET"}, map[string]any{}); status != 401 {
			i.t.Errorf("iss of %.40q: %d %v", text, status, out)
		}
	}
}

// onOneLine returns what of text a header can carry.
func onOneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// unharmed checks that what was there before is there still.
func (i *injector) unharmed(canary string) {
	i.t.Helper()
	status, out := i.call(bob, method{name: "getEpoch", verb: "GET"}, map[string]any{"convoId": canary})
	if status != 200 || out["convoId"] != canary {
		i.t.Errorf("the conversation from before: %d %v", status, out)
	}
	ctx, cancel := context.WithTimeout(i.t.Context(), apptest.Patience)
	defer cancel()
	v, err := i.node.Operator(i.t).Integrity(ctx, "")
	if err != nil {
		i.t.Fatal(err)
	}
	if n := v.DuplicateEpochs.Count + v.MissingEpochs.Count + v.SequenceGaps.Count + v.EpochMismatches.Count; n != 0 {
		i.t.Errorf("the log is not whole any more: %+v", v)
	}
}

var (
	textLine = regexp.MustCompile(`^time=\S+ level=[A-Z]+ msg=`)
	control  = regexp.MustCompile(`[\x00-\x09\x0b-\x1f\x7f]|\x{0085}|\x{2028}|\x{202e}`)
)

// check holds a log to its form: each line is one of ours, and each request has
// one.
func (j *journal) check(t *testing.T, format string, requests int) {
	t.Helper()
	found := 0
	for line := range strings.Lines(j.String()) {
		line = strings.TrimSuffix(line, "\n")
		if format == obs.FormatText {
			if !textLine.MatchString(line) || control.MatchString(line) {
				t.Errorf("a line that is not ours: %.300q", line)
			}
			if strings.Contains(line, " msg=request ") {
				found++
			}
			if strings.Contains(line, " msg=forged ") && !strings.Contains(line, `\n`) {
				t.Errorf("a forged line: %.300q", line)
			}
			continue
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil || m["msg"] == "forged" || m["level"] == nil || m["time"] == nil {
			t.Errorf("a line that is not ours: %.300q", line)
		}
		if m["msg"] == "request" {
			found++
		}
	}
	if found != requests {
		t.Errorf("%d requests were sent, %d are in the log", requests, found)
	}
}
