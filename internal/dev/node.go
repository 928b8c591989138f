package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"catbird/internal/app"
	"catbird/internal/config"
	"catbird/internal/ctl"
)

// Node is one node of a cluster, over all its lives. All methods may be called
// from any goroutine.
type Node struct {
	name    string
	cluster *Cluster
	cfg     config.Config // without whom to join

	mu     sync.Mutex
	app    *app.App     // nil while the node does not run
	mute   *atomic.Bool // of this life's log
	addr   string       // of the clients' port, also of the last life
	admin  string       // of the internal port, likewise
	gossip string       // likewise; "" for a node alone
}

// Name returns the node's name.
func (n *Node) Name() string { return n.name }

// URL returns the base URL of the clients' API.
func (n *Node) URL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return "http://" + n.addr
}

// OperatorURL returns the base URL of the operator API.
func (n *Node) OperatorURL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return "http://" + n.admin
}

// gossipAddress returns where the gossip of the node's last life listens, "" for
// a node alone.
func (n *Node) gossipAddress() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gossip
}

// Running reports whether the node runs.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.app != nil
}

// Start starts the node, which joins those of the others that run, and waits
// until it is ready. A node that ran before comes back on the same ports, where
// they are free.
func (n *Node) Start(ctx context.Context) error {
	cfg := n.cfg
	if n.cluster.redis != nil {
		cfg.Cluster.GossipJoin = n.cluster.gossipOfOthers(n)
	}
	n.samePorts(&cfg)
	mute := new(atomic.Bool)
	log := slog.New(&mutable{n.cluster.cfg.Logger.Handler(), mute}).With("node", n.name)
	a, err := app.New(ctx, app.Options{Config: cfg, Logger: log, Store: n.cluster.store, Listen: n.cluster.cfg.Listen})
	if err != nil {
		return fmt.Errorf("node %s: %w", n.name, err)
	}
	if err := a.Start(ctx); err != nil {
		return fmt.Errorf("node %s: %w", n.name, err)
	}
	n.mu.Lock()
	n.app, n.mute, n.addr, n.admin = a, mute, a.Addr(), a.InternalAddr()
	n.mu.Unlock()
	if err := n.awaitReady(ctx, a); err != nil {
		return errors.Join(err, n.Stop(context.WithoutCancel(ctx)))
	}
	return nil
}

// samePorts lets a node that ran before listen where it did.
func (n *Node) samePorts(cfg *config.Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.addr != "" {
		cfg.Server.Port, cfg.Server.InternalPort = portOf(n.addr), portOf(n.admin)
	}
}

func portOf(address string) int {
	_, text, _ := net.SplitHostPort(address)
	port, _ := strconv.Atoi(text) // 0, any, for what is no port
	return port
}

func (n *Node) awaitReady(ctx context.Context, a *app.App) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	select {
	case <-a.Ready():
	case <-ctx.Done():
		return fmt.Errorf("waiting for node %s to be ready: %w", n.name, context.Cause(ctx))
	}
	n.cluster.balancer.Set(n.name, a.Addr())
	if n.cluster.redis == nil {
		return nil
	}
	v, err := n.operator().Cluster(ctx)
	if err != nil {
		return fmt.Errorf("asking node %s for its cluster: %w", n.name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range v.Members {
		if m.Name == n.name {
			n.gossip = m.GossipAddress
		}
	}
	return nil
}

// Stop stops the node as SIGTERM does: it leaves, hands over what it holds and
// ends in order. Stop returns when it has. It does nothing to a node that does
// not run.
func (n *Node) Stop(ctx context.Context) error {
	a, _ := n.end()
	if a == nil {
		return nil
	}
	if err := a.Stop(ctx); err != nil {
		return fmt.Errorf("stopping node %s: %w", n.name, err)
	}
	return nil
}

// Kill ends the node without warning, as SIGKILL ends a process: it hands over
// nothing and says nothing to anybody, and what it held is free only once its
// session has lapsed. It does nothing to a node that does not run.
func (n *Node) Kill() {
	a, mute := n.end()
	if a == nil {
		return
	}
	mute.Store(true)
	a.Abandon()
}

// end takes the life that runs out of n.
func (n *Node) end() (*app.App, *atomic.Bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, mute := n.app, n.mute
	n.app, n.mute = nil, nil
	return a, mute
}

// operator returns a client of the node's operator API.
func (n *Node) operator() *ctl.Client {
	c, err := ctl.NewClient(n.OperatorURL(), n.cfg.Cluster.Secret.Reveal(), &http.Client{Transport: n.cluster.admin, Timeout: askTimeout})
	if err != nil {
		panic(err) // a listener's address is one
	}
	return c
}

// mutable is a log's handler that falls silent: those who are dead say nothing.
type mutable struct {
	slog.Handler
	mute *atomic.Bool
}

// Enabled implements slog.Handler.
func (h *mutable) Enabled(ctx context.Context, l slog.Level) bool {
	return !h.mute.Load() && h.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (h *mutable) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &mutable{h.Handler.WithAttrs(attrs), h.mute}
}

// WithGroup implements slog.Handler.
func (h *mutable) WithGroup(name string) slog.Handler {
	return &mutable{h.Handler.WithGroup(name), h.mute}
}
