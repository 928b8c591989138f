package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

var quiet = slog.New(slog.DiscardHandler)

// patience bounds waiting for what must happen; on a busy machine under the
// race detector a lot takes a while.
const patience = 30 * time.Second

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// newMember returns a member on a free port of the loopback, not started.
func newMember(t testing.TB, name string, alter ...func(*MembersConfig)) *Members {
	t.Helper()
	cfg := MembersConfig{
		Name: name, BindHost: "127.0.0.1", InternalAddress: "10.0.0.1:8081",
		Label: "test", Version: "v1", Logger: quiet, SeekEvery: 300 * time.Millisecond,
	}
	for _, f := range alter {
		f(&cfg)
	}
	m, err := NewMembers(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.answerTimeout = 15 * time.Second // this machine may be busy
	t.Cleanup(func() { stopMember(t, m) })
	return m
}

func startMember(t testing.TB, m *Members) *Members {
	t.Helper()
	if err := m.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	return m
}

// stop ends m without a word to the others.
func stopMember(t testing.TB, m *Members) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func joining(others ...*Members) func(*MembersConfig) {
	return func(c *MembersConfig) {
		for _, o := range others {
			c.Join = append(c.Join, gossipAddress(o))
		}
	}
}

func gossipAddress(m *Members) string { return m.View().Self().GossipAddress }

// group starts members that join the first of them.
func group(t testing.TB, names ...string) []*Members {
	t.Helper()
	all := []*Members{startMember(t, newMember(t, names[0]))}
	for _, name := range names[1:] {
		all = append(all, startMember(t, newMember(t, name, joining(all[0]))))
	}
	for _, m := range all {
		await(t, m, "all members", sees(names...))
	}
	return all
}

// source is a membership or a ring's source.
type source interface {
	View() *Roster
	Subscribe() (<-chan struct{}, func())
}

// await waits until what s sees is as wanted.
func await(t testing.TB, s source, what string, ok func(*Roster) bool) {
	t.Helper()
	awaitFor(t, s, patience, what, ok)
}

func awaitFor(t testing.TB, s source, atMost time.Duration, what string, ok func(*Roster) bool) {
	t.Helper()
	changes, cancel := s.Subscribe()
	defer cancel()
	limit := time.After(atMost)
	for !ok(s.View()) {
		select {
		case <-changes:
		case <-limit:
			t.Fatalf("%s: waited in vain for %s; it sees %+v", s.View().Self().Name, what, s.View().Members())
		}
	}
}

// sees says that exactly these members are seen.
func sees(names ...string) func(*Roster) bool {
	return func(r *Roster) bool {
		for _, name := range names {
			if _, ok := r.Member(name); !ok {
				return false
			}
		}
		return len(r.Members()) == len(names)
	}
}

func seesAt(name, address string) func(*Roster) bool {
	return func(r *Roster) bool {
		m, ok := r.Member(name)
		return ok && m.GossipAddress == address
	}
}

// weather is a network between members that can be split.
type weather struct {
	mu    sync.Mutex
	sides map[string]int // by gossip address; 0 for those that are not in it
}

// split cuts the groups off from each other and from everybody else; without
// groups everything is whole again.
func (w *weather) split(groups ...[]*Members) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sides = map[string]int{}
	for i, g := range groups {
		for _, m := range g {
			w.sides[gossipAddress(m)] = i + 1
		}
	}
}

func (w *weather) cut(from, to string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sides[from] != w.sides[to]
}

// under puts a member into the weather.
func (w *weather) under(c *MembersConfig) {
	c.transport = func(t memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
		return &exposed{NodeAwareTransport: t, weather: w}
	}
}

// exposed loses what a member sends across a split.
type exposed struct {
	memberlist.NodeAwareTransport
	weather *weather
	mu      sync.Mutex
	own     string
}

func (e *exposed) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	a, p, err := e.NodeAwareTransport.FinalAdvertiseAddr(ip, port)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.own = (&net.TCPAddr{IP: a, Port: p}).String()
	return a, p, err
}

func (e *exposed) lost(to string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.weather.cut(e.own, to)
}

func (e *exposed) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if e.lost(a.Addr) {
		return time.Now(), nil
	}
	return e.NodeAwareTransport.WriteToAddress(b, a)
}

func (e *exposed) WriteTo(b []byte, addr string) (time.Time, error) {
	return e.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (e *exposed) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if e.lost(a.Addr) {
		return nil, errors.New("cut off")
	}
	return e.NodeAwareTransport.DialAddressTimeout(a, timeout)
}

func (e *exposed) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return e.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}
