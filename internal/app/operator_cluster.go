package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"catbird/cluster"
	"catbird/internal/ctl"
	"catbird/operator"
)

// surroundings implement operator.Cluster for a node with fellows and for one
// without.
type surroundings struct {
	node   string
	status func(ctx context.Context) operator.Status
	roster func() []operator.Member
	ring   func() *cluster.RingView
	lease  func(ctx context.Context, convo string) (entry cluster.Entry, live bool, err error)
	// secret and nodes are for asking other nodes.
	secret string
	nodes  *http.Client
}

// askTimeout bounds asking another node how it is.
const askTimeout = time.Second

// surroundings makes what the operators' API is told of the cluster.
func (a *App) surroundings() *surroundings {
	s := &surroundings{
		node: a.cfg.Cluster.NodeName, status: a.status, secret: a.cfg.Cluster.Secret.Reveal(),
		nodes: &http.Client{
			// No connection is kept: a node that stops would wait for it to be closed.
			Transport:     &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: askTimeout}).DialContext},
			Timeout:       askTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if a.fellows != nil {
		s.roster, s.ring, s.lease = a.fellows.roster, a.fellows.ring.View, a.fellows.lease.Find
		return s
	}
	one := cluster.RingOfOne(s.node)
	s.roster, s.ring = a.rosterOfOne, func() *cluster.RingView { return one }
	s.lease = func(context.Context, string) (cluster.Entry, bool, error) { return cluster.Entry{}, false, nil }
	return s
}

// status says how this node is, but for its ring.
func (a *App) status(ctx context.Context) operator.Status {
	flags, checks := a.delivery.Flags(), a.checks(ctx)
	return operator.Status{
		Name: a.cfg.Cluster.NodeName, State: a.State().String(), Version: a.version,
		ActorsEnabled: flags.ActorSystem, RolloutPercent: flags.RolloutPercent, ActiveActors: a.actors.Active(),
		Checks: operator.Checks{Database: checks.Database, Redis: checks.Redis, Cluster: checks.Cluster},
	}
}

// rosterOfOne is the roster of a node alone.
func (a *App) rosterOfOne() []operator.Member {
	flags := a.delivery.Flags()
	return []operator.Member{{
		Name: a.cfg.Cluster.NodeName, Address: advertised(a.cfg.Cluster.GossipAdvertise, a.cfg.Server, a.internal.ln.Addr()),
		State: a.State().String(), ActorsEnabled: flags.ActorSystem, RolloutPercent: flags.RolloutPercent, Version: a.version,
	}}
}

// roster is the roster as gossip has it.
func (f *fellows) roster() []operator.Member {
	members := f.members.View().Members()
	out := make([]operator.Member, len(members))
	for i, m := range members {
		out[i] = operator.Member{
			Name: m.Name, Address: m.InternalAddress, GossipAddress: m.GossipAddress, State: m.State.String(),
			ActorsEnabled: m.ActorsEnabled, RolloutPercent: m.RolloutPercent, Version: m.Version,
		}
	}
	return out
}

// Status implements operator.Cluster.
func (s *surroundings) Status(ctx context.Context) operator.Status {
	out := s.status(ctx)
	out.RingVersion = s.ring().Version()
	return out
}

// Roster implements operator.Cluster.
func (s *surroundings) Roster() operator.ClusterView {
	ring := s.ring()
	v := operator.ClusterView{
		Node: s.node, Members: s.roster(),
		Ring: operator.Ring{Partitions: cluster.RingPartitions, Version: ring.Version()},
	}
	for i := range v.Members {
		v.Members[i].Partitions = ring.Partitions(v.Members[i].Name)
	}
	return v
}

// Place implements operator.Cluster.
func (s *surroundings) Place(convo string) (partition int, node string) {
	ring := s.ring()
	node, _ = ring.Owner(convo) // "" when the ring is empty
	return ring.Partition(convo), node
}

// Lease implements operator.Cluster.
func (s *surroundings) Lease(ctx context.Context, convo string) (*operator.Hold, error) {
	e, live, err := s.lease(ctx, convo)
	if err != nil || !live {
		return nil, err
	}
	return &operator.Hold{Node: e.Node, Session: e.Session, Fence: e.Fence}, nil
}

// Ask implements operator.Cluster. What it sends is good for nothing else: it is
// gossip that says where the other node is.
func (s *surroundings) Ask(ctx context.Context, address string) (operator.Status, error) {
	c, err := ctl.NewClient("http://"+address, operator.StatusToken(s.secret), s.nodes)
	if err != nil {
		return operator.Status{}, fmt.Errorf("address of another node: %w", err)
	}
	return c.Node(ctx)
}
