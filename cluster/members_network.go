package cluster

import (
	"context"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// network is what gossip goes through: sockets, or what a test in virtual time
// puts in their place.
type network interface {
	// listen opens UDP and TCP on one port of bind; 0 takes any free one.
	listen(bind netip.Addr, port int, logger *log.Logger) (transport, error)
	// dial opens a stream to ip:port. The error is syscall.ECONNREFUSED where
	// the host is there and nobody listens.
	dial(ctx context.Context, address string) (net.Conn, error)
}

// transport is one node's end of a network.
type transport interface {
	memberlist.NodeAwareTransport
	GetAutoBindPort() int
}

// sockets is the network of the system.
type sockets struct{}

// listen opens the ports. With port 0 the TCP port that the system gives may be
// taken on UDP, hence the tries.
func (sockets) listen(bind netip.Addr, port int, logger *log.Logger) (transport, error) {
	var errs error
	for range 10 {
		t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{bind.String()}, BindPort: port, Logger: logger,
		})
		if err == nil {
			return t, nil
		}
		errs = err
		if port != 0 {
			break
		}
	}
	return nil, errs
}

func (sockets) dial(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// dialer is the library's end of a network with connections that Stop ends.
type dialer struct {
	transport
	network network
	run     context.Context
}

// DialTimeout opens a stream to addr.
func (d dialer) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.run, timeout)
	defer cancel()
	return d.network.dial(ctx, addr)
}

// DialAddressTimeout opens a stream to a.
func (d dialer) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return d.DialTimeout(a.Addr, timeout)
}

// closeTransport closes a transport that nobody reads from; its listeners may
// be waiting to hand something over.
func closeTransport(t transport) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = t.Shutdown() // always nil
	}()
	for {
		select {
		case <-t.PacketCh():
		case conn := <-t.StreamCh():
			_ = conn.Close()
		case <-done:
			return
		}
	}
}
