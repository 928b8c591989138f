package app_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"catbird/cluster"
	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/ctl"
	"catbird/internal/testenv"
	"catbird/operator"
)

func view(t *testing.T, n *apptest.Node) operator.ClusterView {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	v, err := n.Operator(t).Cluster(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func owner(t *testing.T, n *apptest.Node, convo string) operator.Ownership {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	o, err := n.Operator(t).Owner(ctx, convo)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// checksOf returns what /health tells.
func checksOf(t *testing.T, n *apptest.Node) (status int, redis, clusterText string) {
	t.Helper()
	status, _, body := apptest.Get(t, n.URL+"/health")
	var h struct {
		Checks struct{ Redis, Cluster string }
	}
	if err := json.Unmarshal([]byte(body), &h); err != nil {
		t.Fatalf("/health answers %d %s", status, body)
	}
	return status, h.Checks.Redis, h.Checks.Cluster
}

func TestOperatorSeesTheCluster(t *testing.T) {
	nodes := apptest.StartCluster(t, testenv.Redis(t), apptest.Postgres(testenv.Postgres(t)), "a", "b", "c")
	c := apptest.Client(t, nil, nodes[0].URL)
	groups := apptest.NewGroups(t, c, 12, 2)
	for _, g := range groups {
		if _, err := c.As(g.Members[0]).SendMessage(t.Context(), client.SendMessage{ConvoID: g.ID, Ciphertext: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("members", func(t *testing.T) {
		for i, n := range nodes {
			v := view(t, n)
			if want := string("abc"[i]); v.Node != want {
				t.Errorf("node %q answers, want %q", v.Node, want)
			}
			partitions, actors := 0, 0
			for j, m := range v.Members {
				if m.Name != string("abc"[j]) || m.Address != nodes[j].InternalAddr() || !m.ActorsEnabled || m.RolloutPercent != 100 || m.Version == "" {
					t.Errorf("%s sees %+v", v.Node, m)
				}
				if m.Checks == nil || *m.Checks != (operator.Checks{Database: "healthy", Redis: "healthy", Cluster: "3 members"}) {
					t.Errorf("%s sees the checks %+v of %s", v.Node, m.Checks, m.Name)
				}
				partitions += m.Partitions
				actors += *m.ActiveActors
			}
			if partitions != v.Ring.Partitions || v.Ring.Partitions != cluster.RingPartitions || v.Ring.Version == 0 {
				t.Errorf("%d partitions are spread, the ring is %+v", partitions, v.Ring)
			}
			if actors != len(groups) {
				t.Errorf("%s sees %d actors, want one for each of %d conversations", v.Node, actors, len(groups))
			}
		}
	})

	t.Run("owner", func(t *testing.T) {
		byNode := map[string]int{}
		for _, g := range groups {
			first := owner(t, nodes[0], g.ID)
			byNode[first.ShouldOwn]++
			if first.Claim == nil || first.Claim.Node != first.ShouldOwn || first.Lease == nil || *first.Lease != *first.Claim || first.Claim.Session == "" {
				t.Errorf("of a conversation at rest: %+v, lease %+v, claim %+v", first, first.Lease, first.Claim)
			}
			if other := owner(t, nodes[2], strings.ToUpper(g.ID)); other.ShouldOwn != first.ShouldOwn || *other.Claim != *first.Claim || other.Convo != g.ID {
				t.Errorf("another node says %+v, the first %+v", other, first)
			}
		}
		if len(byNode) < 2 {
			t.Errorf("12 conversations belong to %v", byNode)
		}
		_, err := nodes[1].Operator(t).Owner(t.Context(), "00ff")
		var refused *ctl.Error
		if !asError(err, &refused) || refused.Status != http.StatusNotFound || refused.Code != "ConvoNotFound" {
			t.Errorf("the owner of nothing: %v", err)
		}
	})

	t.Run("strangers", func(t *testing.T) {
		for _, path := range []string{"/node", "/cluster", "/cluster/owner?convoId=" + groups[0].ID} {
			if status, _, body := apptest.Get(t, "http://"+nodes[0].InternalAddr()+path); status != http.StatusUnauthorized {
				t.Errorf("%s tells a stranger: %d %s", path, status, body)
			}
		}
	})

	t.Run("flags and leaving", func(t *testing.T) {
		on, off := true, false
		if _, err := nodes[1].Operator(t).SetFlags(t.Context(), &off, nil); err != nil {
			t.Fatal(err)
		}
		apptest.Await(t, "a to hear that b's actors are off", func() bool {
			m := view(t, nodes[0]).Members[1]
			return !m.ActorsEnabled && m.ActiveActors != nil && *m.ActiveActors == 0
		})
		if _, err := nodes[1].Operator(t).SetFlags(t.Context(), &on, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := nodes[2].Operator(t).Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		apptest.Await(t, "c to have left the ring", func() bool {
			v := view(t, nodes[0])
			m := v.Members[2]
			return m.State == "leaving" && m.Partitions == 0 && m.ActiveActors != nil && *m.ActiveActors == 0
		})
	})

	t.Run("a node that is gone", func(t *testing.T) {
		if err := nodes[2].Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
		apptest.Await(t, "a to see two members", func() bool {
			status, _, members := checksOf(t, nodes[0])
			return status == http.StatusOK && members == "2 members" && len(view(t, nodes[0]).Members) == 2
		})
	})
}

// Redis is no reason to be unready: it only tells where to ask first.
func TestOperatorSeesThatRedisIsLost(t *testing.T) {
	proxy, redis := testenv.ProxyURL(t, testenv.Redis(t))
	n := apptest.StartCluster(t, redis, apptest.Postgres(testenv.Postgres(t)), "a", "b")[0]
	c := apptest.Client(t, nil, n.URL)
	g := apptest.NewGroup(t, c, 2)
	if _, err := c.As(g.Members[0]).SendMessage(t.Context(), client.SendMessage{ConvoID: g.ID, Ciphertext: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	proxy.Cut()
	apptest.Await(t, "the loss of Redis to be seen", func() bool {
		_, redis, _ := checksOf(t, n)
		return redis == "unreachable"
	})
	if status, _, members := checksOf(t, n); status != http.StatusOK || members != "2 members" {
		t.Errorf("/health answers %d with %q while Redis is lost", status, members)
	}
	if status, _, body := apptest.Get(t, n.URL+"/health/ready"); status != http.StatusOK {
		t.Errorf("/health/ready answers %d while Redis is lost: %s", status, body)
	}
	if o := owner(t, n, g.ID); o.Claim == nil || o.Lease != nil || !o.LeaseUnknown {
		t.Errorf("the owner while Redis is lost: %+v", o)
	}
	if m := view(t, n).Members[0]; m.Checks == nil || m.Checks.Redis != "unreachable" {
		t.Errorf("member %+v", m)
	}
	proxy.Restore()
	apptest.Await(t, "Redis to be found again", func() bool {
		_, redis, _ := checksOf(t, n)
		return redis == "healthy"
	})
}

func TestOperatorOfANodeAlone(t *testing.T) {
	apptest.Databases(t, func(t *testing.T, where apptest.Change) {
		n := apptest.Start(t, where, apptest.Actors(true), func(c *config.Config) { c.Cluster.NodeName = "solo" })
		c := apptest.Client(t, nil, n.URL)
		g := apptest.NewGroup(t, c, 2)
		if _, err := c.As(g.Members[0]).SendMessage(t.Context(), client.SendMessage{ConvoID: g.ID, Ciphertext: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		v := view(t, n)
		if v.Node != "solo" || len(v.Members) != 1 || v.Ring.Partitions != cluster.RingPartitions {
			t.Fatalf("the cluster of one: %+v", v)
		}
		m := v.Members[0]
		if m.Name != "solo" || m.State != "ready" || m.Address != n.InternalAddr() || m.Partitions != v.Ring.Partitions || *m.ActiveActors != 1 || *m.RingVersion != v.Ring.Version {
			t.Errorf("the only member: %+v", m)
		}
		o := owner(t, n, g.ID)
		if o.ShouldOwn != "solo" || o.Lease != nil || o.LeaseUnknown || o.Claim == nil || o.Claim.Node != "solo" || o.Claim.Fence < 1 {
			t.Errorf("owner %+v, claim %+v", o, o.Claim)
		}
		if status, redis, members := checksOf(t, n); status != http.StatusOK || redis != "not configured" || members != "alone" {
			t.Errorf("/health answers %d, redis %q, cluster %q", status, redis, members)
		}
	})
}
