package cluster

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Resolver looks up the addresses of a host; *[net.Resolver] is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
}

var systemResolver Resolver = net.DefaultResolver

const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// seekSteps are how many addresses one round asks at the same time, one step
// after another until somebody has answered: whoever answers tells about the
// others.
var seekSteps = [...]int{4, 8, 16}

// seek joins whoever is to be joined and not known yet: with backoff while
// alone, at once when the last other vanishes, and now and then in company,
// since two halves that lost sight of each other do not find back by
// themselves.
func (m *Members) seek(ctx context.Context) {
	changes, cancel := m.Subscribe()
	defer cancel()
	alone, retry := m.others() == 0, firstRetry
	timer := time.NewTimer(m.pause(alone, retry))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			if was := alone; m.others() > 0 || was {
				alone = m.others() == 0
				continue
			}
			alone, retry = true, firstRetry
			m.log.Warn("all other members are out of sight")
		case <-timer.C:
		}
		if m.left.Load() {
			return
		}
		m.seekOnce(ctx)
		if alone = m.others() == 0; alone {
			retry = min(retry*2, lastRetry)
		} else {
			retry = firstRetry
		}
		timer.Reset(m.pause(alone, retry))
	}
}

// pause is how long to wait for the next round, a fifth more or less.
func (m *Members) pause(alone bool, retry time.Duration) time.Duration {
	if !alone {
		retry = m.cfg.SeekEvery
	}
	return time.Duration(float64(retry) * (0.8 + 0.4*rand.Float64()))
}

// seekOnce asks addresses that belong to nobody known. It takes up to about
// lookupTimeout and twice streamTimeout: where addresses do not even refuse, it
// leaves others for the next round.
func (m *Members) seekOnce(ctx context.Context) {
	targets := m.targets(ctx)
	began := time.Now()
	for _, n := range seekSteps {
		n = min(n, len(targets))
		m.join(targets[:n])
		targets = targets[n:]
		if len(targets) == 0 || m.others() > 0 || time.Since(began) > streamTimeout/2 || ctx.Err() != nil {
			return
		}
	}
}

// join asks all of addresses at the same time.
func (m *Members) join(addresses []string) {
	list := m.list.Load()
	var wg sync.WaitGroup
	for _, address := range addresses {
		wg.Go(func() {
			if _, err := list.Join([]string{address}); err != nil {
				m.metrics.joins.WithLabelValues("error").Inc()
				m.log.Debug("not joined", "address", address, "error", err)
				return
			}
			m.metrics.joins.WithLabelValues("ok").Inc()
		})
	}
	wg.Wait()
}

// targets returns addresses to join, in random order: those of the
// configuration, looked up anew, and those of members lost, without this
// node's own and those of members known.
func (m *Members) targets(ctx context.Context) []string {
	found := m.lookup(ctx)
	for _, address := range m.lostAddresses(time.Now()) {
		found[address] = true
	}
	m.mu.Lock()
	delete(found, m.self.GossipAddress)
	for _, l := range m.lives {
		delete(found, l.GossipAddress)
	}
	m.mu.Unlock()
	targets := make([]string, 0, len(found))
	for address := range found {
		targets = append(targets, address)
	}
	rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	return targets
}

// lookup returns all addresses of all names to join, as ip:port.
func (m *Members) lookup(ctx context.Context) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found := map[string]bool{}
	for _, entry := range m.cfg.Join {
		host, port, err := splitAddress(entry, m.defaultPort())
		if err != nil {
			continue // checked by NewMembers
		}
		addrs, err := m.resolve(ctx, host)
		if err != nil {
			m.metrics.joins.WithLabelValues("lookup").Inc()
			m.log.Debug("name to join not found", "host", host, "error", err)
		}
		for _, a := range addrs {
			found[net.JoinHostPort(a.String(), strconv.Itoa(port))] = true
		}
	}
	return found
}

// defaultPort is the one that others are expected on where none is given: this
// node's own.
func (m *Members) defaultPort() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg.BindPort != 0 {
		return m.cfg.BindPort
	}
	a, err := netip.ParseAddrPort(m.self.GossipAddress)
	if err != nil {
		return 0
	}
	return int(a.Port())
}

func (m *Members) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	texts, err := m.cfg.Resolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(texts))
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs, nil
}

// resolveOne returns an address of host, IPv4 where there is a choice.
func (m *Members) resolveOne(ctx context.Context, host string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := m.resolve(ctx, host)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(addrs) == 0 {
		return netip.Addr{}, &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	for _, a := range addrs {
		if a.Is4() {
			return a, nil
		}
	}
	return addrs[0], nil
}
