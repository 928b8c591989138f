package peer

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// tcpProxy stands between a client and a node. It can hold back what passes
// through its connections, as a frozen peer or a full network would, and cut
// them.
type tcpProxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu     sync.Mutex
	thawed *sync.Cond
	frozen bool
	limit  int // bytes to the node after which a connection freezes, 0: none
	closed bool
	conns  map[net.Conn]struct{}
	stuck  chan struct{} // gets one for each connection that came to its limit
}

func startProxy(t testing.TB, target string) *tcpProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tcpProxy{listener: l, target: target, conns: map[net.Conn]struct{}{}, stuck: make(chan struct{}, 16)}
	p.thawed = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *tcpProxy) address() string { return p.listener.Addr().String() }

func (p *tcpProxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			_, _ = in.Close(), out.Close()
			return
		}
		p.conns[in], p.conns[out] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { p.pipe(out, in, true) })
		p.wg.Go(func() { p.pipe(in, out, false) })
	}
}

func (p *tcpProxy) pipe(dst, src net.Conn, toNode bool) {
	defer dst.Close()
	buf := make([]byte, 16<<10)
	passed := 0
	for {
		n, err := src.Read(buf)
		passed += n
		if !p.pass(toNode, passed) {
			return
		}
		if _, werr := dst.Write(buf[:n]); werr != nil || err != nil {
			if errors.Is(err, io.EOF) {
				if c, ok := dst.(*net.TCPConn); ok {
					_ = c.CloseWrite()
					return
				}
			}
			return
		}
	}
}

// pass waits until bytes may pass; false ends the connection.
func (p *tcpProxy) pass(toNode bool, passed int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	reported := false
	for !p.closed && (p.frozen || toNode && p.limit > 0 && passed > p.limit) {
		if !p.frozen && !reported {
			reported = true
			p.stuck <- struct{}{}
		}
		p.thawed.Wait()
	}
	return !p.closed
}

// freeze holds everything back.
func (p *tcpProxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
}

// thaw lets everything pass.
func (p *tcpProxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen, p.limit = false, 0
	p.thawed.Broadcast()
}

// cut breaks the connections there are.
func (p *tcpProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

func (p *tcpProxy) close() {
	p.mu.Lock()
	p.closed = true
	p.thawed.Broadcast()
	p.mu.Unlock()
	_ = p.listener.Close()
	p.cut()
	p.wg.Wait()
}
