package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"catbird/cluster"
	"catbird/delivery"
	"catbird/internal/config"
	"catbird/peer"
	"catbird/persistence"
)

// fellows is what leads a node to the others of its cluster: who is alive, who
// should own what, who holds it, and how to ask them. A node alone has none.
type fellows struct {
	cfg     *config.Config
	log     *slog.Logger // with this package's component
	base    *slog.Logger // for the parts
	reg     prometheus.Registerer
	version string
	leaving func() bool

	ring     *cluster.Ring
	redis    *cluster.Redis
	lease    *cluster.RedisLease
	holdings *cluster.Holdings
	client   *peer.Client

	// What needs the internal port's address is made by meet.
	address string
	members *cluster.Members
	server  *peer.Server
}

func newFellows(a *App, log *slog.Logger) (*fellows, error) {
	c := &a.cfg.Cluster
	f := &fellows{
		cfg: &a.cfg, log: log.With("component", "app"), base: log, reg: a.registry, version: a.version,
		leaving: func() bool { return a.State() >= Leaving },
		ring:    cluster.NewRing(cluster.RingConfig{Node: c.NodeName, Logger: log, Registerer: a.registry}),
	}
	var err error
	if f.redis, err = cluster.NewRedis(cluster.RedisConfig{URL: c.RedisURL.Reveal(), Logger: log, Registerer: a.registry}); err != nil {
		return nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	f.lease = cluster.NewRedisLease(cluster.RedisLeaseConfig{Redis: f.redis, Label: c.Label, Registerer: a.registry})
	f.holdings = cluster.NewHoldings(cluster.HoldingsConfig{
		Lease: f.lease, Node: c.NodeName, Address: func() string { return f.address }, TTL: c.LeaseTTL,
		Session: a.sessionID, Renewed: a.keeper.SinceRenewal, Held: func(yield func(string, string, int64) bool) { a.actors.EachClaim(yield) }, Logger: log, Registerer: a.registry,
	})
	f.client, err = peer.NewClient(peer.ClientConfig{
		Secret: []byte(c.Secret.Reveal()), Self: c.NodeName, Version: a.version, Logger: log, Registerer: a.registry,
	})
	if err != nil {
		return nil, fmt.Errorf("building the client of other nodes: %w", err)
	}
	return f, nil
}

// meet makes what others find this node by, now that the internal port is open.
// It does not start it.
func (f *fellows) meet(internal net.Addr, serve peer.Handler, flags delivery.Flags) error {
	c := &f.cfg.Cluster
	f.address = advertised(c.GossipAdvertise, f.cfg.Server, internal)
	keys, err := c.GossipKeys()
	if err != nil {
		return err
	}
	f.members, err = cluster.NewMembers(cluster.MembersConfig{
		Name: c.NodeName, BindHost: c.GossipHost, BindPort: c.GossipPort, Advertise: c.GossipAdvertise,
		InternalAddress: f.address, Join: c.GossipJoin, Keys: keys, Label: c.Label, Version: f.version,
		ActorsEnabled: flags.ActorSystem, RolloutPercent: flags.RolloutPercent, Logger: f.base, Registerer: f.reg,
	})
	if err != nil {
		return fmt.Errorf("building the gossip: %w", err)
	}
	f.server, err = peer.NewServer(peer.ServerConfig{
		Handler: serve, Secret: []byte(c.Secret.Reveal()), Self: c.NodeName, Version: f.version, Logger: f.base, Registerer: f.reg,
	})
	if err != nil {
		return fmt.Errorf("building the server of other nodes: %w", err)
	}
	return nil
}

// advertised is where other nodes reach the internal port: the host that gossip
// advertises, or the one that is listened on.
func advertised(gossip string, s config.Server, internal net.Addr) string {
	_, port, err := net.SplitHostPort(internal.String())
	if err != nil {
		return internal.String()
	}
	host := gossip
	if h, _, err := net.SplitHostPort(gossip); err == nil {
		host = h
	}
	if host == "" {
		host = s.InternalHost
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = ownAddress()
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// ownAddress returns the first address of this machine that others may reach,
// loopback where there is none.
func ownAddress() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}

// mount puts what other nodes ask before the operators' API.
func (f *fellows) mount(admin http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, peer.Prefix) {
			f.server.ServeHTTP(w, r)
			return
		}
		admin.ServeHTTP(w, r)
	})
}

// begin starts the gossip and follows it, until life ends. It blocks while the
// others are looked for, for some seconds at most.
func (f *fellows) begin(life context.Context, work *sync.WaitGroup, failed func(error)) error {
	f.holdings.Start()
	if err := f.members.Start(life); err != nil {
		return fmt.Errorf("joining the cluster: %w", err)
	}
	roster := f.members.View()
	f.log.Info("gossip started", "address", roster.Self().GossipAddress, "members", len(roster.Members()))
	work.Go(func() {
		if err := f.ring.Follow(life, f.members); err != nil && life.Err() == nil {
			f.log.Error("the ring is not followed any more", "error", err)
		}
	})
	work.Go(func() {
		select {
		case <-f.members.Evicted():
			failed(fmt.Errorf("another node bears this one's name: %w", f.members.Err()))
		case <-life.Done():
		}
	})
	return nil
}

// depart tells the others that this node is gone.
func (f *fellows) depart(ctx context.Context) error {
	if f.members == nil {
		return nil
	}
	if err := f.members.Leave(ctx); err != nil { // they will notice by themselves
		f.log.Warn("nobody was told that this node is gone", "error", err)
	}
	return f.members.Stop(ctx)
}

// leave tells the others to take over what this node holds.
func (f *fellows) leave() {
	if f.members == nil {
		return
	}
	f.members.SetState(cluster.Leaving)
	f.server.SetDraining(true)
}

// othersReady reports whether somebody else may own conversations.
func (f *fellows) othersReady() bool {
	for _, name := range f.members.View().Ready() {
		if name != f.cfg.Cluster.NodeName {
			return true
		}
	}
	return false
}

// Owner implements delivery.Cluster.
func (f *fellows) Owner(convo string) (owner persistence.Holder, self, ok bool) {
	name, ok := f.ring.View().Owner(convo)
	if !ok {
		return persistence.Holder{}, false, false
	}
	if name == f.cfg.Cluster.NodeName {
		return persistence.Holder{}, true, true
	}
	m, ok := f.members.View().Member(name)
	if !ok || !(delivery.Flags{ActorSystem: m.ActorsEnabled, RolloutPercent: m.RolloutPercent}).Covers(convo) {
		return persistence.Holder{}, false, false
	}
	return persistence.Holder{Node: name, Address: m.InternalAddress}, false, true
}

// Leaving implements delivery.Cluster.
func (f *fellows) Leaving() bool { return f.leaving() }

// Deny implements delivery.Cluster.
func (f *fellows) Deny(convo, session string) { f.holdings.Deny(convo, session) }
