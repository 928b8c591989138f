package load_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/load"
)

// object is a JSON object; numbers are json.Number.
type object = map[string]any

// exchange is a request that a node has answered, and that may be told
// differently.
type exchange struct {
	endpoint string
	query    url.Values
	in       object // of a procedure
	status   int
	out      object
	// again asks the node as the same caller, with another body, and reports
	// whether it did it.
	again func(in object) bool
}

func (x *exchange) rows() []any {
	rows, _ := x.out["messages"].([]any)
	return rows
}

// behind starts a proxy before a node that lets lie see, and change, every
// answer.
func behind(t *testing.T, node string, lie func(*exchange)) string {
	t.Helper()
	target, err := url.Parse(node)
	if err != nil {
		t.Fatal(err)
	}
	transport := client.NewTransport()
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		x := &exchange{endpoint: strings.TrimPrefix(r.URL.Path, "/xrpc/"+client.Prefix), query: r.URL.Query(), in: parse(body)}
		answer := forward(proxy, r, body)
		x.status, x.out = answer.Code, parse(answer.Body.Bytes())
		x.again = func(in object) bool {
			again := r.Clone(r.Context())
			again.Header.Set("Authorization", fresh(r.Header.Get("Authorization"), x.endpoint))
			b, _ := json.Marshal(in)
			return forward(proxy, again, b).Code == http.StatusOK
		}
		lie(x)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(x.status)
		_ = json.NewEncoder(w).Encode(x.out)
	}))
	t.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
	})
	return s.URL
}

// fresh returns another token of the same caller, as one is good once.
func fresh(bearer, endpoint string) string {
	claims, _ := base64.RawURLEncoding.DecodeString(strings.Split(bearer, ".")[1])
	tok, _ := client.HS256([]byte(apptest.Secret), "")(text(parse(claims), "iss"), client.Prefix+endpoint)
	return "Bearer " + tok
}

func forward(proxy http.Handler, r *http.Request, body []byte) *httptest.ResponseRecorder {
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	answer := httptest.NewRecorder()
	proxy.ServeHTTP(answer, r)
	return answer
}

func parse(b []byte) (o object) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	_ = d.Decode(&o) // a query has no body
	return o
}

