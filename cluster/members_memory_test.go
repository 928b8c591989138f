package cluster

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// delay is how long a packet travels in a memoryNetwork.
const delay = time.Millisecond

// memoryNetwork is a network without sockets, whose waits are channels and
// timers, so that gossip runs in virtual time. Whatever host is named is there,
// and refuses where nobody listens.
type memoryNetwork struct {
	mu   sync.Mutex
	ends map[string]*memoryEnd // by ip:port
}

func newMemoryNetwork() *memoryNetwork {
	return &memoryNetwork{ends: map[string]*memoryEnd{}}
}

func (n *memoryNetwork) end(address string) *memoryEnd {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ends[address]
}

func (n *memoryNetwork) listen(bind netip.Addr, port int, _ *log.Logger) (transport, error) {
	e := &memoryEnd{
		network: n, at: netip.AddrPortFrom(bind, uint16(port)), gone: make(chan struct{}),
		packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if port == 0 || n.ends[e.at.String()] != nil {
		return nil, fmt.Errorf("listening on %v: %w", e.at, syscall.EADDRINUSE)
	}
	n.ends[e.at.String()] = e
	return e, nil
}

func (n *memoryNetwork) dial(ctx context.Context, address string) (net.Conn, error) {
	e := n.end(address)
	if e == nil {
		return nil, syscall.ECONNREFUSED
	}
	ours, theirs := net.Pipe()
	select {
	case e.streams <- theirs:
		return ours, nil
	case <-e.gone:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// memoryEnd is one node's end of a memoryNetwork.
type memoryEnd struct {
	network *memoryNetwork
	at      netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	once    sync.Once
	gone    chan struct{}
}

func (e *memoryEnd) GetAutoBindPort() int                { return int(e.at.Port()) }
func (e *memoryEnd) PacketCh() <-chan *memberlist.Packet { return e.packets }
func (e *memoryEnd) StreamCh() <-chan net.Conn           { return e.streams }

func (e *memoryEnd) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return net.ParseIP(ip), port, nil
}

// WriteTo delivers b a moment later to whoever listens then. Like a socket, an
// end whose queue is full loses it.
func (e *memoryEnd) WriteTo(b []byte, addr string) (time.Time, error) {
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(e.at)}
	time.AfterFunc(delay, func() {
		to := e.network.end(addr)
		if to == nil {
			return
		}
		p.Timestamp = time.Now()
		select {
		case to.packets <- p:
		default:
		}
	})
	return time.Now(), nil
}

func (e *memoryEnd) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return e.WriteTo(b, a.Addr)
}

func (e *memoryEnd) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return e.network.dial(ctx, addr)
}

func (e *memoryEnd) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return e.DialTimeout(a.Addr, timeout)
}

func (e *memoryEnd) Shutdown() error {
	e.once.Do(func() {
		e.network.mu.Lock()
		delete(e.network.ends, e.at.String())
		e.network.mu.Unlock()
		close(e.gone)
	})
	return nil
}

// gossiping is nodes on a memoryNetwork that can be split.
type gossiping struct {
	t       *testing.T
	net     *memoryNetwork
	weather weather
}

// virtually runs f in virtual time, and afterwards gives the library's own
// goroutines the few seconds that they take to end.
func virtually(t *testing.T, f func(t *testing.T, g *gossiping)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { pass(time.Minute) })
		f(t, &gossiping{t: t, net: newMemoryNetwork()})
	})
}

// host returns the address of host n of the network.
func host(n int) string { return fmt.Sprintf("10.0.0.%d", n) }

func gossipAt(n int) string { return host(n) + ":7946" }

// node returns a member on host n with the settings that nodes have, not
// started.
func (g *gossiping) node(name string, n int, alter ...func(*MembersConfig)) *Members {
	g.t.Helper()
	m := newMember(g.t, name, append([]func(*MembersConfig){g.weather.under, func(c *MembersConfig) {
		c.network, c.SeekEvery = g.net, 0
		c.BindHost, c.BindPort = host(n), 7946
	}}, alter...)...)
	m.answerTimeout = defaultAnswerTimeout
	return m
}

// cluster starts nodes of these names on hosts 1, 2, …; all but the first join
// that one.
func (g *gossiping) cluster(names ...string) []*Members {
	g.t.Helper()
	var all []*Members
	for i, name := range names {
		all = append(all, startMember(g.t, g.node(name, i+1, joins(gossipAt(1)))))
	}
	for _, m := range all {
		await(g.t, m, "all members", sees(names...))
	}
	return all
}

func joins(addresses ...string) func(*MembersConfig) {
	return func(c *MembersConfig) { c.Join = addresses }
}
