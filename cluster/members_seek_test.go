package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// resolver answers from a function; nil is no such host.
type resolver func(host string) []string

func (r resolver) LookupHost(_ context.Context, host string) ([]string, error) {
	if addrs := r(host); addrs != nil {
		return addrs, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func TestIsolationAndMerge(t *testing.T) {
	t.Parallel()
	var w weather
	all := []*Members{startMember(t, newMember(t, "a", w.under))}
	for _, name := range []string{"b", "c", "d"} {
		all = append(all, startMember(t, newMember(t, name, w.under, joining(all[0]))))
	}
	everybody := func() {
		t.Helper()
		for _, m := range all {
			await(t, m, "everybody", sees("a", "b", "c", "d"))
		}
	}
	everybody()

	w.split(all[:2], all[2:])
	await(t, all[0], "its half", sees("a", "b"))
	await(t, all[1], "its half", sees("a", "b"))
	await(t, all[2], "its half", sees("c", "d"))
	await(t, all[3], "its half", sees("c", "d"))
	w.split()
	everybody()

	w.split(all[3:])
	await(t, all[3], "nobody else", sees("d"))
	await(t, all[0], "the others", sees("a", "b", "c"))
	w.split()
	everybody()
}

// Where several nodes start at once, DNS knows only some of them at first.
// Clusters of one arise and merge.
func TestParallelStartByDNS(t *testing.T) {
	t.Parallel()
	var known atomic.Pointer[[]string]
	known.Store(&[]string{})
	dns := resolver(func(host string) []string {
		if host != "catbird.test" {
			return nil
		}
		return *known.Load()
	})
	port := freePort(t)
	var all []*Members
	hosts := []string{"127.0.0.11", "127.0.0.12", "127.0.0.13"}
	for i, host := range hosts {
		all = append(all, newMember(t, fmt.Sprintf("n%d", i), func(c *MembersConfig) {
			c.BindHost, c.BindPort, c.Resolver = host, port, dns
			c.Join = []string{"catbird.test", "gone.test"}
		}))
	}
	var wg sync.WaitGroup
	for _, m := range all {
		wg.Go(func() { startMember(t, m) })
	}
	wg.Wait()
	for i, m := range all {
		if !sees(fmt.Sprintf("n%d", i))(m.View()) {
			t.Fatalf("%s has company: %+v", hosts[i], m.View().Members())
		}
	}
	known.Store(&hosts)
	for _, m := range all {
		await(t, m, "everybody", sees("n0", "n1", "n2"))
	}
	if testutil.ToFloat64(all[0].metrics.joins.WithLabelValues("lookup")) == 0 {
		t.Error("names that were not found are not counted")
	}
}

// freePort returns a port that is free for UDP and TCP on the addresses used.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.11:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestTargets(t *testing.T) {
	t.Parallel()
	a := startMember(t, newMember(t, "a"))
	b := startMember(t, newMember(t, "b", joining(a), func(c *MembersConfig) {
		c.SeekEvery = time.Hour
		c.Join = append(c.Join, "many.test:7", "127.0.0.1")
		c.Resolver = resolver(func(string) []string {
			var addrs []string
			for i := range 20 {
				addrs = append(addrs, fmt.Sprintf("127.1.0.%d", i+1))
			}
			return addrs
		})
	}))
	await(t, b, "a", sees("a", "b"))
	targets := b.targets(within(t))
	slices.Sort(targets)
	if len(slices.Compact(targets)) != 20 || slices.Contains(targets, gossipAddress(a)) || slices.Contains(targets, gossipAddress(b)) {
		t.Errorf("next time it asks %v", targets)
	}
	asked := testutil.ToFloat64(b.metrics.joins.WithLabelValues("error"))
	b.seekOnce(within(t))
	if n := testutil.ToFloat64(b.metrics.joins.WithLabelValues("error")) - asked; n != float64(seekSteps[0]) {
		t.Errorf("in company it asks %v at a time", n)
	}
}

func TestStrangersStayOut(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{1}, 32)
	for name, alter := range map[string]func(*MembersConfig){
		"label":     func(c *MembersConfig) { c.Label, c.Keys = "other", [][]byte{key} },
		"key":       func(c *MembersConfig) { c.Keys = [][]byte{bytes.Repeat([]byte{2}, 32)} },
		"plaintext": func(c *MembersConfig) { c.Keys = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startMember(t, newMember(t, "a", func(c *MembersConfig) { c.Keys = [][]byte{key} }))
			b := startMember(t, newMember(t, "b", joining(a), alter)) // Start tries once
			if testutil.ToFloat64(b.metrics.joins.WithLabelValues("error")) == 0 {
				t.Error("joining was not refused")
			}
			if !sees("a")(a.View()) || !sees("b")(b.View()) {
				t.Errorf("a sees %+v, b %+v", a.View().Members(), b.View().Members())
			}
		})
	}
}

