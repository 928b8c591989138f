package balancer

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a node that answers with its name and is ready while up is true.
func node(t *testing.T, b *Balancer, name string) (up *atomic.Bool) {
	t.Helper()
	up = new(atomic.Bool)
	up.Store(true)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health/ready" {
			if !up.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(s.Close)
	b.Set(name, strings.TrimPrefix(s.URL, "http://"))
	return up
}

// await waits until so many nodes get requests.
func await(t *testing.T, b *Balancer, ready int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for b.Ready() != ready {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d nodes are ready, want %d", b.Ready(), ready)
		}
	}
}

func TestRequestsGoWhereSomebodyIsReady(t *testing.T) {
	b := New(time.Millisecond)
	t.Cleanup(b.Close)
	c := http.Client{Transport: b}
	answers := func(n int) map[string]int {
		got := map[string]int{}
		for range n {
			res, err := c.Get("http://cluster/")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			got[string(body)]++
		}
		return got
	}
	if _, err := c.Get("http://cluster/"); err == nil {
		t.Error("a request was answered by nobody")
	}
	a := node(t, b, "a")
	node(t, b, "b")
	await(t, b, 2)
	if got := answers(10); got["a"] != 5 || got["b"] != 5 {
		t.Errorf("answers of two nodes: %v", got)
	}
	a.Store(false)
	await(t, b, 1)
	if got := answers(4); got["b"] != 4 {
		t.Errorf("answers while a is not ready: %v", got)
	}
	a.Store(true)
	await(t, b, 2)
	b.Remove("b")
	if got := answers(4); got["a"] != 4 {
		t.Errorf("answers without b: %v", got)
	}
}

func TestNextNamesWhoIsReady(t *testing.T) {
	b := New(time.Millisecond)
	t.Cleanup(b.Close)
	if host := b.Next(); host != "" {
		t.Errorf("%q is next of none", host)
	}
	node(t, b, "a")
	node(t, b, "b")
	await(t, b, 2)
	if first, second, third := b.Next(), b.Next(), b.Next(); first == second || first != third {
		t.Errorf("next are %q, %q, %q, want two in turn", first, second, third)
	}
}
