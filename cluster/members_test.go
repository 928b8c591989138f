package cluster

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMembersTellEachOther(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	a := startMember(t, newMember(t, "a", func(c *MembersConfig) { c.Registerer = reg }))
	b := startMember(t, newMember(t, "b", joining(a), func(c *MembersConfig) {
		c.InternalAddress, c.Version, c.ActorsEnabled, c.RolloutPercent = "10.1.2.3:8081", "v2", true, 40
	}))
	c := startMember(t, newMember(t, "c", joining(a)))

	await(t, c, "all members", sees("a", "b", "c"))
	await(t, a, "all members", sees("a", "b", "c"))
	got, _ := a.View().Member("b")
	want := b.View().Self()
	if got != want {
		t.Errorf("a sees of b\n%+v, b is\n%+v", got, want)
	}
	if got.State != Joining || !got.ActorsEnabled || got.RolloutPercent != 40 || got.Version != "v2" ||
		got.InternalAddress != "10.1.2.3:8081" || got.GossipAddress != gossipAddress(b) || time.Since(got.Started) > time.Minute {
		t.Errorf("a sees of b %+v", got)
	}

	b.SetState(Ready)
	if b.View().Self().State != Ready {
		t.Error("b's own view has not changed with its state")
	}
	await(t, c, "b ready", func(r *Roster) bool { return len(r.Ready()) == 1 && r.Ready()[0] == "b" })
	b.SetActors(false, 7)
	await(t, c, "b's flag", func(r *Roster) bool {
		m, _ := r.Member("b")
		return !m.ActorsEnabled && m.RolloutPercent == 7 && m.State == Ready
	})
	if n := testutil.CollectAndCount(a.metrics.members); n != 3 {
		t.Errorf("%d states are counted, not 3", n)
	}

	b.SetState(Leaving)
	await(t, a, "b leaving", func(r *Roster) bool { m, _ := r.Member("b"); return m.State == Leaving })
	if err := b.Leave(within(t)); err != nil {
		t.Fatal(err)
	}
	await(t, a, "b gone", sees("a", "c"))
	await(t, c, "b gone", sees("a", "c"))
	await2(t, "two members to be counted", func() bool {
		return testutil.GatherAndCompare(reg, strings.NewReader(`
			# HELP cluster_members Members that this node sees, itself included, by state.
			# TYPE cluster_members gauge
			cluster_members{state="joining"} 2
			cluster_members{state="leaving"} 0
			cluster_members{state="ready"} 0
		`), "cluster_members") == nil
	})
}

func TestMembersNoticeACrash(t *testing.T) {
	t.Parallel()
	all := group(t, "a", "b", "c", "d")
	killed := time.Now()
	stopMember(t, all[3])
	for _, m := range all[:3] {
		await(t, m, "d gone", sees("a", "b", "c"))
	}
	t.Logf("all noticed after %v", time.Since(killed))
}

func TestMembersRestartElsewhere(t *testing.T) {
	t.Parallel()
	all := group(t, "a", "b", "c")
	before := all[2].View().Self()
	stopMember(t, all[2])

	again := newMember(t, "c", joining(all[0]))
	again.answerTimeout = time.Hour // only a refusal says sooner that the old life is gone
	startMember(t, again)
	for _, m := range all[:2] {
		await(t, m, "the new c", seesAt("c", gossipAddress(again)))
		await(t, m, "three members", sees("a", "b", "c"))
	}
	if after := again.View().Self(); !after.Started.After(before.Started) || after.GossipAddress == before.GossipAddress {
		t.Errorf("the new life %+v does not come after the old one %+v", after, before)
	}
}