// Keys are changed by restarting nodes one after another, in three rounds: the
// new key behind the old one, then before it, then alone.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	old, young := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 32)
	rounds := [][][]byte{{old}, {old, young}, {young, old}, {young}}
	keyed := func(keys [][]byte) func(*MembersConfig) {
		return func(c *MembersConfig) { c.Keys = keys }
	}
	for i, keys := range rounds[1:] {
		a := startMember(t, newMember(t, "a", keyed(rounds[i])))
		b := startMember(t, newMember(t, "b", keyed(keys), joining(a)))
		await(t, a, "b", sees("a", "b"))
		await(t, b, "a", sees("a", "b"))
		b.SetState(Ready) // travels by packet
		await(t, a, "b ready", func(r *Roster) bool { return len(r.Ready()) == 1 })
		a.SetState(Ready)
		await(t, b, "a ready", func(r *Roster) bool { return len(r.Ready()) == 2 })
	}
}

func TestLostAddressesAreForgotten(t *testing.T) {
	t.Parallel()
	m := newMember(t, "a")
	node := func(name string) *memberlist.Node {
		l := life{Member: Member{Name: name, Started: time.Now(), State: Ready}}
		if name == "leaver" {
			l.State = Leaving
		}
		return &memberlist.Node{Name: name, Addr: net.IPv4(10, 0, 0, 1), Port: uint16(len(name)), Meta: l.encode()}
	}
	for _, name := range []string{"x", "xx", "leaver"} {
		m.note(node(name))
	}
	for _, name := range []string{"x", "xx", "leaver", "unknown"} {
		m.forget(node(name))
	}
	m.note(node("xx"))
	now := time.Now()
	if lost := m.lostAddresses(now); len(lost) != 1 || lost[0] != "10.0.0.1:1" {
		t.Errorf("lost: %v", lost)
	}
	for i := range 2 * maxLost {
		n := node("many")
		n.Port = uint16(1000 + i)
		m.note(n)
		m.forget(n)
	}
	if n := len(m.lostAddresses(now)); n != maxLost {
		t.Errorf("%d addresses are kept", n)
	}
	if lost := m.lostAddresses(now.Add(lostKept + time.Minute)); len(lost) != 0 || len(m.lost) != 0 {
		t.Errorf("for ever lost: %v", lost)
	}
}

func TestAdvertisedAddress(t *testing.T) {
	t.Parallel()
	dns := resolver(func(host string) []string {
		if host == "me.test" {
			return []string{"fd00::7", "10.0.0.7"}
		}
		return nil
	})
	for _, test := range []struct{ advertise, bind, want string }{
		{"", "10.0.0.1", "10.0.0.1:7946"},
		{"10.0.0.2", "0.0.0.0", "10.0.0.2:7946"},
		{"10.0.0.2:99", "0.0.0.0", "10.0.0.2:99"},
		{"fd00::1", "::", "[fd00::1]:7946"},
		{"me.test:99", "0.0.0.0", "10.0.0.7:99"},
	} {
		m := newMember(t, "a", func(c *MembersConfig) { c.Advertise, c.Resolver = test.advertise, dns })
		got, err := m.advertise(within(t), netip.MustParseAddr(test.bind), 7946)
		if err != nil || got.String() != test.want {
			t.Errorf("%+v: %v, %v", test, got, err)
		}
	}
	guess, err := newMember(t, "a").advertise(within(t), netip.IPv6Unspecified(), 7946)
	if err != nil || guess.Addr().IsUnspecified() || guess.Port() != 7946 {
		t.Errorf("a guess: %v, %v", guess, err)
	}
}
