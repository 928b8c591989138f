package testenv

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
)

// Network is a switch with hosts on it, each of which is a network of its own:
// what runs on a host reaches the others through the switch, while it is plugged
// in, and nothing else in the world; nothing else reaches it. Needs Linux, root
// and the program ip.
//
// Everything about it belongs to this process and to what runs on the hosts, and
// is gone with them, however they end. Networks do not see each other.
type Network struct {
	hub   *namespace
	hosts []*Host
}

// Host is a place on a [Network] for processes, with one address. Its methods may
// be called from any goroutine.
type Host struct {
	// Addr is the host's IP address.
	Addr string

	network *Network
	port    string // of the switch
	own     *namespace
}

// The hosts are 10.7.0.1 to .254.
const maxHosts = 254

// NewNetwork returns a network of n hosts, all plugged in, which ends in the
// test's cleanup. The error says why this machine has none to offer.
func NewNetwork(t testing.TB, n int) (*Network, error) {
	t.Helper()
	network, err := OpenNetwork(n)
	if err != nil {
		return nil, err
	}
	t.Cleanup(network.Close)
	return network, nil
}

// OpenNetwork is NewNetwork for programs: the caller closes it.
func OpenNetwork(n int) (*Network, error) {
	if n > maxHosts {
		return nil, fmt.Errorf("a network of %d hosts: there is room for %d", n, maxHosts)
	}
	hub, err := newNamespace()
	if err != nil {
		return nil, err
	}
	network := &Network{hub: hub}
	if err := network.build(n); err != nil {
		network.Close()
		return nil, err
	}
	return network, nil
}

func (n *Network) build(hosts int) error {
	if err := n.hub.ip("link add switch type bridge", "link set switch up"); err != nil {
		return err
	}
	for i := range hosts {
		if err := n.add(i + 1); err != nil {
			return err
		}
	}
	return nil
}

// Hosts returns the hosts.
func (n *Network) Hosts() []*Host { return n.hosts }

func (n *Network) add(i int) error {
	own, err := newNamespace()
	if err != nil {
		return err
	}
	h := &Host{Addr: fmt.Sprintf("10.7.0.%d", i), network: n, port: fmt.Sprintf("port%d", i), own: own}
	n.hosts = append(n.hosts, h)
	err = n.hub.ip(
		"link add "+h.port+" type veth peer name eth0 netns "+own.path(),
		"link set "+h.port+" up master switch",
	)
	if err != nil {
		return err
	}
	return own.ip("link set lo up", "address add "+h.Addr+"/24 dev eth0", "link set eth0 up")
}

// Close takes the network down. What still runs on its hosts is cut off.
func (n *Network) Close() {
	for _, h := range n.hosts {
		h.own.close()
	}
	n.hub.close()
}

// Unplug cuts the host off from the others: what is sent is lost without a word,
// in both directions. What runs on the host still reaches each other.
func (h *Host) Unplug() error { return h.network.hub.ip("link set " + h.port + " nomaster") }

// Plug undoes Unplug.
func (h *Host) Plug() error { return h.network.hub.ip("link set " + h.port + " master switch") }

// Start starts cmd on the host.
func (h *Host) Start(cmd *exec.Cmd) error { return h.own.do(cmd.Start) }

// Do runs f on the host, on a thread of its own: what f opens or starts belongs
// there. f may take as long as it likes.
func (h *Host) Do(f func() error) error { return h.own.do(f) }

// Listen listens on the host, on a free port of its loopback: what runs on the
// host reaches this process there.
func (h *Host) Listen() (l net.Listener, err error) {
	err = h.own.do(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	return l, err
}

// DialContext connects to address as somebody on the host does. It is for IP
// addresses.
func (h *Host) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = h.own.do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// DialContext connects to an address of one of the hosts as somebody on that
// host does: whether it is plugged in does not matter.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ip, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	for _, h := range n.hosts {
		if h.Addr == ip {
			return h.DialContext(ctx, network, address)
		}
	}
	return nil, fmt.Errorf("no host of this network has the address %s", ip)
}

// ip runs commands of the program of that name in the namespace.
func (ns *namespace) ip(commands ...string) error { return ns.batch("ip", commands...) }

// batch runs commands of a program that reads them from its input.
func (ns *namespace) batch(program string, commands ...string) error {
	cmd := exec.Command(program, "-batch", "-")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(strings.Join(commands, "\n")+"\n"), &out, &out
	err := ns.do(cmd.Run)
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(commands, "; "), err, strings.TrimSpace(out.String()))
	}
	return nil
}
