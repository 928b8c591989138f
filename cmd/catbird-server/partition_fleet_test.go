package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"catbird/cluster"
	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/ctl"
	"catbird/internal/testenv"
)

// site is a node with what leads from it to others, each of which can be cut.
type site struct {
	name            string
	host            *testenv.Host // nil: the node is on this machine's loopback
	database, redis *testenv.Proxy
	node            *process
	client          *client.Client // of this node alone
	operator        *ctl.Client
}

// parted is a cluster of processes, each of which can be cut off from the other
// nodes, from PostgreSQL and from Redis.
type parted struct {
	t     *testing.T
	sites []*site
	redis *testenv.Server
	// network connects the nodes; nil where this machine has none to offer: then
	// they cannot be cut off from each other.
	network *testenv.Network
	http    *http.Transport
}

// startParted starts a cluster of three.
func startParted(t *testing.T) *parted {
	t.Helper()
	redis, err := testenv.StartRedis()
	if err != nil {
		t.Fatalf("this test needs Redis: %v", err)
	}
	t.Cleanup(redis.Close)
	f := &parted{t: t, redis: redis}
	names := []string{"a", "b", "c"}
	f.network, err = testenv.NewNetwork(t, len(names))
	switch {
	case err != nil && os.Getenv("TEST_NAMESPACES") == "required":
		t.Fatalf("TEST_NAMESPACES says required, but: %v", err)
	case err != nil:
		t.Logf("NODES ARE NOT CUT OFF FROM EACH OTHER HERE, only from PostgreSQL and Redis: that needs Linux, root and ip (%v)", err)
		f.network = nil
	}
	f.http = &http.Transport{DialContext: f.dial, MaxIdleConnsPerHost: 256, DisableCompression: true}
	t.Cleanup(f.http.CloseIdleConnections)
	database := testenv.Postgres(t)
	for i, name := range names {
		s := &site{name: name}
		if f.network != nil {
			s.host = f.network.Hosts()[i]
		}
		f.start(s, database)
		f.sites = append(f.sites, s)
	}
	f.awaitAgreement()
	return f
}

func (f *parted) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if f.network == nil {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return f.network.DialContext(ctx, network, address)
}

// start starts the node of s, with proxies of its own to the servers.
func (f *parted) start(s *site, database string) {
	f.t.Helper()
	address, by := "127.0.0.1", (*exec.Cmd).Start
	listen := func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
	if s.host != nil {
		address, by, listen = s.host.Addr, s.host.Start, s.host.Listen
	}
	through := func(url string) (*testenv.Proxy, string) {
		l, err := listen()
		if err != nil {
			f.t.Fatalf("listening at node %s: %v", s.name, err)
		}
		return testenv.ProxyURLOn(f.t, l, url)
	}
	var databaseURL, redisURL string
	s.database, databaseURL = through(database)
	s.redis, redisURL = through(f.redis.URL())
	var join []string
	for _, other := range f.sites {
		join = append(join, fmt.Sprint(other.node.find("gossip started")["address"]))
	}
	s.node = launchBy(f.t, by, apptest.Postgres(databaseURL),
		"NODE_NAME="+s.name, "SERVER_HOST="+address, "GOSSIP_HOST="+address, "GOSSIP_PORT=0", "GOSSIP_JOIN="+strings.Join(join, ","),
		"REDIS_URL="+redisURL, "CLUSTER_SECRET="+fleetSecret, "CLUSTER_LABEL=parted", "ENABLE_ACTOR_SYSTEM=true",
		"LEASE_TTL="+leaseTTL.String(), "REQUEST_TIMEOUT="+requestTimeout.String(), "LOG_LEVEL=info,actor=warn,delivery=info")
	s.node.await(f.t, "node ready")
	s.client = apptest.Client(f.t, func(c *client.Config) { c.HTTP = &http.Client{Transport: f.http} }, s.node.URL)
	var err error
	if s.operator, err = ctl.NewClient(s.node.Operator, fleetSecret, &http.Client{Transport: f.http}); err != nil {
		f.t.Fatal(err)
	}
}

// requestTimeout is longer than anything that is promised.
const requestTimeout = 15 * time.Second

// awaitAgreement waits until all nodes see all, ready, and go by one ring.
func (f *parted) awaitAgreement() {
	f.t.Helper()
	apptest.Await(f.t, "the nodes to agree", func() bool {
		var ring uint64
		for i, s := range f.sites {
			v, err := s.operator.Cluster(f.t.Context())
			if err != nil || len(v.Members) != len(f.sites) || i > 0 && v.Ring.Version != ring || !f.ready(s) {
				return false
			}
			ring = v.Ring.Version
			for _, m := range v.Members {
				if m.State != cluster.Ready.String() || m.Partitions == 0 {
					return false
				}
			}
		}
		return true
	})
}

