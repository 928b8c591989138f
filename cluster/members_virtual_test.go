package cluster

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Membership in virtual time: what the tests on sockets cannot bound, since
// there a busy machine takes its share of every wait.
//
// notices bounds the time until everybody has noticed that a node died: a turn
// of probing, the probe, the suspicion, and the news on their way. Whoever finds
// several silent probes them one after another, and each time more slowly.
const (
	notices    = 4 * time.Second
	noticesAll = 10 * time.Second
)

// spreads bounds the time until everybody has heard what a node says.
const spreads = time.Second

// seeks bounds a round of seeking after a wait that is a fifth longer.
func seeks(wait time.Duration) time.Duration { return wait*6/5 + streamTimeout }

func TestVirtualJoinIsRetriedWithDNSResolvedAfresh(t *testing.T) {
	virtually(t, func(t *testing.T, g *gossiping) {
		var mu sync.Mutex // of what follows
		var asked []time.Time
		var known []string // to DNS; nil: no such name
		dns := resolver(func(string) []string {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, time.Now())
			return slices.Clone(known)
		})
		lookups := func() []time.Time {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(asked)
		}
		know := func(addrs ...string) {
			mu.Lock()
			defer mu.Unlock()
			known = addrs
		}
		b := startMember(t, g.node("b", 2, joins("catbird.test"), func(c *MembersConfig) { c.Resolver = dns }))
		if !sees("b")(b.View()) {
			t.Fatalf("it sees %+v", b.View().Members())
		}
		pass(time.Minute)
		alone := lookups()
		if n := len(alone); n < 10 || n > 25 {
			t.Fatalf("alone for a minute it asked %d times", n)
		}
		for i, at := range alone[2:] {
			if pause := at.Sub(alone[i+1]); pause < firstRetry*2*4/5 || pause > lastRetry*6/5 {
				t.Errorf("pause %d is %v", i+1, pause)
			}
		}

		know(host(9)) // an address where nobody is any more
		pass(time.Minute)
		a := startMember(t, g.node("a", 1))
		know(host(9), host(1))
		awaitFor(t, b, seeks(lastRetry), "a", sees("a", "b"))
		awaitFor(t, a, spreads, "b", sees("a", "b"))

		before := len(lookups())
		pass(5 * time.Minute)
		if n := len(lookups()) - before; n < 8 || n > 13 {
			t.Errorf("in company it asked %d times in five minutes", n)
		}
	})
}

func TestVirtualStatesAreSeen(t *testing.T) {
	virtually(t, func(t *testing.T, g *gossiping) {
		all := g.cluster("a", "b", "c")
		b := all[1]
		for _, state := range []MemberState{Ready, Leaving} {
			b.SetState(state)
			for _, m := range all {
				awaitFor(t, m, spreads, "b "+state.String(), func(r *Roster) bool {
					seen, _ := r.Member("b")
					return seen.State == state && slices.Contains(r.Ready(), "b") == (state == Ready)
				})
			}
		}
		if err := b.Leave(within(t)); err != nil {
			t.Fatal(err)
		}
		for _, m := range []*Members{all[0], all[2]} {
			awaitFor(t, m, spreads, "b gone", sees("a", "c"))
			if lost := m.lostAddresses(time.Now()); len(lost) != 0 {
				t.Errorf("who has left is looked for at %v", lost)
			}
		}
	})
}

func TestVirtualDeathIsNoticed(t *testing.T) {
	virtually(t, func(t *testing.T, g *gossiping) {
		all := g.cluster("a", "b", "c", "d")
		stopMember(t, all[3])
		for _, m := range all[:3] {
			awaitFor(t, m, notices, "d gone", sees("a", "b", "c"))
			if lost := m.lostAddresses(time.Now()); !slices.Equal(lost, []string{gossipAt(4)}) {
				t.Errorf("%s looks for %v", m.cfg.Name, lost)
			}
		}
		pass(lostKept + time.Minute)
		if targets := all[1].targets(within(t)); len(targets) != 0 {
			t.Errorf("after long it still looks for %v", targets)
		}
	})
}

// A node that does not answer for less than the time in which it may object
// stays: nobody's view changes.
func TestVirtualShortSilenceChangesNothing(t *testing.T) {
	virtually(t, func(t *testing.T, g *gossiping) {
		all := g.cluster("a", "b", "c")
		pass(10 * time.Second)
		changes, cancel := all[0].Subscribe()
		defer cancel()
		for range 20 {
			g.weather.split(all[2:])
			pass(probeInterval)
			g.weather.split()
			pass(10 * time.Second)
		}
		select {
		case <-changes:
			t.Errorf("it sees %+v", all[0].View().Members())
		default:
		}
	})
}

// Whoever is cut off alone looks for the others all the time; it need not be
// told anew where they are.
func TestVirtualIsolatedNodeRejoins(t *testing.T) {
	virtually(t, func(t *testing.T, g *gossiping) {
		all := g.cluster("a", "b", "c")
		first := all[0] // has been told of nobody but itself
		for _, away := range []time.Duration{10 * time.Second, 5 * time.Minute} {
			g.weather.split(all[:1])
			awaitFor(t, first, noticesAll, "nobody else", sees("a"))
			awaitFor(t, all[1], noticesAll, "the others", sees("b", "c"))
			pass(away)
			g.weather.split()
			for _, m := range all {
				awaitFor(t, m, seeks(lastRetry), "everybody", sees("a", "b", "c"))
			}
		}
	})
}

