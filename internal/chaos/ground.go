package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"catbird/internal/client"
	"catbird/internal/ctl"
	"catbird/internal/fleet"
	"catbird/internal/testenv"
)

const secret = "a secret of chaos alone, which is long enough"

// The nodes: those of quiet times, and those that come when the cluster grows.
var (
	baseNodes  = []string{"a", "b", "c"}
	extraNodes = []string{"d", "e"}
)

// site is where a node lives, however often it is started: its network, and the
// stretches between it and the servers, which can fail.
type site struct {
	name                  string
	host                  *testenv.Host // nil: this machine's loopback
	relay                 *relay        // nil: it has a network, or may not be cut off
	postgres, redis       *testenv.Proxy
	postgresURL, redisURL string
}

// ground is the cluster and all that it stands on.
type ground struct {
	opt             Options
	postgres, redis *testenv.Server
	network         *testenv.Network // nil: the machine has none to offer
	noNetwork       error            // why
	noRelays        error            // why nodes without a network have no relays
	sites           map[string]*site
	fleet           *fleet.Fleet
	http            *http.Transport
	clients         map[string]*client.Client
	closers         []func()
}

// newGround starts the servers and the base nodes. Whoever gets one closes it.
func newGround(ctx context.Context, opt Options, r *report) (g *ground, err error) {
	g = &ground{opt: opt, sites: map[string]*site{}, clients: map[string]*client.Client{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if err := g.startServers(); err != nil {
		return g, err
	}
	if !opt.Loopback {
		g.network, g.noNetwork = testenv.OpenNetwork(len(baseNodes) + len(extraNodes))
		if g.network != nil {
			g.closers = append(g.closers, g.network.Close)
		}
	}
	g.http = &http.Transport{DialContext: g.dial, MaxIdleConnsPerHost: 256, DisableCompression: true}
	g.closers = append(g.closers, g.http.CloseIdleConnections)
	for i, name := range slices.Concat(baseNodes, extraNodes) {
		if err := g.addSite(i, name); err != nil {
			return g, err
		}
	}
	program := opt.Program
	if program == "" {
		dir, err := os.MkdirTemp("", "catbird-chaos-")
		if err != nil {
			return g, fmt.Errorf("a folder for the server: %w", err)
		}
		g.closers = append(g.closers, func() { _ = os.RemoveAll(dir) })
		if program, err = fleet.Build(ctx, dir); err != nil {
			return g, err
		}
	}
	g.fleet = fleet.New(fleet.Config{Program: program, Logs: r.nodes, Env: g.settings()})
	for _, name := range baseNodes {
		if err := g.start(ctx, name); err != nil {
			return g, err
		}
	}
	return g, nil
}

func (g *ground) settings() []string {
	return []string{
		"CLUSTER_SECRET=" + secret, "JWT_SECRET=" + secret, "CLUSTER_LABEL=chaos", "ENABLE_ACTOR_SYSTEM=true",
		"SERVER_PORT=0", "INTERNAL_PORT=0", "GOSSIP_PORT=0", "DATABASE_MAX_CONNECTIONS=8",
		"LEASE_TTL=" + g.opt.Lease.String(), "REQUEST_TIMEOUT=" + requestTimeout.String(),
		"DRAIN_DELAY=" + g.opt.drainDelay().String(), "DRAIN_TIMEOUT=10s",
		"LOG_LEVEL=warn,app=info,cluster=info,actor=info",
	}
}

// requestTimeout is what a node gives a request.
const requestTimeout = 10 * time.Second

func (g *ground) startServers() (err error) {
	if g.postgres, err = testenv.StartPostgres(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	g.closers = append(g.closers, g.postgres.Close)
	if g.redis, err = testenv.StartRedis(); err != nil {
		return fmt.Errorf("starting Redis: %w", err)
	}
	g.closers = append(g.closers, g.redis.Close)
	return nil
}

func (g *ground) addSite(i int, name string) (err error) {
	s := &site{name: name}
	listen := func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
	if g.network != nil {
		s.host = g.network.Hosts()[i]
		listen = s.host.Listen
	}
	if s.postgres, s.postgresURL, err = g.proxy(listen, g.postgres.URL()); err != nil {
		return err
	}
	if s.redis, s.redisURL, err = g.proxy(listen, g.redis.URL()); err != nil {
		return err
	}
	if g.network == nil && g.noRelays == nil && !g.opt.planned {
		if s.relay, g.noRelays = openRelay(i); s.relay != nil {
			g.closers = append(g.closers, s.relay.Close)
		}
	}
	g.sites[name] = s
	if g.clients[name], err = g.newClient("http://"+name, g.http); err != nil {
		return err
	}
	return nil
}

func (g *ground) proxy(listen func() (net.Listener, error), to string) (*testenv.Proxy, string, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, "", fmt.Errorf("the address of a server: %w", err)
	}
	l, err := listen()
	if err != nil {
		return nil, "", fmt.Errorf("listening for a node: %w", err)
	}
	p := testenv.OpenProxy(l, u.Host)
	g.closers = append(g.closers, p.Close)
	u.Host = p.Addr()
	return p, u.String(), nil
}

// newClient returns a client that asks once and tells what it hears. Its base
// URL names a node, whose address dial knows.
func (g *ground) newClient(base string, rt http.RoundTripper) (*client.Client, error) {
	return client.New(client.Config{
		BaseURLs: []string{base}, Token: client.HS256([]byte(secret), ""), HTTP: &http.Client{Transport: rt},
		Attempts: 1, AttemptTimeout: g.opt.attemptTimeout(),
	})
}

// start starts a node and waits until it is ready.
func (g *ground) start(ctx context.Context, name string) error {
	s := g.sites[name]
	address := "127.0.0.1"
	l := fleet.Launch{Name: name}
	if s.host != nil {
		address, l.In = s.host.Addr, s.host.Do
	}
	l.Env = []string{
		"DATABASE_URL=" + s.postgresURL, "REDIS_URL=" + s.redisURL, "SERVER_HOST=" + address, "GOSSIP_HOST=" + address,
	}
	if s.relay != nil {
		l.Env = append(l.Env, s.relay.env()...)
	}
	_, err := g.fleet.Start(ctx, l)
	return err
}

// operatorHost is the host by which the operators' API of a node is known.
const operatorHost = ".operator"

// dial connects to a node that is named instead of an address, wherever it
// listens in this life.
func (g *ground) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	name, operator := strings.CutSuffix(host, operatorHost)
	n, err := g.fleet.Node(name)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	to := n.Clients()
	if operator {
		to = n.Internal()
	}
	if g.network == nil {
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	return g.network.DialContext(ctx, network, to)
}

// operator returns a client of a node's operator API.
func (g *ground) operator(name string) (*ctl.Client, error) {
	return ctl.NewClient("http://"+name+operatorHost, secret, &http.Client{Transport: g.http})
}

// running returns the names of the nodes that run.
func (g *ground) running() (names []string) {
	for _, n := range g.fleet.Nodes() {
		names = append(names, n.Name)
	}
	return names
}

func (g *ground) ready(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+name+"/health/ready", http.NoBody)
	if err != nil {
		return false
	}
	res, err := g.http.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close() // nothing is read of it
	return res.StatusCode == http.StatusOK
}

// agree waits until all nodes that run are ready, see each other and nobody
// else, and go by one ring.
func (g *ground) agree(ctx context.Context) error {
	var why error
	for {
		if why = g.disagreement(ctx); why == nil {
			return nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return why
		}
	}
}

func (g *ground) disagreement(ctx context.Context) error {
	names := g.running()
	for _, name := range names {
		if !g.ready(ctx, name) {
			return fmt.Errorf("node %s is not ready", name)
		}
		o, err := g.operator(name)
		if err != nil {
			return err
		}
		ask, cancel := context.WithTimeout(ctx, 3*time.Second)
		v, err := o.Cluster(ask)
		cancel()
		if err != nil {
			return fmt.Errorf("node %s: %w", name, err)
		}
		if len(v.Members) != len(names) {
			return fmt.Errorf("node %s sees %d members, and %d run", name, len(v.Members), len(names))
		}
		for _, m := range v.Members {
			if m.State != "ready" || m.RingVersion == nil || *m.RingVersion != v.Ring.Version {
				return fmt.Errorf("node %s sees %s in state %s and with another ring", name, m.Name, m.State)
			}
		}
	}
	return nil
}

func (g *ground) close() error {
	var err error
	if g.fleet != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		err = g.fleet.Close(ctx)
	}
	for _, c := range slices.Backward(g.closers) {
		c()
	}
	return err
}

// pause waits and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