// A clock that goes wrong between two lives does not make the older one win.
func TestMembersRestartWithClockBehind(t *testing.T) {
	t.Parallel()
	all := group(t, "a", "b")
	ahead := newMember(t, "c", joining(all[0]))
	ahead.change(func(l *life) { l.Started = l.Started.Add(time.Hour) })
	startMember(t, ahead)
	await(t, all[1], "c", seesAt("c", gossipAddress(ahead)))
	stopMember(t, ahead)

	again := startMember(t, newMember(t, "c", joining(all[0])))
	for _, m := range all {
		await(t, m, "the new c", seesAt("c", gossipAddress(again)))
	}
	await(t, again, "everybody", sees("a", "b", "c"))
}

func TestMembersRestartOnTheSamePort(t *testing.T) {
	t.Parallel()
	all := group(t, "a", "b")
	stopMember(t, all[1])
	_, port, err := splitAddress(gossipAddress(all[1]), 0)
	if err != nil {
		t.Fatal(err)
	}
	again := startMember(t, newMember(t, "b", joining(all[0]), func(c *MembersConfig) { c.BindPort = port }))
	await(t, all[0], "the new b", func(r *Roster) bool {
		m, _ := r.Member("b")
		return m.Started.Equal(again.View().Self().Started)
	})
}

func TestMembersIgnoreStrangersMetadata(t *testing.T) {
	t.Parallel()
	a := startMember(t, newMember(t, "a"))
	ahead := life{Member: Member{Name: "x", Started: time.Now(), State: Ready}}.encode()
	for i, meta := range [][]byte{nil, []byte("hello"), {metaMark}, ahead[:len(ahead)-1]} {
		stranger := strangerTo(t, a, meta)
		await2(t, "metadata to be counted", func() bool { return testutil.ToFloat64(a.metrics.badMeta) == float64(i+1) })
		if err := stranger.Shutdown(); err != nil {
			t.Error(err)
		}
	}
	if !sees("a")(a.View()) {
		t.Errorf("a sees %+v", a.View().Members())
	}
}

// strangerTo joins a gossip node that is no node of ours.
func strangerTo(t *testing.T, m *Members, meta []byte) *memberlist.Memberlist {
	t.Helper()
	c := gossipConfig()
	c.Name, c.Label = "stranger"+time.Now().String(), "test"
	c.BindAddr, c.BindPort, c.AdvertisePort = "127.0.0.1", 0, 0
	c.Logger = newLibraryLog(quiet)
	c.Delegate = strangeMeta(meta)
	list, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	await2(t, "the stranger to join", func() bool {
		_, err := list.Join([]string{gossipAddress(m)})
		return err == nil
	})
	return list
}

type strangeMeta []byte

func (s strangeMeta) NodeMeta(int) []byte           { return s }
func (strangeMeta) NotifyMsg([]byte)                {}
func (strangeMeta) GetBroadcasts(int, int) [][]byte { return nil }
func (strangeMeta) LocalState(bool) []byte          { return []byte("state of a stranger") }
func (strangeMeta) MergeRemoteState([]byte, bool)   {}