func text(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

func number(o object, name string) int64 {
	n, _ := o[name].(json.Number)
	i, _ := n.Int64()
	return i
}

// add changes a number.
func add(o object, name string, by int64) { o[name] = number(o, name) + by }

// once returns a function that is true the first time that it is called after
// some others.
func once(after int64) func() bool {
	var n atomic.Int64
	return func() bool { return n.Add(1) == after+1 }
}

func sent(x *exchange) bool { return x.endpoint == "sendMessage" && x.status == http.StatusOK }

func answered(x *exchange, endpoint string) bool {
	return x.endpoint == endpoint && x.status == http.StatusOK
}

// Each lie that a cluster may tell is found, by its name; without a lie nothing
// is found.
func TestLiesAreFound(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	later := once(3)
	for _, test := range []struct {
		name string
		want []load.Kind
		lie  func() func(*exchange)
	}{
		{"none", nil, func() func(*exchange) { return func(*exchange) {} }},
		{"loses a message", []load.Kind{load.Lost, load.Gap}, func() func(*exchange) {
			return func(x *exchange) { // a row is missing wherever it is read
				var kept []any
				for _, row := range x.rows() {
					if number(row.(object), "seq") != 3 {
						kept = append(kept, row)
					}
				}
				if x.rows() != nil {
					x.out["messages"] = kept
				}
			}
		}},
		{"loses the newest messages", []load.Kind{load.Lost, load.StaleAnswer}, func() func(*exchange) {
			return func(x *exchange) {
				if answered(x, "getMessages") {
					var kept []any
					for _, row := range x.rows() {
						if number(row.(object), "seq") <= 5 {
							kept = append(kept, row)
						}
					}
					x.out["messages"], x.out["lastSeq"] = kept, min(number(x.out, "lastSeq"), 5)
				}
			}
		}},
		{"stores a message twice", []load.Kind{load.Duplicated}, func() func(*exchange) {
			var done atomic.Bool
			return func(x *exchange) {
				if sent(x) && !done.Load() {
					in := maps.Clone(x.in)
					in["idempotencyKey"] = "another"
					done.Store(x.again(in)) // not if the epoch has moved
				}
			}
		}},
		{"tells a message twice", []load.Kind{load.Duplicated}, func() func(*exchange) {
			return func(x *exchange) { // in the place of the one after it
				if rows := x.rows(); len(rows) > 3 {
					rows[2].(object)["ciphertext"] = rows[1].(object)["ciphertext"]
				}
			}
		}},
		{"changes the order", []load.Kind{load.Misplaced}, func() func(*exchange) {
			return func(x *exchange) {
				for i, row := range x.rows() {
					if i > 0 && number(row.(object), "seq")%4 == 0 {
						a, b := row.(object), x.rows()[i-1].(object)
						for _, name := range []string{"id", "ciphertext", "sender"} {
							a[name], b[name] = b[name], a[name]
						}
					}
				}
			}
		}},
		{"changes bytes", []load.Kind{load.Altered}, func() func(*exchange) {
			return func(x *exchange) {
				for _, row := range x.rows() {
					if c, ok := row.(object)["ciphertext"].(object); ok {
						c["$bytes"] = strings.Replace(text(c, "$bytes"), "A", "B", 1)
					}
				}
			}
		}},
		{"changes a sender", []load.Kind{load.Altered}, func() func(*exchange) {
			return func(x *exchange) {
				for _, row := range x.rows() {
					row.(object)["sender"] = "did:plc:somebody"
				}
			}
		}},
		{"tells a row of somebody else", []load.Kind{load.Foreign}, func() func(*exchange) {
			return func(x *exchange) {
				for _, row := range x.rows() {
					row.(object)["ciphertext"] = object{"$bytes": "c29tZXRoaW5nIHRoYXQgbm9ib2R5IHNlbnQ"}
				}
			}
		}},
		{"acknowledges another epoch", []load.Kind{load.WrongEpoch}, func() func(*exchange) {
			return func(x *exchange) {
				if sent(x) {
					add(x.out, "epoch", 1)
				}
			}
		}},
		{"acknowledges another seq", []load.Kind{load.Misplaced}, func() func(*exchange) {
			return func(x *exchange) {
				if sent(x) {
					add(x.out, "seq", 1)
				}
			}
		}},
		{"stores with another epoch", []load.Kind{load.WrongEpoch}, func() func(*exchange) {
			return func(x *exchange) {
				for _, row := range x.rows() {
					add(row.(object), "epoch", 1)
				}
			}
		}},
		{"tells an old epoch", []load.Kind{load.StaleAnswer}, func() func(*exchange) {
			return func(x *exchange) {
				if answered(x, "getEpoch") {
					x.out["currentEpoch"] = max(number(x.out, "currentEpoch")-1, 0)
				}
			}
		}},
		{"tells an epoch that never was", []load.Kind{load.WrongEpoch}, func() func(*exchange) {
			return func(x *exchange) {
				if answered(x, "getEpoch") && later() {
					add(x.out, "currentEpoch", 1000)
				}
			}
		}},
		{"gives two commits one epoch", []load.Kind{load.StaleAnswer}, func() func(*exchange) {
			return func(x *exchange) {
				if answered(x, "commit") {
					add(x.out, "newEpoch", -1)
				}
			}
		}},
		{"refuses what it does", []load.Kind{load.RefusedButStored}, func() func(*exchange) {
			return func(x *exchange) {
				if sent(x) {
					x.status, x.out = http.StatusForbidden, object{"error": "NotMember", "message": "no"}
				}
			}
		}},
		{"leaves a commit out", []load.Kind{load.Gap}, func() func(*exchange) {
			return func(x *exchange) {
				if commits, _ := x.out["commits"].([]any); answered(x, "getCommits") && len(commits) > 2 {
					x.out["commits"] = append(commits[:1:1], commits[2:]...)
				}
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, _ := until(t, everything(behind(t, n.URL, test.lie())), operations(150))
			v := r.Verification
			for _, kind := range test.want {
				if v.Counts[kind] == 0 {
					t.Errorf("%s was not found, but %v", kind, v.Counts)
				}
			}
			if r.OK() != (test.want == nil) || !v.Complete {
				t.Errorf("OK is %v: %v %s", r.OK(), v.Counts, v.Error)
			}
			for _, f := range v.Findings {
				if f.Convo == "" || f.Text == "" {
					t.Errorf("a finding that says nothing: %+v", f)
				}
			}
		})
	}
}

// A request that got no answer is repeated as it was, so that the change happens
// once.
func TestRepetitionsCarryTheSameKey(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	var mu sync.Mutex
	seen := map[string][]string{} // bodies by key
	url := behind(t, n.URL, func(x *exchange) {
		key := text(x.in, "idempotencyKey")
		if key == "" || x.endpoint == "createConvo" {
			return
		}
		body, _ := json.Marshal(x.in)
		mu.Lock()
		seen[key] = append(seen[key], string(body))
		first := len(seen[key]) == 1 && len(seen)%3 == 0
		mu.Unlock()
		if first {
			panic(http.ErrAbortHandler) // the node has done it, and nobody hears of it
		}
	})
	r, _ := until(t, everything(url), operations(300))
	if !r.OK() || r.Total.Failed != 0 || r.Repeated == 0 {
		t.Errorf("%d repetitions, errors %+v, verification %+v", r.Repeated, r.Errors, r.Verification)
	}
	repeated := 0
	for key, bodies := range seen {
		for _, b := range bodies[1:] {
			if repeated++; b != bodies[0] {
				t.Errorf("the repetition of %s has another body", key)
			}
		}
	}
	if repeated == 0 {
		t.Error("nothing was repeated")
	}
}
