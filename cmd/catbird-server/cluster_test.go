package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/ctl"
	"catbird/internal/testenv"
)

const (
	leaseTTL    = 2 * time.Second
	fleetSecret = "a secret of the fleets of these tests"
)

// fleet is a cluster of processes on one PostgreSQL and one Redis, behind a
// load balancer.
type fleet struct {
	t        *testing.T
	where    apptest.Change
	env      []string
	nodes    map[string]*process
	balancer *apptest.Balancer
	client   *client.Client
}

func startFleet(t *testing.T, names []string, env ...string) *fleet {
	t.Helper()
	redis := testenv.Redis(t)
	f := &fleet{
		t: t, where: apptest.Postgres(testenv.Postgres(t)), nodes: map[string]*process{},
		balancer: apptest.NewBalancer(t, 100*time.Millisecond),
		env: append([]string{
			"REDIS_URL=" + redis, "CLUSTER_SECRET=" + fleetSecret, "CLUSTER_LABEL=" + strings.ReplaceAll(t.Name(), "/", "-"),
			"ENABLE_ACTOR_SYSTEM=true", "GOSSIP_HOST=127.0.0.1", "LEASE_TTL=" + leaseTTL.String(),
			"DRAIN_DELAY=500ms", "LOG_LEVEL=info,actor=warn,delivery=warn",
		}, env...),
	}
	for _, name := range names {
		f.start(name)
	}
	f.client = apptest.Client(t, func(c *client.Config) {
		c.HTTP = &http.Client{Transport: f.balancer}
		c.AttemptTimeout = 30 * time.Second
	}, "http://cluster")
	return f
}

// start starts a node that joins those there are, and waits until it gets
// requests.
func (f *fleet) start(name string, env ...string) *process {
	f.t.Helper()
	var join []string
	for _, p := range f.nodes {
		if at := p.find("gossip started"); at != nil {
			join = append(join, fmt.Sprint(at["address"]))
		}
	}
	all := append(append([]string{}, f.env...), "NODE_NAME="+name, "GOSSIP_PORT=0")
	if len(join) > 0 {
		all = append(all, "GOSSIP_JOIN="+strings.Join(join, ","))
	}
	p := start(f.t, f.where, append(all, env...)...)
	f.nodes[name] = p
	f.balancer.Set(name, strings.TrimPrefix(p.URL, "http://"))
	want := len(f.nodes)
	apptest.Await(f.t, "the balancer to see the node ready", func() bool { return f.balancer.Ready() >= want })
	return p
}

// stop stops a node as an operator does, and fails the test if that fails.
func (f *fleet) stop(name string) {
	f.t.Helper()
	p := f.nodes[name]
	p.signal(f.t, syscall.SIGTERM)
	if code := p.wait(f.t); code != 0 {
		f.t.Errorf("node %s exited with %d:\n%s", name, code, p)
	}
	delete(f.nodes, name)
	f.balancer.Remove(name)
}

// holders returns how many actors each node has, once no conversation is seen
// on two: the nodes are asked one after another, and a conversation may move in
// between.
func (f *fleet) holders() (held map[string]int) {
	f.t.Helper()
	apptest.Await(f.t, "each conversation to be in memory on one node at most", func() (ok bool) {
		held, ok = f.look()
		return ok
	})
	return held
}

// look asks every node once.
func (f *fleet) look() (held map[string]int, alone bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	held, seen := map[string]int{}, map[string]bool{}
	alone = true
	for name, p := range f.nodes {
		page, err := operatorOf(f.t, p).Actors(ctx, 1000, "")
		if err != nil {
			f.t.Fatal(err)
		}
		for _, a := range page.Actors {
			alone = alone && !seen[a.Convo]
			seen[a.Convo] = true
			held[name]++
		}
	}
	return held, alone
}

// settled reports whether every conversation is held by the node that the ring
// names, as all nodes see it.
func (f *fleet) settled(groups []*apptest.Group) bool {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	for _, p := range f.nodes {
		o := operatorOf(f.t, p)
		for _, g := range groups {
			at, err := o.Owner(ctx, g.ID)
			if err != nil {
				f.t.Fatal(err)
			}
			if at.Claim == nil || at.Claim.Node != at.ShouldOwn {
				return false
			}
		}
	}
	return true
}

