package chaos

import (
	"errors"
	"fmt"
	"net"
	"time"

	"catbird/internal/testenv"
)

// How slow is slow: a request between nodes takes some 1 KB.
const (
	slowBits  = 64_000
	slowDelay = 80 * time.Millisecond
)

// relay stands before the internal port of a node that has no network of its
// own: others are told an address of the loopback where the relay listens, and
// the node listens at another one, on the same port. What comes to the node can
// be cut off and slowed there. Who sends it cannot be told apart, and gossip goes
// past it.
type relay struct {
	*testenv.Proxy
	host, port string
}

// openRelay opens the relay of the i-th node. Linux answers on all of 127/8; other
// systems do not.
func openRelay(i int) (*relay, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("a port for a node: %w", err)
	}
	_, port, err := net.SplitHostPort(free.Addr().String())
	if err = errors.Join(err, free.Close()); err != nil {
		return nil, fmt.Errorf("a port for a node: %w", err)
	}
	r := &relay{host: fmt.Sprintf("127.1.0.%d", i+1), port: port}
	l, err := net.Listen("tcp", net.JoinHostPort(r.host, port))
	if err != nil {
		return nil, fmt.Errorf("listening before a node: %w", err)
	}
	r.Proxy = testenv.OpenProxy(l, "127.0.0.1:"+port)
	return r, nil
}

// env is how a node behind the relay is to listen.
func (r *relay) env() []string {
	return []string{"INTERNAL_HOST=127.0.0.1", "INTERNAL_PORT=" + r.port, "GOSSIP_HOST=" + r.host, "GOSSIP_ADVERTISE=" + r.host}
}

func (g *ground) breakNetwork(f Fault) error {
	s := g.sites[f.Node]
	switch f.Kind {
	case CutRedis:
		cut(s.redis, f.Way)
	case CutPostgres:
		cut(s.postgres, f.Way)
	case SlowRedis:
		slow(s.redis, f.Way)
	case SlowPostgres:
		slow(s.postgres, f.Way)
	case CutNodes, SlowNodes:
		return g.between(f, g.worsen)
	}
	return nil
}

func cut(p *testenv.Proxy, way string) {
	switch way {
	case both:
		p.Stall()
	case there:
		p.StallRequests()
	case back:
		p.StallReplies()
	case refused:
		p.Cut()
	}
}

func slow(p *testenv.Proxy, way string) {
	switch way {
	case both:
		p.Delay(slowDelay)
	case there:
		p.DelayRequests(slowDelay)
	case back:
		p.DelayReplies(slowDelay)
	}
}

func (g *ground) mendNetwork(f Fault) error {
	s := g.sites[f.Node]
	switch f.Kind {
	case CutRedis, SlowRedis:
		s.redis.Restore()
	case CutPostgres, SlowPostgres:
		s.postgres.Restore()
	case CutNodes, SlowNodes:
		return g.between(f, g.mend)
	}
	return nil
}

// between does something to the stretch from the fault's node to its peer, and to
// the one back where the fault goes both ways.
func (g *ground) between(f Fault, do func(k Kind, from, to *site) error) error {
	from, to := g.sites[f.Node], g.sites[f.Peer]
	err := do(f.Kind, from, to)
	if f.Way == both {
		err = errors.Join(err, do(f.Kind, to, from))
	}
	return err
}

func (g *ground) worsen(k Kind, from, to *site) error {
	switch {
	case to.relay != nil && k == CutNodes:
		to.relay.Stall()
	case to.relay != nil:
		to.relay.Delay(slowDelay)
	case k == CutNodes:
		return from.host.Lose(to.host)
	default:
		return from.host.Slow(to.host, slowBits)
	}
	return nil
}

func (g *ground) mend(k Kind, from, to *site) error {
	switch {
	case to.relay != nil:
		to.relay.Restore()
	case k == CutNodes:
		return from.host.Find(to.host)
	default:
		return from.host.Restore()
	}
	return nil
}

// canSlow returns nil if nodes can be slowed down for each other, and else why
// not.
func (g *ground) canSlow() error {
	if g.network == nil {
		return g.noRelays
	}
	hosts := g.network.Hosts()
	if err := hosts[0].Slow(hosts[1], slowBits); err != nil {
		return err
	}
	return hosts[0].Restore()
}

// canCut returns nil if nodes can be cut off from each other, and else why not.
func (g *ground) canCut() error {
	if g.network == nil {
		return g.noRelays
	}
	return nil
}