// await2 waits for what no channel tells.
func await2(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestMembersLifecycle(t *testing.T) {
	t.Parallel()
	m := newMember(t, "a")
	if err := m.Leave(within(t)); err != nil {
		t.Errorf("Leave before Start: %v", err)
	}
	startMember(t, m)
	if err := m.Start(within(t)); err == nil {
		t.Error("a second Start succeeded")
	}
	stopMember(t, m)
	stopMember(t, m)
	if err := m.Leave(within(t)); err != nil {
		t.Errorf("Leave after Stop: %v", err)
	}
	if err := m.Start(within(t)); err == nil {
		t.Error("Start after Stop succeeded")
	}

	never := newMember(t, "b")
	stopMember(t, never)
	if err := never.Start(within(t)); err == nil {
		t.Error("Start after Stop succeeded")
	}
}

func TestMembersStartFails(t *testing.T) {
	t.Parallel()
	a := startMember(t, newMember(t, "a"))
	_, port, err := splitAddress(gossipAddress(a), 0)
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	nowhere := resolver(func(string) []string { return nil })
	for name, test := range map[string]struct {
		ctx   context.Context
		alter func(*MembersConfig)
	}{
		"port in use":         {within(t), func(c *MembersConfig) { c.BindPort = port }},
		"ctx over":            {over, joining(a)},
		"bind host unknown":   {within(t), func(c *MembersConfig) { c.BindHost, c.Resolver = "nowhere.test", nowhere }},
		"advertise unknown":   {within(t), func(c *MembersConfig) { c.Advertise, c.Resolver = "nowhere.test", nowhere }},
		"advertise malformed": {within(t), func(c *MembersConfig) { c.Advertise = "a:b:c" }},
	} {
		t.Run(name, func(t *testing.T) {
			if err := newMember(t, "b", test.alter).Start(test.ctx); err == nil {
				t.Error("Start succeeded")
			}
		})
	}
}

func TestNewMembersRefuses(t *testing.T) {
	t.Parallel()
	for name, alter := range map[string]func(*MembersConfig){
		"no name":          func(c *MembersConfig) { c.Name = "" },
		"name with space":  func(c *MembersConfig) { c.Name = "a b" },
		"long name":        func(c *MembersConfig) { c.Name = strings.Repeat("n", 129) },
		"internal address": func(c *MembersConfig) { c.InternalAddress = "host" },
		"port 0":           func(c *MembersConfig) { c.InternalAddress = "host:0" },
		"long label":       func(c *MembersConfig) { c.Label = strings.Repeat("l", 256) },
		"short key":        func(c *MembersConfig) { c.Keys = [][]byte{[]byte("short")} },
		"join":             func(c *MembersConfig) { c.Join = []string{"host:port"} },
		"percent":          func(c *MembersConfig) { c.RolloutPercent = 101 },
		"version":          func(c *MembersConfig) { c.Version = "v\n1" },
	} {
		cfg := MembersConfig{Name: "a", Logger: quiet}
		alter(&cfg)
		if _, err := NewMembers(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAlone(t *testing.T) {
	t.Parallel()
	a := NewAlone(AloneConfig{Name: "a", InternalAddress: "h:1", Version: "v", ActorsEnabled: true, RolloutPercent: 100})
	if err := a.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	changes, cancel := a.Subscribe()
	defer cancel()
	if self := a.View().Self(); self.State != Joining || !sees("a")(a.View()) || self.InternalAddress != "h:1" {
		t.Errorf("it begins as %+v", self)
	}
	a.SetState(Ready)
	select {
	case <-changes:
	default:
		t.Error("a change did not wake the subscriber")
	}
	a.SetState(Ready)
	select {
	case <-changes:
		t.Error("no change woke the subscriber")
	default:
	}
	a.SetActors(false, 5)
	if self := a.View().Self(); self.State != Ready || self.ActorsEnabled || self.RolloutPercent != 5 {
		t.Errorf("it is %+v", self)
	}
	select {
	case <-a.Evicted():
		t.Error("evicted")
	default:
	}
	for _, err := range []error{a.Err(), a.Leave(within(t)), a.Stop(within(t)), a.Stop(within(t))} {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestBellCoalesces(t *testing.T) {
	t.Parallel()
	var b bell
	one, cancelOne := b.Subscribe()
	two, cancelTwo := b.Subscribe()
	defer cancelTwo()
	b.wakeAll()
	b.wakeAll()
	<-one
	<-two
	select {
	case <-one:
		t.Error("two rings came as two")
	default:
	}
	cancelOne()
	b.wakeAll()
	select {
	case <-one:
		t.Error("woken after cancel")
	default:
	}
	<-two
}

func TestMembersOverIPv6(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6")
	}
	_ = l.Close()
	six := func(c *MembersConfig) { c.BindHost = "::1" }
	a := startMember(t, newMember(t, "a", six))
	b := startMember(t, newMember(t, "b", six, joining(a)))
	await(t, a, "b", seesAt("b", gossipAddress(b)))
	if !strings.HasPrefix(gossipAddress(b), "[::1]:") {
		t.Errorf("b is at %s", gossipAddress(b))
	}
}
