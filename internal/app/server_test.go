package app

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func startServer(t *testing.T, h http.HandlerFunc, b bounds) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer("test", ln, h, b, quiet())
	s.serve(func(err error) { t.Errorf("serving failed: %v", err) })
	return s
}

var roomy = bounds{connections: 100, read: time.Minute, write: time.Minute}

func dial(t *testing.T, s *server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func get(t *testing.T, c net.Conn) *http.Response {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestShutdownAnswersWhatIsOpen(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "done")
	}, roomy)
	answer := make(chan *http.Response, 1)
	c := dial(t, s)
	go func() { answer <- get(t, c) }()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.shutdown(t.Context()) }()
	for { // the port closes at once
		extra, err := net.Dial("tcp", s.addr())
		if err != nil {
			break
		}
		extra.Close()
	}
	close(release)
	if resp := <-answer; resp.StatusCode != 200 {
		t.Errorf("an open request was answered with %d", resp.StatusCode)
	}
	c.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestShutdownAnswersOnKeptConnections(t *testing.T) {
	s := startServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, roomy)
	kept := dial(t, s)
	if resp := get(t, kept); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("status %d", resp.StatusCode)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.shutdown(t.Context()) }()
	for {
		extra, err := net.Dial("tcp", s.addr())
		if err != nil {
			break
		}
		extra.Close()
	}
	if resp := get(t, kept); resp.StatusCode != http.StatusNoContent {
		t.Errorf("a request on a kept connection: %d", resp.StatusCode)
	}
	kept.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestShutdownBreaksOffWhatHangs(t *testing.T) {
	entered := make(chan struct{})
	s := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}, roomy)
	c := dial(t, s)
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want that the time was up", err)
	}
	if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection was not broken off: %v", err)
	}
}

// A body that does not come in ends its connection, read or not.
func TestSlowBodyIsBrokenOff(t *testing.T) {
	s := startServer(t, func(http.ResponseWriter, *http.Request) {}, bounds{connections: 10, read: 100 * time.Millisecond, write: time.Minute})
	c := dial(t, s)
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Error("the connection is still open after 10 s")
	}
	if err := s.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestConnectionsAreBounded(t *testing.T) {
	s := startServer(t, func(http.ResponseWriter, *http.Request) {}, bounds{connections: 1, read: time.Minute, write: time.Minute})
	first := dial(t, s)
	get(t, first)
	second := dial(t, s)
	if _, err := io.WriteString(second, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if n := s.open.Load(); n != 1 {
		t.Errorf("%d connections were accepted, want 1", n)
	}
	first.Close()
	resp, err := http.ReadResponse(bufio.NewReader(second), nil)
	if err != nil {
		t.Fatalf("the second is not served after the first has gone: %v", err)
	}
	resp.Body.Close()
	second.Close()
	if err := s.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
