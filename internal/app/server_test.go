package app

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func startServer(t *testing.T, h http.HandlerFunc, b bounds) *server {
	t.Helper()
	return startServerOn(t, listen(t), h, b)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// announced says when it is closed.
type announced struct {
	net.Listener
	closed chan struct{}
	once   sync.Once
}

func (a *announced) Close() error {
	err := a.Listener.Close()
	a.once.Do(func() { close(a.closed) })
	return err
}

func startServerOn(t *testing.T, ln net.Listener, h http.HandlerFunc, b bounds) *server {
	t.Helper()
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
	ln := &announced{Listener: listen(t), closed: make(chan struct{})}
	s := startServerOn(t, ln, func(w http.ResponseWriter, _ *http.Request) {
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
	<-ln.closed // the port closes at once
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
	ln := &announced{Listener: listen(t), closed: make(chan struct{})}
	s := startServerOn(t, ln, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, roomy)
	kept := dial(t, s)
	if resp := get(t, kept); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("status %d", resp.StatusCode)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.shutdown(t.Context()) }()
	<-ln.closed
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

// Clients that open connections until nobody is there any more get an answer or
// never reach anybody. What is left is one connection in the instant between a
// look at the queue and its end.
func TestShutdownResetsHardlyAnybody(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the kernel does not let us look")
	}
	var lost atomic.Int64
	const rounds = 3
	for range rounds {
		s := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
		}, roomy)
		var wg sync.WaitGroup
		var answered atomic.Int64
		for range 8 {
			wg.Go(func() {
				for {
					c, err := net.DialTimeout("tcp", s.addr(), 5*time.Second)
					if err != nil {
						return
					}
					_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
					if err == nil {
						_, err = io.ReadAll(c)
					}
					c.Close()
					if err != nil {
						lost.Add(1)
						return
					}
					answered.Add(1)
				}
			})
		}
		for answered.Load() < 200 {
			runtime.Gosched()
		}
		if err := s.shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
	if n := lost.Load(); n > rounds {
		t.Errorf("%d requests were lost in %d stops", n, rounds)
	}
}