func (f *parted) ready(s *site) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.t.Context()), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.node.URL+"/health/ready", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	res, err := f.http.RoundTrip(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// topic is a conversation that people talk in.
type topic struct {
	*apptest.Group
	told  told
	owner string // the node that should own it
	// rare: it is only read for a while, and never written to by clients of its
	// owner, so that what the owner has in memory stays there.
	rare bool
}

// topics creates conversations, for each of the nodes three that it should own,
// one of them a rare one.
func (f *parted) topics() []*topic {
	f.t.Helper()
	const each = 3
	var out []*topic
	owned := map[string]int{}
	for range 1000 {
		g := apptest.NewGroup(f.t, f.sites[0].client, 4)
		o, err := f.sites[0].operator.Owner(f.t.Context(), g.ID)
		if err != nil {
			f.t.Fatal(err)
		}
		if owned[o.ShouldOwn]++; owned[o.ShouldOwn] <= each {
			out = append(out, &topic{Group: g, owner: o.ShouldOwn, rare: owned[o.ShouldOwn] == each})
		}
		if len(out) == each*len(f.sites) {
			return out
		}
	}
	f.t.Fatalf("the ring gives %v", owned)
	return nil
}

// memory returns what s holds in memory: conversations with their fences.
func (f *parted) memory(s *site) map[string]int64 {
	f.t.Helper()
	page, err := s.operator.Actors(f.t.Context(), 1000, "")
	if err != nil {
		f.t.Fatalf("asking %s for its actors: %v", s.name, err)
	}
	out := map[string]int64{}
	for _, a := range page.Actors {
		if a.Seq > 0 { // 0: it is being loaded, or was dropped
			out[a.Convo] = a.Fence
		}
	}
	return out
}

// checkMemory fails the test if a conversation is in the memory of two of sites
// at one instant: if one has it, with the same fence, before and after the other
// was found to have it.
func (f *parted) checkMemory(sites ...*site) {
	f.t.Helper()
	for _, s := range sites {
		before := f.memory(s)
		others := map[string]string{}
		for _, other := range sites {
			if other != s {
				for convo := range f.memory(other) {
					others[convo] = other.name
				}
			}
		}
		for convo, fence := range f.memory(s) {
			if old, was := before[convo]; was && old == fence && others[convo] != "" {
				f.t.Errorf("%s is in memory on %s (fence %d) and on %s", convo, s.name, fence, others[convo])
			}
		}
	}
}

// checkIntegrity lets a node look through the data.
func (f *parted) checkIntegrity() {
	f.t.Helper()
	found, err := f.sites[0].operator.Integrity(f.t.Context(), "")
	if err != nil {
		f.t.Errorf("looking through the data: %v", err)
	} else if !found.Clean() {
		f.t.Errorf("the data is damaged: %+v", found)
	}
}

// without returns all sites but those.
func (f *parted) without(those []*site) (out []*site) {
	for _, s := range f.sites {
		if !among(s, those) {
			out = append(out, s)
		}
	}
	return out
}

func among(s *site, those []*site) bool { return slices.Contains(those, s) }

func (f *parted) eachSite(do func(*site) error) (errs []error) {
	for _, s := range f.sites {
		errs = append(errs, do(s))
	}
	return errs
}

// way is how a server is out of reach.
type way string

const (
	open    way = ""
	refused way = "refused" // connections break, and new ones too
	silent  way = "silent"  // what is sent arrives when it is over
)

// cut is what a node is cut off from.
type cut struct {
	nodes           bool
	redis, database way
}

func (c cut) String() string {
	var parts []string
	if c.nodes {
		parts = append(parts, "nodes")
	}
	if c.redis != open {
		parts = append(parts, "redis_"+string(c.redis))
	}
	if c.database != open {
		parts = append(parts, "database_"+string(c.database))
	}
	return strings.Join(parts, "_and_")
}

// apply cuts s off; heal undoes it.
func (f *parted) apply(s *site, c cut) error {
	if c.nodes {
		if err := s.host.Unplug(); err != nil {
			return err
		}
	}
	for p, w := range map[*testenv.Proxy]way{s.redis: c.redis, s.database: c.database} {
		switch w {
		case refused:
			p.Cut()
		case silent:
			p.Stall()
		}
	}
	return nil
}

func (f *parted) heal(s *site) error {
	s.redis.Restore()
	s.database.Restore()
	if s.host == nil {
		return nil
	}
	return s.host.Plug()
}
