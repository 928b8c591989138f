package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
	"time"

	"catbird/internal/testenv"
)

// How slow is slow: a request between nodes takes some 1 KB.
const (
	slowBits  = 64_000
	slowDelay = 80 * time.Millisecond
)

// begin makes a fault happen. It may take as long as the fault itself.
func (g *ground) begin(ctx context.Context, f Fault) error {
	switch f.Kind {
	case Restart:
		_, err := g.fleet.Stop(ctx, f.Node)
		return err
	case Crash:
		if _, err := g.fleet.Kill(f.Node); err != nil || f.Way == later {
			return err
		}
		return g.start(ctx, f.Node)
	case Freeze:
		return g.signal(f.Node, syscall.SIGSTOP)
	case Scale:
		return g.grow(ctx)
	case FlagOff:
		return g.flags(ctx, f.Node, false, 100)
	case FlagPercent:
		return g.flags(ctx, f.Node, true, f.Percent)
	case RedisKill, RedisRestart, RedisFlush, RedisFreeze, PostgresKill, PostgresRestart, PostgresFreeze:
		return g.breakServer(f.Kind)
	}
	return g.breakNetwork(f)
}

// end undoes a fault. It may be called again when it failed, and where begin
// failed.
func (g *ground) end(ctx context.Context, f Fault) error {
	switch f.Kind {
	case Restart, Crash:
		return g.startMissing(ctx, f.Node)
	case Freeze:
		return g.signal(f.Node, syscall.SIGCONT)
	case Scale:
		return g.shrink(ctx, f.Node)
	case FlagOff, FlagPercent:
		return g.flags(ctx, f.Node, true, 100)
	case RedisKill, RedisRestart:
		return g.redis.Start()
	case RedisFreeze:
		return g.redis.Thaw()
	case RedisFlush, PostgresRestart:
		return nil
	case PostgresKill:
		return g.postgres.Start()
	case PostgresFreeze:
		return g.postgres.Thaw()
	}
	return g.mendNetwork(f)
}

func (g *ground) signal(node string, sig syscall.Signal) error {
	n, err := g.fleet.Node(node)
	if err != nil {
		return err
	}
	return n.Signal(sig)
}

func (g *ground) startMissing(ctx context.Context, names ...string) error {
	for _, name := range names {
		if _, err := g.fleet.Node(name); err == nil {
			continue
		}
		if err := g.start(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// grow adds nodes to those there are.
func (g *ground) grow(ctx context.Context) error { return g.startMissing(ctx, extraNodes...) }

// shrink leaves two of five nodes, first and one that was added, and then makes
// it the base nodes again.
func (g *ground) shrink(ctx context.Context, first string) error {
	var leaving []string
	for _, name := range baseNodes {
		if name != first {
			leaving = append(leaving, name)
		}
	}
	if err := g.stopAll(ctx, append(leaving, extraNodes[0])...); err != nil {
		return err
	}
	if err := g.startMissing(ctx, baseNodes...); err != nil {
		return err
	}
	return g.stopAll(ctx, extraNodes...)
}

func (g *ground) stopAll(ctx context.Context, names ...string) error {
	for _, name := range names {
		if _, err := g.fleet.Node(name); err != nil {
			continue // gone already
		}
		if _, err := g.fleet.Stop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (g *ground) flags(ctx context.Context, node string, on bool, percent int) error {
	o, err := g.operator(node)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	_, err = o.SetFlags(ctx, &on, &percent)
	return err
}

func (g *ground) breakServer(k Kind) error {
	switch k {
	case RedisKill:
		g.redis.Kill()
	case RedisRestart:
		g.redis.Stop()
	case RedisFlush:
		return g.flush()
	case RedisFreeze:
		return g.redis.Freeze()
	case PostgresKill:
		g.postgres.Kill()
	case PostgresRestart:
		return g.postgres.Restart()
	case PostgresFreeze:
		return g.postgres.Freeze()
	}
	return nil
}

// flush makes Redis forget everything.
func (g *ground) flush() error {
	u, err := url.Parse(g.redis.URL())
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprint(conn, "FLUSHALL\r\n"); err != nil {
		return err
	}
	answer := make([]byte, 3)
	if _, err := conn.Read(answer); err != nil || string(answer) != "+OK" {
		return fmt.Errorf("FLUSHALL: answered %q: %w", answer, err)
	}
	return nil
}

func (g *ground) breakNetwork(f Fault) error {
	s := g.sites[f.Node]
	switch f.Kind {
	case CutRedis:
		cut(s.redis, f.Way)
	case CutPostgres:
		cut(s.postgres, f.Way)
	case SlowRedis:
		s.redis.Delay(slowDelay)
	case SlowPostgres:
		s.postgres.Delay(slowDelay)
	case SlowNodes:
		return s.host.Slow(g.sites[f.Peer].host, slowBits)
	case CutNodes:
		peer := g.sites[f.Peer]
		err := s.host.Lose(peer.host)
		if f.Way == both {
			err = errors.Join(err, peer.host.Lose(s.host))
		}
		return err
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

func (g *ground) mendNetwork(f Fault) error {
	s := g.sites[f.Node]
	switch f.Kind {
	case CutRedis, SlowRedis:
		s.redis.Restore()
	case CutPostgres, SlowPostgres:
		s.postgres.Restore()
	case SlowNodes:
		return s.host.Restore()
	case CutNodes:
		peer := g.sites[f.Peer]
		err := s.host.Find(peer.host)
		if f.Way == both {
			err = errors.Join(err, peer.host.Find(s.host))
		}
		return err
	}
	return nil
}

// canSlow returns nil if nodes can be slowed down for each other, and else why
// not.
func (g *ground) canSlow() error {
	if g.network == nil {
		return g.noNetwork
	}
	hosts := g.network.Hosts()
	if err := hosts[0].Slow(hosts[1], slowBits); err != nil {
		return err
	}
	return hosts[0].Restore()
}
