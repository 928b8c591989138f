package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
	"time"

	"catbird/internal/fleet"
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
	case RestartAll:
		return g.restartAll(ctx)
	case Freeze:
		return g.signal(f.Node, syscall.SIGSTOP)
	case Scale:
		return g.grow(ctx, f.Way)
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
	case RestartAll:
		return g.startMissing(ctx, baseNodes...)
	case Freeze:
		return g.signal(f.Node, syscall.SIGCONT)
	case Scale:
		return g.shrink(ctx, f.Node, f.Way)
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

// restartAll restarts one base node after another. One that does not come up
// again, since other things are broken, is started in the end.
func (g *ground) restartAll(ctx context.Context) error {
	for _, name := range baseNodes {
		if _, err := g.fleet.Stop(ctx, name); err != nil {
			return err
		}
		if err := g.start(ctx, name); err != nil {
			break
		}
	}
	return nil
}

// grow adds nodes to those there are, and hurts one of them.
func (g *ground) grow(ctx context.Context, way string) error {
	if err := g.startMissing(ctx, extraNodes...); err != nil {
		return err
	}
	switch way {
	case oneKilled:
		_, err := g.fleet.Kill(extraNodes[1])
		return err
	case oneFrozen:
		return g.signal(extraNodes[0], syscall.SIGSTOP)
	}
	return nil
}

// shrink leaves two of five nodes, first and one that was added, and then makes
// it the base nodes again.
func (g *ground) shrink(ctx context.Context, first, way string) error {
	switch way {
	case oneKilled:
		if err := g.startMissing(ctx, extraNodes[1]); err != nil {
			return err
		}
		if _, err := g.fleet.Kill(g.leaving(first)[0]); err != nil && !errors.Is(err, fleet.ErrNotRunning) {
			return err
		}
	case oneFrozen:
		if err := g.signal(extraNodes[0], syscall.SIGCONT); err != nil && !errors.Is(err, fleet.ErrNotRunning) {
			return err
		}
	}
	if err := g.stopAll(ctx, append(g.leaving(first), extraNodes[0])...); err != nil {
		return err
	}
	if err := g.startMissing(ctx, baseNodes...); err != nil {
		return err
	}
	return g.stopAll(ctx, extraNodes...)
}

// leaving are the base nodes but first.
func (g *ground) leaving(first string) (names []string) {
	for _, name := range baseNodes {
		if name != first {
			names = append(names, name)
		}
	}
	return names
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
