package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"catbird/internal/app"
	"catbird/internal/balancer"
	"catbird/internal/config"
	"catbird/operator"
)

const (
	// MaxNodes bounds a cluster: all nodes share one machine.
	MaxNodes = 9

	readyWithin = 30 * time.Second
	askTimeout  = 5 * time.Second
	// lookEvery is how often something is looked at that is waited for.
	lookEvery = 20 * time.Millisecond
	// balanceEvery is how often the load balancer looks at each node.
	balanceEvery = 50 * time.Millisecond
)

var errNoNode = errors.New("no node runs")

// Config is what a cluster is made of. All but Listen is required.
type Config struct {
	// Nodes is how many there are, 1 to MaxNodes. One is a node alone: no gossip,
	// no Redis.
	Nodes int
	// Node is how each node is set up, on the embedded database in its data
	// folder. Its ports are the first node's; the others get those two, four and
	// so on higher, and all of them free ones where they are 0. Names, gossip and
	// Redis are set here.
	Node config.Config
	// Logger is for all nodes.
	Logger *slog.Logger
	// Listen opens listeners, see app.Options.
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
}

// Cluster is some nodes in one process. All methods may be called from any
// goroutine. Stop ends it.
type Cluster struct {
	cfg      Config
	store    app.Store
	redis    *redisServer // nil for a node alone
	balancer *balancer.Balancer
	admin    *http.Transport // to the operator APIs
	nodes    []*Node
}

// Start starts a cluster and waits until all nodes are ready and agree on who
// owns what. An error means that nothing runs.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Nodes < 1 || cfg.Nodes > MaxNodes {
		return nil, fmt.Errorf("a cluster has 1 to %d nodes, not %d", MaxNodes, cfg.Nodes)
	}
	c := &Cluster{cfg: cfg}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop(context.WithoutCancel(ctx)))
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) (err error) {
	if c.store, err = app.OpenStore(ctx, &c.cfg.Node, c.cfg.Logger); err != nil {
		return err
	}
	if c.cfg.Nodes > 1 {
		if c.redis, err = startRedis(); err != nil {
			return err
		}
	}
	c.balancer = balancer.New(balanceEvery)
	c.admin = &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Second}
	for i := range c.cfg.Nodes {
		n := &Node{name: fmt.Sprintf("dev-%d", i+1), cluster: c, cfg: c.cfg.Node}
		n.cfg.Cluster.NodeName = n.name
		higher(&n.cfg.Server.Port, 2*i)
		higher(&n.cfg.Server.InternalPort, 2*i)
		if c.redis != nil {
			n.cfg.Cluster.RedisURL = config.Secret(c.redis.url)
			n.cfg.Cluster.GossipHost, n.cfg.Cluster.GossipPort = "127.0.0.1", 0
		}
		c.nodes = append(c.nodes, n)
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	return c.Await(ctx)
}

// higher raises a port, unless it is 0 for any.
func higher(port *int, by int) {
	if *port != 0 {
		*port += by
	}
}

// Stop stops all nodes in order, at the same time, and then what they shared.
func (c *Cluster) Stop(ctx context.Context) error {
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		wg.Go(func() { errs[i] = n.Stop(ctx) })
	}
	wg.Wait()
	if c.balancer != nil {
		c.balancer.Close()
		c.admin.CloseIdleConnections()
	}
	if c.redis != nil {
		c.redis.close()
	}
	if c.store != nil {
		errs = append(errs, c.store.Close())
	}
	return errors.Join(errs...)
}

// Nodes returns the nodes, in the order of their names.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// Transport returns the load balancer before the nodes, to be used with any
// host.
func (c *Cluster) Transport() http.RoundTripper { return c.balancer }

// Integrity looks through all data and returns an error that says how many epochs
// or numbers are there twice or missing.
func (c *Cluster) Integrity(ctx context.Context) error {
	nodes := c.running()
	if len(nodes) == 0 {
		return errNoNode
	}
	found, err := nodes[0].operator().Integrity(ctx, "")
	if err != nil {
		return fmt.Errorf("looking through the data: %w", err)
	}
	if !found.Clean() {
		return fmt.Errorf("the data is damaged: %d duplicate and %d missing epochs, %d gaps in the sequence, %d conversations that disagree with their log",
			found.DuplicateEpochs.Count, found.MissingEpochs.Count, found.SequenceGaps.Count, found.EpochMismatches.Count)
	}
	return nil
}

// gossipOfOthers returns where the gossip of the others that run listens.
func (c *Cluster) gossipOfOthers(n *Node) (join []string) {
	for _, o := range c.nodes {
		o.mu.Lock()
		if o != n && o.app != nil && o.gossip != "" {
			join = append(join, o.gossip)
		}
		o.mu.Unlock()
	}
	return join
}

// running returns the nodes that run.
func (c *Cluster) running() (nodes []*Node) {
	for _, n := range c.nodes {
		if n.Running() {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Await waits until the nodes that run get requests, see each other ready and go
// by one ring.
func (c *Cluster) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	return await(ctx, "the nodes to agree", func() (bool, error) {
		nodes := c.running()
		if c.balancer.Ready() < len(nodes) {
			return false, nil
		}
		lives := map[string]string{}
		for _, n := range nodes {
			lives[n.Name()] = n.gossipAddress()
		}
		for _, n := range nodes {
			v, err := n.operator().Cluster(ctx)
			if err != nil {
				return false, err
			}
			if !agrees(v, lives) {
				return false, nil
			}
		}
		return true, nil
	})
}

// agrees reports whether the members of v are those of lives, by their gossip
// addresses, all ready, and go by its ring.
func agrees(v operator.ClusterView, lives map[string]string) bool {
	for _, m := range v.Members {
		gossip, known := lives[m.Name]
		if !known || gossip != m.GossipAddress || m.State != app.Ready.String() || m.RingVersion == nil || *m.RingVersion != v.Ring.Version {
			return false
		}
	}
	return len(v.Members) == len(lives)
}

// await asks cond until it is true or ctx ends; a cond that fails is asked again.
func await(ctx context.Context, what string, cond func() (bool, error)) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		ok, err := cond()
		if ok {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, errors.Join(context.Cause(ctx), err))
		}
	}
}
