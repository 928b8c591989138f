package router

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"catbird/conversation"
)

// TestHostileTextIsData: what looks like SQL, paths or markup is stored and
// given back as it is.
func TestHostileTextIsData(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	const evil = `'; DROP TABLE messages; -- "\ ../../etc/passwd <script>` + "\u2028\u202e😀"
	a := e.post(alice, "createConvo", obj{"groupId": group, "cipherSuite": suite, "metadata": obj{"name": evil}, "idempotencyKey": evil}).want(t, "")
	if name := a.body["metadata"].(map[string]any)["name"]; name != evil {
		t.Errorf("name comes back as %q", name)
	}
	e.post(alice, "sendMessage", obj{"convoId": group, "epoch": 0, "ciphertext": b64("x"), "embedType": "' OR 1=1", "embedUri": evil, "msgId": "' OR '1'='1"}).want(t, "")
	e.get(alice, "getEpoch", "convoId", "'||(SELECT'1')||'").want(t, conversation.ConvoNotFound)
	e.get(alice, "getMessages", "convoId", group, "sinceMessage", "' OR '1'='1").want(t, conversation.InvalidCursor)
	e.get(alice, "getConvos", "cursor", "' OR '1'='1").want(t, conversation.InvalidCursor)
	e.get(alice, "getKeyPackages", "dids", "did:plc:x' OR '1'='1").want(t, conversation.InvalidRequest)
	if m := e.get(alice, "getMessages", "convoId", group).want(t, "").list("messages")[0]; m["embedUri"] != evil {
		t.Errorf("embedUri comes back as %q", m["embedUri"])
	}
}

func TestHostileBodies(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.convo()
	noise := make([]byte, 1<<12)
	rand.Read(noise)
	for name, body := range map[string]string{
		"noise": string(noise), "deep": strings.Repeat(`{"a":`, 10_000), "deep list": strings.Repeat(`[`, 50_000), "half": `{"convoId":`,
		"twice": `{"convoId":"a"}{"convoId":"b"}`, "zeros": string(make([]byte, 100)), "long list": `{"convoId":"a","didList":[` + strings.Repeat(`"",`, 10_000) + `""]`,
		"huge number": `{"x":1e999999e}`, "xml": `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>`,
	} {
		for _, e2 := range endpoints() {
			if e2.method == "POST" {
				if a := e.post(alice, e2.name, body); a.name() != conversation.InvalidRequest {
					t.Errorf("%s to %s: got %d %.200s", name, e2.name, a.status, a.raw)
				}
			}
		}
	}
}

// FuzzAPI: whatever is sent, the answer is one of the API's, and never a fault.
func FuzzAPI(f *testing.F) {
	f.Add("sendMessage", `{"convoId":"abcdef012345","epoch":0,"ciphertext":{"$bytes":"AQI="}}`, "")
	f.Add("createConvo", `{"groupId":"aa","cipherSuite":"`+suite+`","initialMembers":["did:plc:x"],"currentEpoch":1}`, "")
	f.Add("addMembers", `{"convoId":"abcdef012345","didList":["did:web:x"],"keyPackageHashes":[{"did":"did:web:x","hash":"00"}]}`, "")
	f.Add("getMessages", "", "convoId=abcdef012345&sinceMessage=x&limit=3")
	f.Add("getConvos", "", "cursor=bm9wZQ&limit=3")
	f.Add("getKeyPackages", "", "dids=did:plc:a&dids=did:plc:b")
	f.Add("getCommits", "", "convoId=abcdef012345&fromEpoch=0&toEpoch=9223372036854775807")
	e := newEnv(f, func(c *Config) { c.Logger = slog.New(slog.DiscardHandler) })
	e.convo(bob)
	methods := map[string]string{}
	for _, ep := range endpoints() {
		methods[ep.name] = ep.method
	}
	f.Fuzz(func(t *testing.T, name, body, query string) {
		method, known := methods[name]
		if !known {
			return
		}
		r := as(alice, httptest.NewRequest(method, "/xrpc/"+Prefix+name, bytes.NewReader([]byte(body))))
		r.URL.RawQuery = query
		rec := httptest.NewRecorder()
		e.handler.ServeHTTP(rec, r)
		a := readAnswer(t, rec.Result())
		if _, ok := statusOf[a.name()]; !ok && a.status != 200 || a.status >= 500 {
			t.Fatalf("%s %q %q: %d %s", name, body, query, a.status, a.raw)
		}
	})
}
