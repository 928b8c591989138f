package testenv

import (
	"bytes"
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Proxy is a stretch of network between a client and a server that can be cut,
// slowed, held up, or lose a reply. The zero state lets everything through. Its
// methods may be called at any time from any goroutine.
type Proxy struct {
	target string
	l      net.Listener
	wg     sync.WaitGroup

	mu                  sync.Mutex
	links               map[*link]bool
	cut                 bool
	lateThere, lateBack time.Duration
	there               gate // on the way to the server
	back                gate // and from it
	needle              []byte
	closed              chan struct{}
	closing             sync.Once
}

// gate is closed while nothing holds bytes up; else whoever has some waits.
type gate chan struct{}

func openGate() gate {
	g := make(gate)
	close(g)
	return g
}

// shut returns a gate that holds bytes up: g, if it does already.
func (g gate) shut() gate {
	select {
	case <-g:
		return make(gate)
	default:
		return g
	}
}

// open lets through what waits.
func (g gate) open() {
	select {
	case <-g:
	default:
		close(g)
	}
}

type link struct {
	client, server net.Conn
	lost           bool // replies are thrown away; under Proxy.mu
}

func (l *link) close() {
	l.client.Close()
	l.server.Close()
}

// NewProxy starts a proxy to target, host:port, which ends in the test's
// cleanup.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start a proxy: %v", err)
	}
	return NewProxyOn(t, l, target)
}

// NewProxyOn is NewProxy on a listener that the caller has opened, for example on
// a [Host].
func NewProxyOn(t testing.TB, l net.Listener, target string) *Proxy {
	t.Helper()
	p := OpenProxy(l, target)
	t.Cleanup(p.Close)
	return p
}

// OpenProxy is NewProxyOn for programs: the caller closes the proxy, and the
// listener with it.
func OpenProxy(l net.Listener, target string) *Proxy {
	p := &Proxy{target: target, l: l, links: map[*link]bool{}, there: openGate(), back: openGate(), closed: make(chan struct{})}
	p.wg.Go(p.accept)
	return p
}

// ProxyURL starts a proxy to the server that rawURL names and returns it with
// the URL that leads through it.
func ProxyURL(t testing.TB, rawURL string) (*Proxy, string) {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatalf("start a proxy: %v", err)
	}
	p := NewProxy(t, u.Host)
	u.Host = p.Addr()
	return p, u.String()
}

// ProxyURLOn is ProxyURL on a listener that the caller has opened.
func ProxyURLOn(t testing.TB, l net.Listener, rawURL string) (*Proxy, string) {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatalf("start a proxy: %v", err)
	}
	p := NewProxyOn(t, l, u.Host)
	u.Host = p.Addr()
	return p, u.String()
}

// Addr returns the proxy's own address.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Cut breaks all connections and refuses new ones, until Restore.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for l := range p.links {
		l.close()
	}
}

// Break breaks all connections; new ones are welcome.
func (p *Proxy) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

// Stall holds back whatever is sent, in both directions, until Restore.
func (p *Proxy) Stall() {
	p.StallRequests()
	p.StallReplies()
}

// StallRequests holds back what clients send, until Restore.
func (p *Proxy) StallRequests() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.there = p.there.shut()
}

// StallReplies holds back what the server sends, until Restore: what clients ask
// for happens, and they do not hear of it.
func (p *Proxy) StallReplies() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.back = p.back.shut()
}

// Delay makes every chunk of bytes take d longer, in both directions, until
// Restore.
func (p *Proxy) Delay(d time.Duration) {
	p.DelayRequests(d)
	p.DelayReplies(d)
}

// DelayRequests makes every chunk that clients send take d longer, until Restore.
func (p *Proxy) DelayRequests(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lateThere = d
}

// DelayReplies makes every chunk that the server sends take d longer, until
// Restore.
func (p *Proxy) DelayReplies(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lateBack = d
}

// LoseReply waits for a client to send needle, lets it through, and then loses
// the server's reply with the connection. It does so once.
func (p *Proxy) LoseReply(needle string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.needle = []byte(needle)
}

// Restore lets everything through again.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.lateThere, p.lateBack, p.needle = false, 0, 0, nil
	p.there.open()
	p.back.open()
}

// Close breaks all connections, ends the proxy and waits for its end. It may be
// called again.
func (p *Proxy) Close() {
	p.closing.Do(func() { close(p.closed) })
	p.l.Close()
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	l := &link{client: client, server: server}
	p.mu.Lock()
	if p.cut {
		l.close()
	}
	p.links[l] = true
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(l, server, client, true) })
	wg.Go(func() { p.copy(l, client, server, false) })
	wg.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

func (p *Proxy) copy(l *link, dst, src net.Conn, request bool) {
	defer l.close()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && p.pass(l, buf[:n], request) {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits as long as the chunk is to be held up; false loses it.
func (p *Proxy) pass(l *link, b []byte, request bool) bool {
	p.mu.Lock()
	if request && len(p.needle) > 0 && bytes.Contains(b, p.needle) {
		l.lost, p.needle = true, nil
	}
	lost, gate, delay := l.lost, p.back, p.lateBack
	if request {
		gate, delay = p.there, p.lateThere
	}
	p.mu.Unlock()
	if lost && !request {
		l.close()
		return false
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-p.closed:
		}
	}
	select {
	case <-gate:
	case <-p.closed:
	}
	return true
}
