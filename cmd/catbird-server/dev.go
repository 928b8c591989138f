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

	"catbird/internal/app"
	"catbird/internal/config"
)

const (
	readyWithin = 30 * time.Second
	tokenLife   = 24 * time.Hour
	devDrain    = 5 * time.Second
)

type devCmd struct {
	Host  string `name:"server-host" env:"SERVER_HOST" default:"127.0.0.1" help:"Address to listen on."`
	Port  int    `name:"server-port" env:"SERVER_PORT" default:"8080" help:"Port to listen on; where it is taken, a free one."`
	Admin int    `name:"internal-port" env:"INTERNAL_PORT" default:"8081" help:"Port of the operator API; where it is taken, a free one."`
	Data  string `name:"data" type:"path" help:"Folder to keep the data in; none: a temporary one that is removed at the end."`
	Once  bool   `name:"once" help:"Exit after the summary."`
	Level string `name:"log-level" env:"LOG_LEVEL" default:"warn" help:"trace, debug, info, warn or error; info,actor=debug sets one component's level."`
}

// Run starts a node, replays the recorded groups on it, and keeps it up.
func (c *devCmd) Run(ctx context.Context, s streams) (err error) {
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
	node, err := app.New(ctx, app.Options{Config: cfg, Logger: log, Listen: listenNear(s.out)})
	if err != nil {
		return err
	}
	if err = node.Start(ctx); err != nil {
		return err
	}
	show := show{out: s.out, base: "http://" + node.Addr(), admin: "http://" + node.InternalAddr(), secret: []byte(cfg.Auth.JWTSecret)}
	err = c.show(ctx, node, &show)
	return errors.Join(err, node.Stop(context.WithoutCancel(ctx)))
}

// show replays, tells what to try, and waits for the end.
func (c *devCmd) show(ctx context.Context, node *app.App, s *show) error {
	select {
	case <-node.Ready():
	case <-time.After(readyWithin):
		return fmt.Errorf("the node was not ready within %v", readyWithin)
	case <-ctx.Done():
		return nil
	}
	err := s.replay(ctx)
	if ctx.Err() != nil {
		return nil // interrupted: that is an orderly end
	}
	if err != nil || c.Once {
		return err
	}
	if err := s.hints(); err != nil {
		return err
	}
	<-ctx.Done()
	fmt.Fprintln(s.out, "\nstopping")
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
	cfg.Cluster.NodeName = "dev"
	cfg.Actors.Enable = true
	cfg.Policy.RemovePolicy = config.RemoveMember
	cfg.Auth.JWTSecret = config.Secret(rand.Text() + rand.Text())
	cfg.Auth.EnforceJTI = false
	cfg.Drain.Timeout = devDrain
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
