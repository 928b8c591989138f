package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// Gossip is set so that at 3 to 10 nodes a crash is seen by all in 1.5 to 2 s:
// a turn of probing (0 to probeInterval), the probe (probeInterval) and the
// suspicion (3 probeIntervals when a second node confirms it, twice that
// otherwise). A node is suspected after failing to answer for 0.3 s by UDP,
// through others and by TCP, and has 0.9 s to object; a pause longer than that
// costs a detour and two changes of the ring, and nothing else.
const (
	probeInterval = 300 * time.Millisecond
	probeTimeout  = 150 * time.Millisecond
	streamTimeout = 2 * time.Second
	lookupTimeout = 2 * time.Second
)

func gossipConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.ProbeInterval = probeInterval
	c.ProbeTimeout = probeTimeout
	c.SuspicionMult = 3
	c.SuspicionMaxTimeoutMult = 2
	c.AwarenessMaxMultiplier = 3
	c.TCPTimeout = streamTimeout
	c.PushPullInterval = 15 * time.Second
	c.GossipInterval = 100 * time.Millisecond
	c.GossipNodes = 4
	c.HandoffQueueDepth = 4096
	return c
}

// listen opens the ports and starts the library. run ends what it dials.
func (m *Members) listen(ctx, run context.Context) (*memberlist.Memberlist, error) {
	c := gossipConfig()
	c.Name = m.gossip
	c.Label = m.cfg.Label
	c.Logger = newLibraryLog(m.log)
	c.Delegate, c.Events = delegate{m}, delegate{m}
	if len(m.cfg.Keys) > 0 {
		keys, err := memberlist.NewKeyring(m.cfg.Keys, m.cfg.Keys[0])
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		c.Keyring = keys
	}
	bind, err := m.bindAddress(ctx)
	if err != nil {
		return nil, err
	}
	end, err := m.cfg.network.listen(bind, m.cfg.BindPort, c.Logger)
	if err != nil {
		return nil, err
	}
	c.BindAddr, c.BindPort = bind.String(), end.GetAutoBindPort()
	advertise, err := m.advertise(ctx, bind, c.BindPort)
	if err != nil {
		closeTransport(end)
		return nil, err
	}
	c.AdvertiseAddr, c.AdvertisePort = advertise.Addr().String(), int(advertise.Port())
	m.setGossipAddress(advertise)
	c.Transport = dialer{end, m.cfg.network, run}
	if m.cfg.transport != nil {
		c.Transport = m.cfg.transport(dialer{end, m.cfg.network, run})
	}
	list, err := memberlist.Create(c)
	if err != nil {
		closeTransport(end)
		return nil, err
	}
	return list, nil
}

func (m *Members) setGossipAddress(a netip.AddrPort) {
	m.mu.Lock()
	m.self.GossipAddress = a.String()
	m.mu.Unlock()
	m.rebuild()
}

func (m *Members) bindAddress(ctx context.Context) (netip.Addr, error) {
	if m.cfg.BindHost == "" {
		return netip.IPv4Unspecified(), nil
	}
	a, err := m.resolveOne(ctx, m.cfg.BindHost)
	if err != nil {
		return a, fmt.Errorf("address to listen on: %w", err)
	}
	return a, nil
}

// advertise returns where others reach a node that listens on bind and port.
func (m *Members) advertise(ctx context.Context, bind netip.Addr, port int) (netip.AddrPort, error) {
	switch {
	case m.cfg.Advertise != "":
		host, p, err := splitAddress(m.cfg.Advertise, port)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("address to advertise: %w", err)
		}
		a, err := m.resolveOne(ctx, host)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("address to advertise: %w", err)
		}
		return netip.AddrPortFrom(a, uint16(p)), nil
	case !bind.IsUnspecified():
		return netip.AddrPortFrom(bind, uint16(port)), nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("own addresses: %w", err)
	}
	a, ok := likeliest(addrs)
	if !ok {
		return netip.AddrPort{}, errors.New("no own address found: say which one to advertise")
	}
	return netip.AddrPortFrom(a, uint16(port)), nil
}

// likeliest returns the address that others of a cluster most likely reach:
// private before public, IPv4 before IPv6, loopback last.
func likeliest(addrs []net.Addr) (best netip.Addr, found bool) {
	bestRank := 0
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast() {
			continue
		}
		if r := addressRank(p.Addr().Unmap()); r > bestRank {
			best, bestRank = p.Addr().Unmap(), r
		}
	}
	return best, bestRank > 0
}

func addressRank(a netip.Addr) int {
	rank := 1
	if a.IsGlobalUnicast() {
		rank += 2
	}
	if a.IsPrivate() {
		rank += 2
	}
	if a.Is4() {
		rank++
	}
	return rank
}

// splitAddress reads host, host:port or an IPv6 address with or without
// brackets.
func splitAddress(s string, defaultPort int) (host string, port int, err error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String(), defaultPort, nil
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		if host, text, err = net.SplitHostPort(s + ":" + strconv.Itoa(defaultPort)); err != nil {
			return "", 0, errors.New("must be host or host:port")
		}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || host == "" || n == 0 && defaultPort != 0 {
		return "", 0, errors.New("must be host or host:port")
	}
	return host, int(n), nil
}
