package peer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipeNet is a network of net.Pipe: unlike sockets, it lives in a synctest
// bubble.
type pipeNet struct {
	conns  chan net.Conn
	closed chan struct{}

	mu     sync.Mutex
	dials  int
	pause  time.Duration // that each write of the client takes
	down   bool
	frozen bool
	open   int
}

func newPipeNet() *pipeNet {
	return &pipeNet{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (n *pipeNet) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *pipeNet) Close() error {
	select {
	case <-n.closed:
	default:
		close(n.closed)
	}
	return nil
}

func (n *pipeNet) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 8081} }

func (n *pipeNet) dial(ctx context.Context, _ string) (net.Conn, error) {
	n.mu.Lock()
	n.dials++
	down := n.down
	n.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	a, b := net.Pipe()
	select {
	case n.conns <- b:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	n.open++
	n.mu.Unlock()
	return &pipeConn{Conn: a, net: n}, nil
}

func (n *pipeNet) set(f func(*pipeNet)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

func (n *pipeNet) state() (dials, open int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials, n.open
}

// pipeConn is the client's end.
type pipeConn struct {
	net.Conn
	net  *pipeNet
	once sync.Once
}

// Write vanishes while the network is frozen, as into a socket's buffer.
func (c *pipeConn) Write(b []byte) (int, error) {
	c.net.mu.Lock()
	frozen, pause := c.net.frozen, c.net.pause
	c.net.mu.Unlock()
	time.Sleep(pause)
	if frozen {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *pipeConn) Close() error {
	c.once.Do(func() { c.net.set(func(n *pipeNet) { n.open-- }) })
	return c.Conn.Close()
}

// bubble runs f in a synctest bubble with a node and a client that asks it.
func bubble(t *testing.T, h Handler, f func(t *testing.T, ask func(Question) error, nw *pipeNet, c *Client, s *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		nw := newPipeNet()
		s, err := NewServer(ServerConfig{Handler: h, Secret: testSecret, Self: "b", Logger: discard()})
		if err != nil {
			t.Fatal(err)
		}
		hs := &http.Server{Handler: s}
		var wg sync.WaitGroup
		wg.Go(func() { _ = hs.Serve(nw) }) // always http.ErrServerClosed
		c, err := NewClient(ClientConfig{Secret: testSecret, Self: "a", Logger: discard(), Dial: nw.dial})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(q Question) error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, err := c.Ask(ctx, "10.0.0.2:8081", q)
			return err
		}
		f(t, ask, nw, c, s)
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if err := hs.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

func TestDeadPeerIsNoticedInTime(t *testing.T) {
	bubble(t, &fakeHandler{}, func(t *testing.T, ask func(Question) error, nw *pipeNet, c *Client, _ *Server) {
		if err := ask(epochOf("1")); err != nil {
			t.Fatal(err)
		}
		nw.set(func(n *pipeNet) { n.frozen = true })
		began := time.Now()
		if err := ask(sendOf("1", 1)); !errors.Is(err, ErrLost) || !errors.Is(err, errSilent) {
			t.Errorf("got %v", err)
		}
		least := c.cfg.PingTimeout
		if took := time.Since(began); took < least || took > least+3*c.cfg.PingInterval {
			t.Errorf("noticed after %v", took)
		}
	})
}

func TestSlowAnswerIsNotDeath(t *testing.T) {
	slow := &fakeHandler{serve: func(_ context.Context, q Question) Answer {
		time.Sleep(30 * time.Second) // of the bubble's time: the node works on it
		return served(q)
	}}
	bubble(t, slow, func(t *testing.T, ask func(Question) error, nw *pipeNet, _ *Client, _ *Server) {
		if err := ask(sendOf("1", 1)); err != nil {
			t.Errorf("got %v", err)
		}
		if dials, _ := nw.state(); dials != 1 {
			t.Errorf("%d connections", dials)
		}
	})
}

// A large question on a slow network takes long to arrive, and there is nothing
// to hear meanwhile.
func TestSlowNetworkIsNotDeath(t *testing.T) {
	bubble(t, &fakeHandler{}, func(t *testing.T, ask func(Question) error, nw *pipeNet, _ *Client, _ *Server) {
		nw.set(func(n *pipeNet) { n.pause = 500 * time.Millisecond })
		if err := ask(sendOf("1", 2<<20)); err != nil {
			t.Errorf("got %v", err)
		}
	})
}

func TestIdleConnectionIsClosedAndForgotten(t *testing.T) {
	bubble(t, &fakeHandler{}, func(t *testing.T, ask func(Question) error, nw *pipeNet, c *Client, s *Server) {
		for range 2 { // the second time all is opened anew
			if err := ask(sendOf("1", 1)); err != nil {
				t.Fatal(err)
			}
			if err := ask(sendOf("2", 2*bulkSize)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.cfg.IdleTimeout - time.Second)
			if _, open := nw.state(); open != 2 {
				t.Errorf("%d connections before the time has come", open)
			}
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if _, open := nw.state(); open != 0 {
				t.Errorf("%d connections after it", open)
			}
			s.mu.Lock()
			if len(s.streams) != 0 {
				t.Errorf("%d streams at the node", len(s.streams))
			}
			s.mu.Unlock()
		}
		time.Sleep(c.cfg.IdleTimeout + 2*c.cfg.PingInterval)
		synctest.Wait()
		if known := c.all(); len(known) != 0 {
			t.Errorf("%d peers are remembered", len(known))
		}
	})
}

func TestBusyConnectionIsKept(t *testing.T) {
	bubble(t, &fakeHandler{}, func(t *testing.T, ask func(Question) error, nw *pipeNet, c *Client, _ *Server) {
		for range 10 {
			if err := ask(epochOf("1")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.cfg.IdleTimeout / 2)
		}
		if dials, _ := nw.state(); dials != 1 {
			t.Errorf("%d connections", dials)
		}
	})
}

func TestBackoffGrowsAndEnds(t *testing.T) {
	bubble(t, &fakeHandler{}, func(t *testing.T, ask func(Question) error, nw *pipeNet, _ *Client, _ *Server) {
		nw.set(func(n *pipeNet) { n.down = true })
		for range 60 * 100 { // a minute of a question each 10 ms
			if err := ask(epochOf("1")); !errors.Is(err, ErrUnreachable) {
				t.Fatalf("got %v", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if dials, _ := nw.state(); dials < 60 || dials > 130 {
			t.Errorf("%d attempts in a minute", dials)
		}
		nw.set(func(n *pipeNet) { n.down = false })
		time.Sleep(lastBackoff)
		if err := ask(epochOf("1")); err != nil {
			t.Errorf("back again: %v", err)
		}
	})
}

// Who has sent a hello must prove that it is no copy, in time.
func TestSilentStrangerIsCutOff(t *testing.T) {
	bubble(t, &fakeHandler{}, func(t *testing.T, _ func(Question) error, nw *pipeNet, c *Client, s *Server) {
		conn, err := nw.dial(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.shakeHands(conn, "10.0.0.2:8081", purposeSmall); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes", n)
		}
		if took := time.Since(began); took != s.cfg.HandshakeTimeout {
			t.Errorf("cut off after %v", took)
		}
		_ = conn.Close()
	})
}

func TestVanishedClientIsCutOff(t *testing.T) {
	bubble(t, &fakeHandler{}, func(t *testing.T, ask func(Question) error, nw *pipeNet, c *Client, s *Server) {
		conn, err := nw.dial(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		session, err := c.shakeHands(conn, "10.0.0.2:8081", purposeSmall)
		if err != nil {
			t.Fatal(err)
		}
		var out outbox
		out.add(kindPing, 0)
		if err := session.writer.flush(&out); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for err == nil {
			_, err = session.frames.next()
		}
		if took := time.Since(began); took != s.cfg.IdleTimeout {
			t.Errorf("cut off after %v", took)
		}
		_ = conn.Close()
	})
}
