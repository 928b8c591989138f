package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"catbird/operator"
)

// fakeCluster serves the view of a cluster of two, and can be made to fail.
func fakeCluster(t *testing.T) (url string, fails *atomic.Bool) {
	t.Helper()
	fails = new(atomic.Bool)
	ring, actors := uint64(0xabc), 7
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fails.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"error":"Unavailable","message":"gone for now"}`)
			return
		}
		_ = json.NewEncoder(w).Encode(operator.ClusterView{
			Node: "a", Ring: operator.Ring{Partitions: 100, Version: ring},
			Members: []operator.Member{
				{Name: "a", State: "ready", Partitions: 100, ActiveActors: &actors, RingVersion: &ring, Checks: &operator.Checks{Database: "healthy"}},
				{Name: "b", State: "leaving"},
			},
		})
	}))
	t.Cleanup(s.Close)
	return s.URL, fails
}

// watching runs the tool, whose standard output is what read reads from.
func watching(t *testing.T, args ...string) (lines *bufio.Scanner, code <-chan int, stderr *strings.Builder) {
	t.Helper()
	r, w := io.Pipe()
	done, stderr := make(chan int, 1), new(strings.Builder)
	go func() {
		c := run(append([]string{"watch", "--every=100ms"}, args...), streams{out: w, err: stderr}, func(int) {})
		_ = w.Close()
		done <- c
	}()
	return bufio.NewScanner(r), done, stderr
}

// interrupt does what Ctrl-C does; the test itself goes on.
func interrupt(t *testing.T) {
	t.Helper()
	bear := make(chan os.Signal, 1)
	signal.Notify(bear, os.Interrupt)
	t.Cleanup(func() { signal.Stop(bear) })
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

func TestWatchInLines(t *testing.T) {
	url, fails := fakeCluster(t)
	lines, code, _ := watching(t, "--node="+url)
	for range 2 {
		if lines.Scan(); !strings.Contains(lines.Text(), "Z asked=a members=2 ready=1 joining=0 leaving=1 silent=1 actors=7 ring=abc agree=1 a=ready/healthy/7/100 b=leaving/no-answer/-/0") {
			t.Errorf("line %q", lines.Text())
		}
	}
	fails.Store(true)
	for lines.Scan() && !strings.Contains(lines.Text(), `error="Unavailable: gone for now"`) {
	}
	fails.Store(false)
	for lines.Scan() && !strings.Contains(lines.Text(), "ready=1") {
	}
	interrupt(t)
	for lines.Scan() {
	}
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d after an interrupt", c)
	}
}

func TestWatchInJSON(t *testing.T) {
	url, fails := fakeCluster(t)
	lines, code, _ := watching(t, "--node="+url, "--json")
	var one struct {
		At, Error string
		Cluster   *operator.ClusterView
	}
	if lines.Scan(); json.Unmarshal(lines.Bytes(), &one) != nil || one.Cluster == nil || one.Cluster.Node != "a" || one.At == "" || one.Error != "" {
		t.Errorf("line %q", lines.Text())
	}
	fails.Store(true)
	for lines.Scan() && !strings.Contains(lines.Text(), `"error":"Unavailable: gone for now","cluster":null`) {
	}
	interrupt(t)
	for lines.Scan() {
	}
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d after an interrupt", c)
	}
}

// Where one node is lost, another is asked.
func TestWatchGoesOnWithAnotherNode(t *testing.T) {
	var fails atomic.Bool
	serve := func(name string, ends bool) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if ends && fails.Load() {
				panic(http.ErrAbortHandler)
			}
			_ = json.NewEncoder(w).Encode(operator.ClusterView{Node: name})
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	lines, code, _ := watching(t, "--node="+serve("first", true)+","+serve("second", false))
	for lines.Scan() && !strings.Contains(lines.Text(), "asked=first") {
	}
	fails.Store(true)
	for lines.Scan() && !strings.Contains(lines.Text(), "asked=second") {
	}
	interrupt(t)
	for lines.Scan() {
	}
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d after an interrupt", c)
	}
}

func TestWatchEndsWithItsReader(t *testing.T) {
	url, _ := fakeCluster(t)
	r, w := io.Pipe()
	_ = r.Close()
	var stderr strings.Builder
	if c := run([]string{"watch", "--node=" + url}, streams{out: w, err: &stderr}, func(int) {}); c != exitFailure {
		t.Errorf("exit code %d, said %q", c, stderr.String())
	}
}