// Two halves have company and look less often. One asks those it has lost, for
// as long as it remembers them, and in any case those it was told to join.
func TestVirtualHalvesMerge(t *testing.T) {
	virtually(t, func(t *testing.T, g *gossiping) {
		all := g.cluster("a", "b", "c", "d")
		for _, away := range []time.Duration{time.Minute, lostKept + time.Minute} {
			g.weather.split(all[:2], all[2:])
			for i, m := range all {
				awaitFor(t, m, noticesAll, "its half", sees([]string{"a", "c"}[i/2], []string{"b", "d"}[i/2]))
			}
			pass(away)
			for _, m := range all {
				if n := len(m.View().Members()); n != 2 {
					t.Errorf("%s sees %d", m.cfg.Name, n)
				}
			}
			g.weather.split()
			for _, m := range all {
				awaitFor(t, m, seeks(defaultSeekEvery)+spreads, "everybody", sees("a", "b", "c", "d"))
			}
		}
	})
}

func TestVirtualSecondOfANameIsRefused(t *testing.T) {
	virtually(t, func(t *testing.T, g *gossiping) {
		all := g.cluster("a", "b")
		before, _ := all[0].View().Member("b")
		began := time.Now()
		err := g.node("b", 3, joins(gossipAt(1))).Start(within(t))
		var taken *NameTakenError
		if !errors.As(err, &taken) || taken.GossipAddress != gossipAt(2) {
			t.Fatalf("the second b: %v", err)
		}
		if took := time.Since(began); took > spreads+leaveTimeout {
			t.Errorf("that took %v", took)
		}
		pass(time.Minute)
		if after, _ := all[0].View().Member("b"); after != before || all[1].Err() != nil {
			t.Errorf("b was %+v, is %+v, evicted: %v", before, after, all[1].Err())
		}
	})
}

// A node that died comes back at another address before anybody has noticed:
// its old port refuses, so nobody waits for an answer from there.
func TestVirtualNameReturnsElsewhere(t *testing.T) {
	virtually(t, func(t *testing.T, g *gossiping) {
		all := g.cluster("a", "b", "c")
		stopMember(t, all[1])
		began := time.Now()
		again := startMember(t, g.node("b", 4, joins(gossipAt(1))))
		if took := time.Since(began); took > spreads {
			t.Errorf("Start took %v", took)
		}
		for _, m := range []*Members{all[0], all[2], again} {
			awaitFor(t, m, spreads, "b at its new address", seesAt("b", gossipAt(4)))
			awaitFor(t, m, spreads, "three members", sees("a", "b", "c"))
		}
		pass(time.Minute) // its old life is found dead meanwhile, which is no news
		if !seesAt("b", gossipAt(4))(all[0].View()) || again.Err() != nil {
			t.Errorf("later a sees %+v; the new b: %v", all[0].View().Members(), again.Err())
		}
	})
}

// Where the old life does not even refuse, the new one waits for its answer as
// long as one may take, and then takes its place, even if its clock is behind.
// The old one goes as soon as it sees others again.
func TestVirtualYoungerLifeWins(t *testing.T) {
	virtually(t, func(t *testing.T, g *gossiping) {
		a := startMember(t, g.node("a", 1))
		old := g.node("b", 2, joins(gossipAt(1)))
		old.change(func(l *life) { l.Started = l.Started.Add(time.Hour) })
		startMember(t, old)
		await(t, a, "b", sees("a", "b"))
		g.weather.split([]*Members{old})

		began := time.Now()
		young := startMember(t, g.node("b", 3, joins(gossipAt(1))))
		if took := time.Since(began); took < defaultAnswerTimeout || took > defaultAnswerTimeout+spreads {
			t.Errorf("Start took %v", took)
		}
		awaitFor(t, a, spreads, "the young b", seesAt("b", gossipAt(3)))
		pass(time.Minute)
		if err := old.Err(); err != nil {
			t.Fatalf("evicted before it could know: %v", err)
		}

		g.weather.split()
		select {
		case <-old.Evicted():
		case <-time.After(seeks(lastRetry) + defaultAnswerTimeout):
			t.Fatal("the old b did not notice")
		}
		var taken *NameTakenError
		if !errors.As(old.Err(), &taken) || taken.GossipAddress != gossipAt(3) {
			t.Errorf("it says %v", old.Err())
		}
		pass(time.Minute)
		if young.Err() != nil || !seesAt("b", gossipAt(3))(a.View()) {
			t.Errorf("the young b: %v; a sees %+v", young.Err(), a.View().Members())
		}
	})
}

// The longest metadata there is travels whole.
func TestVirtualLongestMetadata(t *testing.T) {
	virtually(t, func(t *testing.T, g *gossiping) {
		name := strings.Repeat("n", maxName)
		a := startMember(t, g.node("a", 1))
		b := startMember(t, g.node(name, 2, joins(gossipAt(1)), func(c *MembersConfig) {
			c.InternalAddress = strings.Repeat("h", maxAddress-len(":8081")) + ":8081"
			c.Version, c.ActorsEnabled, c.RolloutPercent = strings.Repeat("v", maxVersion), true, 100
		}))
		b.SetState(Ready)
		awaitFor(t, a, spreads, "all of it", func(r *Roster) bool {
			seen, ok := r.Member(name)
			return ok && seen == b.View().Self() && seen.State == Ready
		})
	})
}
