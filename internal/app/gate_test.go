package app

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"
)

// ask sends a request and leaves its answer to be read.
func ask(t *testing.T, c net.Conn, path string) {
	t.Helper()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}

// answered fails the test unless c gets an answer.
func answered(t *testing.T, c net.Conn, who string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%s: %v", who, err)
	}
	resp.Body.Close()
}

// cutOff fails the test unless the server ends c.
func cutOff(t *testing.T, c net.Conn, who string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); isTimeout(err) || len(b) > 0 {
		t.Errorf("%s was not cut off: %q, %v", who, b, err)
	}
}

// busyServer serves /busy until it is released, and anything else at once.
func busyServer(t *testing.T, connections int) (s *server, entered chan struct{}, release chan struct{}) {
	t.Helper()
	entered, release = make(chan struct{}, 16), make(chan struct{})
	s = startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/busy" {
			entered <- struct{}{}
			<-release
		}
	}, bounds{connections: connections, read: time.Minute, write: time.Minute})
	return s, entered, release
}

func TestConnectionsAreBounded(t *testing.T) {
	s, entered, release := busyServer(t, 1)
	first := dial(t, s)
	ask(t, first, "/busy")
	<-entered
	second := dial(t, s)
	ask(t, second, "/")
	if n := s.open.Load(); n != 1 {
		t.Errorf("%d connections are served, want 1", n)
	}
	close(release)
	answered(t, first, "the one that was being served")
	answered(t, second, "the one that waited for it") // the first, idle now, has given way
	cutOff(t, first, "the first")
	second.Close()
	if err := s.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// What says nothing gives way, the longest silent first; what is being served
// does not.
func TestSilentConnectionsGiveWay(t *testing.T) {
	s, entered, release := busyServer(t, 3)
	busy := dial(t, s)
	ask(t, busy, "/busy")
	<-entered
	mute := dial(t, s) // never says a word
	kept := dial(t, s) // has been answered, and waits for its next request
	get(t, kept)
	inLine(s, 2) // the server has noticed that it is idle
	half := dial(t, s)
	if _, err := io.WriteString(half, "GET / HTTP/1.1\r\nHost: x\r\nX-Never-En"); err != nil {
		t.Fatal(err)
	}
	cutOff(t, mute, "the one that said nothing")
	get(t, dial(t, s))
	cutOff(t, kept, "the one that was idle")
	get(t, dial(t, s))
	cutOff(t, half, "the one in the midst of a header")
	close(release)
	answered(t, busy, "the one that was being served")
	busy.Close()
	shutdownNow(t, s)
}

// inLine waits until n connections wait for their next request.
func inLine(s *server, n int) {
	for {
		s.ln.mu.Lock()
		l := s.ln.waiting.Len()
		s.ln.mu.Unlock()
		if l == n {
			return
		}
		runtime.Gosched()
	}
}

// shutdownNow stops s, whose connections need not be waited for.
func shutdownNow(t *testing.T, s *server) {
	t.Helper()
	if err := s.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// A request on a connection that has given way is not served, so that nothing
// happens of which nobody is told.
func TestNothingIsServedOnWhatGaveWay(t *testing.T) {
	g := newGate(listen(t), 1)
	defer g.Close()
	a, b := net.Pipe()
	defer b.Close()
	c, victim := g.enter(a)
	if c == nil || victim != nil {
		t.Fatalf("got %v, %v", c, victim)
	}
	other, _ := net.Pipe()
	defer other.Close()
	if admitted, victim := g.enter(other); admitted != nil || victim != c {
		t.Fatalf("got %v, %v, want that the first gives way", admitted, victim)
	}
	if c.serving() {
		t.Error("a connection that gave way is served")
	}
	c.idle()
	if admitted, victim := g.enter(other); admitted != nil || victim != nil {
		t.Errorf("got %v, %v before the first has closed", admitted, victim)
	}
	c.Close()
	c.Close() // its place is given once
	if admitted, _ := g.enter(other); admitted == nil || g.open != 1 {
		t.Errorf("%d are open after one has left and one has come", g.open)
	}
}

func TestGateClosesWhileItIsFull(t *testing.T) {
	s, entered, release := busyServer(t, 1)
	first := dial(t, s)
	ask(t, first, "/busy")
	<-entered
	second := dial(t, s)
	s.closing.Store(true) // as shutdown begins, but without its wait for those who queue up
	if err := s.ln.Close(); err != nil {
		t.Fatal(err)
	}
	cutOff(t, second, "the one that waited")
	close(release)
	answered(t, first, "the one that was being served")
	first.Close()
	shutdownNow(t, s)
}
