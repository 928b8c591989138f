package load

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"catbird/internal/client"
)

// fake is a service of sendMessage, getMessages and getEpoch in memory, for tests
// of time: it needs no network.
type fake struct {
	mu     sync.Mutex
	logs   map[string][]client.Message
	before func(endpoint string) // called before each answer; may take its time
	after  func(page *client.Messages)
}

func newFake() *fake {
	return &fake{logs: map[string][]client.Message{}, before: func(string) {}, after: func(*client.Messages) {}}
}

// config is a load on the fake.
func (f *fake) config() Config {
	return Config{
		BaseURLs: []string{"http://fake.test"}, HTTP: &http.Client{Transport: f},
		Token:         func(did, _ string) (string, error) { return did, nil },
		Conversations: 1, Members: 1, Mix: Mix{SendMessage: 1}, MessageBytes: 32, Duration: 10 * time.Second, Attempts: 1,
	}
}

// RoundTrip answers a request.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	endpoint := strings.TrimPrefix(r.URL.Path, "/xrpc/"+client.Prefix)
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		_ = r.Body.Close()
	}
	f.before(endpoint)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	out, err := json.Marshal(f.answer(endpoint, r, body))
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(out))}, err
}

func (f *fake) answer(endpoint string, r *http.Request, body []byte) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.URL.Query()
	switch endpoint {
	case "sendMessage":
		var in client.SendMessage
		_ = json.Unmarshal(body, &in)
		log := f.logs[in.ConvoID]
		m := client.Message{
			ID: strconv.Itoa(len(log)), ConvoID: in.ConvoID, Sender: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
			Ciphertext: in.Ciphertext, Seq: int64(len(log) + 1), MessageType: "app",
		}
		f.logs[in.ConvoID] = append(log, m)
		return client.Sent{MessageID: m.ID, Seq: m.Seq}
	case "getMessages":
		since, _ := strconv.Atoi(q.Get("sinceSeq"))
		limit, _ := strconv.Atoi(q.Get("limit"))
		log := f.logs[q.Get("convoId")]
		page := client.Messages{LastSeq: int64(len(log)), Messages: append([]client.Message(nil), log[since:min(since+limit, len(log))]...)}
		f.after(&page)
		return page
	default:
		return struct{}{}
	}
}

// run runs cfg and returns the report and what was observed.
func run(t *testing.T, cfg Config) (*Report, []Operation) {
	t.Helper()
	var mu sync.Mutex
	var seen []Operation
	cfg.Observe = func(o Operation) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, o)
	}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r, seen
}
