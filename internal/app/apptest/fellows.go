package apptest

import (
	"context"
	"testing"

	"catbird/cluster"
	"catbird/internal/config"
)

// ClusterSecret is that of clusters in tests.
const ClusterSecret = "the secret of a cluster in a test"

// Fellow makes a node one of a cluster that shares redis and joins those whose
// gossip listens at join.
func Fellow(name, redis string, join ...string) Change {
	return func(c *config.Config) {
		c.Cluster.NodeName, c.Cluster.RedisURL, c.Cluster.Secret = name, config.Secret(redis), ClusterSecret
		c.Cluster.GossipHost, c.Cluster.GossipPort, c.Cluster.GossipJoin = "127.0.0.1", 0, join
	}
}

// StartCluster starts a node for each name, all on the database that where leads
// to and the Redis at redis, and waits until all of them see each other ready
// and go by one ring. The nodes stop in the test's cleanup, the last one first.
func StartCluster(t testing.TB, redis string, where Change, names ...string) []*Node {
	t.Helper()
	var nodes []*Node
	var join []string
	for _, name := range names {
		n := Start(t, where, Actors(true), Fellow(name, redis, join...))
		nodes = append(nodes, n)
		join = []string{nodes[0].GossipAddress(t)}
	}
	AwaitCluster(t, nodes...)
	return nodes
}

// AwaitCluster waits until nodes see each other and nobody else, all ready, and
// go by one ring.
func AwaitCluster(t testing.TB, nodes ...*Node) {
	t.Helper()
	Await(t, "the cluster to agree", func() bool {
		for _, n := range nodes {
			if !n.agrees(t, len(nodes)) {
				return false
			}
		}
		return true
	})
}

// agrees reports whether n sees size nodes, all ready, that go by its ring.
func (n *Node) agrees(t testing.TB, size int) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), Patience)
	defer cancel()
	v, err := n.Operator(t).Cluster(ctx)
	if err != nil || len(v.Members) != size {
		return false
	}
	for _, m := range v.Members {
		if m.State != cluster.Ready.String() || m.Partitions == 0 || m.RingVersion == nil || *m.RingVersion != v.Ring.Version {
			return false
		}
	}
	return true
}

// GossipAddress returns where the gossip of a node in a cluster listens.
func (n *Node) GossipAddress(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	v, err := n.Operator(t).Cluster(ctx)
	if err != nil {
		t.Fatalf("asking a node for its cluster: %v", err)
	}
	for _, m := range v.Members {
		if m.Name == v.Node && m.GossipAddress != "" {
			return m.GossipAddress
		}
	}
	t.Fatalf("node %s tells no gossip address: %+v", v.Node, v.Members)
	return ""
}
