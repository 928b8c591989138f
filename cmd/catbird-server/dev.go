package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"catbird/internal/config"
	"catbird/internal/dev"
)

const (
	tokenLife = 24 * time.Hour
	devDrain  = 5 * time.Second
	// devDelay is for how long a node that stops is still sent requests: a bit
	// longer than the load balancer lags.
	devDelay = 500 * time.Millisecond
)

type devCmd struct {
	Nodes int           `name:"nodes" default:"3" help:"Nodes of the cluster, all in this process; 1 is a node alone."`
	Host  string        `name:"server-host" env:"SERVER_HOST" default:"127.0.0.1" help:"Address to listen on."`
	Port  int           `name:"server-port" env:"SERVER_PORT" default:"8080" help:"Port of the first node; the next ones get every other. One that is taken is replaced by a free one."`
	Admin int           `name:"internal-port" env:"INTERNAL_PORT" default:"8081" help:"Port of the first node's operator API, likewise."`
	Data  string        `name:"data" type:"path" help:"Folder to keep the data in; none: a temporary one that is removed at the end."`
	Lease time.Duration `name:"lease-ttl" env:"LEASE_TTL" default:"1s" help:"How long a silent node keeps what it holds."`
	Once  bool          `name:"once" help:"Exit after the summary."`
	Level string        `name:"log-level" env:"LOG_LEVEL" default:"error" help:"trace, debug, info, warn or error; info,actor=debug sets one component's level."`
}

// Run starts a cluster, replays the recorded groups on it while nodes go and
// come, and keeps it up.
func (c *devCmd) Run(ctx context.Context, s streams) (err error) {
	if c.Nodes < 1 || c.Nodes > dev.MaxNodes {
		return &usageError{fmt.Errorf("--nodes: %d is not between 1 and %d", c.Nodes, dev.MaxNodes)}
	}
	dir, remove, err := c.dataDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	cfg := c.config(dir)
	log, err := newLogger(s, cfg.Log)
	if err != nil {
		return err
	}
	if err = prepare(&cfg); err != nil {
		return err
	}
	cluster, err := dev.Start(ctx, dev.Config{Nodes: c.Nodes, Node: cfg, Logger: log, Listen: listenNear(s.out)})
	if err != nil {
		if ctx.Err() != nil {
			return nil // interrupted: that is an orderly end
		}
		return err
	}
	sh := newShow(s.out, cluster, &cfg)
	return errors.Join(c.show(ctx, sh), cluster.Stop(context.WithoutCancel(ctx)))
}

// show replays, tells what to try, and waits for the end.
func (c *devCmd) show(ctx context.Context, s *show) error {
	err := s.replay(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil || c.Once {
		return err
	}
	if err := s.hints(); err != nil {
		return err
	}
	<-ctx.Done()
	s.say("\nstopping")
	return nil
}

func (c *devCmd) dataDir() (dir string, remove func() error, err error) {
	if c.Data != "" {
		return c.Data, func() error { return nil }, nil
	}
	dir, err = os.MkdirTemp("", "catbird-dev-")
	if err != nil {
		return "", nil, fmt.Errorf("making a folder for the data: %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// config is everything embedded, actors on, and tokens that may be used again,
// so that what is printed can be pasted more than once.
func (c *devCmd) config(dir string) config.Config {
	cfg := config.Default()
	cfg.Server.Host, cfg.Server.Port = c.Host, c.Port
	cfg.Server.InternalHost, cfg.Server.InternalPort = "127.0.0.1", c.Admin
	cfg.Database.DataDir = dir
	cfg.Cluster.LeaseTTL = c.Lease
	cfg.Actors.Enable = true
	cfg.Policy.RemovePolicy = config.RemoveMember
	cfg.Auth.JWTSecret = config.Secret(rand.Text() + rand.Text())
	cfg.Auth.EnforceJTI = false
	cfg.Drain.Timeout = devDrain
	if c.Nodes > 1 {
		cfg.Cluster.Secret = config.Secret(rand.Text())
		cfg.Drain.Delay = devDelay
	}
	cfg.Log = config.Log{Level: c.Level, Format: "text"}
	return cfg
}

// listenNear listens where it is told to, and on a free port where that one is
// taken.
func listenNear(out io.Writer) func(ctx context.Context, network, address string) (net.Listener, error) {
	return func(ctx context.Context, network, address string) (net.Listener, error) {
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, network, address)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return ln, err
		}
		host, port, splitErr := net.SplitHostPort(address)
		if splitErr != nil {
			return nil, err
		}
		if ln, err = lc.Listen(ctx, network, net.JoinHostPort(host, "0")); err == nil {
			fmt.Fprintf(out, "port %s is taken: using %d\n", port, ln.Addr().(*net.TCPAddr).Port)
		}
		return ln, err
	}
}