func operatorOf(t *testing.T, p *process) *ctl.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := ctl.NewClient(p.Operator, fleetSecret, &http.Client{Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRollingRestartFailsNoRequest(t *testing.T) {
	names := []string{"a", "b", "c"}
	f := startFleet(t, names)
	groups := apptest.NewGroups(t, f.client, 24, 5)
	load := apptest.StartLoad(t, f.client, groups, apptest.LoadConfig{Workers: 8, CommitShare: 10})
	load.AwaitMore(t, 200)
	if held := f.holders(); len(held) < 2 {
		t.Errorf("all conversations on one node: %v", held)
	}
	for _, name := range names {
		f.stop(name)
		load.AwaitMore(t, 50)
		f.start(name)
		load.AwaitMore(t, 50)
	}
	load.Stop()
	load.Only(t)
	load.Verify(t, f.client, groups...)
	f.holders()
	t.Log(load)
}

func TestScaleOutAndInFailsNoRequest(t *testing.T) {
	f := startFleet(t, []string{"a"})
	groups := apptest.NewGroups(t, f.client, 24, 5)
	load := apptest.StartLoad(t, f.client, groups, apptest.LoadConfig{Workers: 8, CommitShare: 10, AddShare: 5})
	load.AwaitMore(t, 100)
	for _, name := range []string{"b", "c", "d"} {
		f.start(name)
		load.AwaitMore(t, 50)
	}
	apptest.Await(t, "every conversation where the ring wants it", func() bool { return f.settled(groups) })
	f.holders()
	for _, name := range []string{"a", "c"} {
		f.stop(name)
		load.AwaitMore(t, 50)
	}
	load.Stop()
	load.Only(t)
	load.Verify(t, f.client, groups...)
	f.holders()
}

func TestFlagChangesFailNoRequest(t *testing.T) {
	names := []string{"a", "b", "c"}
	f := startFleet(t, names)
	groups := apptest.NewGroups(t, f.client, 24, 5)
	load := apptest.StartLoad(t, f.client, groups, apptest.LoadConfig{Workers: 8, CommitShare: 10, AddShare: 5})
	load.AwaitMore(t, 100)
	set := func(name string, on bool, percent int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := operatorOf(t, f.nodes[name]).SetFlags(ctx, &on, &percent); err != nil {
			t.Fatal(err)
		}
		load.AwaitMore(t, 40)
	}
	set("a", true, 50)
	for _, name := range names { // rollback
		set(name, false, 100)
	}
	if held := f.holders(); len(held) != 0 {
		t.Errorf("actors with the flag off: %v", held)
	}
	for _, name := range names { // and the way back
		set(name, true, 100)
	}
	load.Stop()
	load.Only(t)
	load.Verify(t, f.client, groups...)
}

// A node that is killed fails what it was doing; after its session has lapsed
// everything is served by the others.
func TestKilledNodeIsReplaced(t *testing.T) {
	f := startFleet(t, []string{"a", "b", "c"})
	groups := apptest.NewGroups(t, f.client, 24, 5)
	load := apptest.StartLoad(t, f.client, groups, apptest.LoadConfig{Workers: 8, CommitShare: 10})
	load.AwaitMore(t, 200)
	f.nodes["b"].kill()
	f.balancer.Remove("b")
	delete(f.nodes, "b")
	killed := time.Now()
	// Every conversation answers again, whoever held it.
	for _, g := range groups {
		apptest.Await(t, "a send to "+g.ID, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := f.client.As(g.Members[0]).LeaveConvo(ctx, client.LeaveConvo{ConvoID: g.ID, TargetDID: g.Members[len(g.Members)-1]})
			return err == nil || client.NameOf(err) == conversation.TargetNotMember
		})
	}
	took := time.Since(killed)
	load.AwaitMore(t, 50)
	load.Stop()
	load.Only(t, conversation.OutcomeUnknown, "unreachable", conversation.NotMember, conversation.Unavailable)
	load.Verify(t, f.client, groups...)
	if took > leaseTTL+5*time.Second {
		t.Errorf("served again after %v, with a lease of %v", took, leaseTTL)
	}
	t.Logf("served again %v after the kill, lease %v", took, leaseTTL)
	f.start("b")
	f.holders()
}

// A node that is frozen for longer than its lease answers nothing from its
// memory when it is thawed, and finds its way back.
func TestFrozenNodeFindsItsWayBack(t *testing.T) {
	f := startFleet(t, []string{"a", "b", "c"})
	groups := apptest.NewGroups(t, f.client, 24, 5)
	load := apptest.StartLoad(t, f.client, groups, apptest.LoadConfig{Workers: 8, CommitShare: 10})
	load.AwaitMore(t, 200)
	frozen := f.nodes["b"]
	frozen.signal(t, syscall.SIGSTOP)
	f.balancer.Remove("b")
	load.AwaitMore(t, 100)
	others := apptest.Client(t, nil, f.nodes["a"].URL, f.nodes["c"].URL)
	for _, g := range groups { // everybody's epoch moves while b is frozen
		apptest.Await(t, "a commit to "+g.ID, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			_, err := load.Commit(ctx, others, g, g.Members[0])
			return err == nil
		})
	}
	load.Stop()
	want := map[string]int64{}
	for _, g := range groups {
		epoch, err := others.As(g.Members[0]).GetEpoch(t.Context(), g.ID)
		if err != nil {
			t.Fatal(err)
		}
		want[g.ID] = epoch
	}
	frozen.signal(t, syscall.SIGCONT)
	thawed := apptest.Client(t, nil, frozen.URL)
	for _, g := range groups { // the very first answers
		epoch, err := thawed.As(g.Members[0]).GetEpoch(t.Context(), g.ID)
		if err == nil && epoch != want[g.ID] {
			t.Errorf("the thawed node tells epoch %d of %s, which is at %d", epoch, g.ID, want[g.ID])
		}
	}
	f.balancer.Set("b", strings.TrimPrefix(frozen.URL, "http://"))
	apptest.Await(t, "the thawed node to be ready", func() bool { return f.balancer.Ready() == 3 })
	again := apptest.StartLoad(t, f.client, groups, apptest.LoadConfig{Workers: 4})
	again.AwaitMore(t, 100)
	again.Stop()
	again.Only(t)
	load.Only(t, conversation.OutcomeUnknown, "unreachable", conversation.Unavailable)
	load.Verify(t, f.client, groups...)
	f.holders()
}
