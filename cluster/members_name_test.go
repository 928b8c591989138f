package cluster

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSecondOfANameIsRefused(t *testing.T) {
	t.Parallel()
	all := group(t, "a", "b")
	all[1].SetState(Ready)
	await(t, all[0], "b ready", func(r *Roster) bool { return len(r.Ready()) == 1 })
	before, _ := all[0].View().Member("b")
	changes, cancel := all[0].Subscribe()
	defer cancel()

	err := newMember(t, "b", joining(all[0])).Start(within(t))
	var taken *NameTakenError
	if !errors.As(err, &taken) {
		t.Fatalf("the second b started: %v", err)
	}
	if taken.Name != "b" || taken.GossipAddress != gossipAddress(all[1]) || taken.InternalAddress != "10.0.0.1:8081" {
		t.Errorf("it says %v", err)
	}
	if text := err.Error(); !strings.Contains(text, `"b"`) || !strings.Contains(text, gossipAddress(all[1])) {
		t.Errorf("it says %s", text)
	}
	// Metadata travels in order: when d is seen, so would the intruder have been.
	startMember(t, newMember(t, "d", joining(all[0])))
	await(t, all[0], "d", sees("a", "b", "d"))
	<-changes
	if after, _ := all[0].View().Member("b"); after != before {
		t.Errorf("b was %+v, is %+v", before, after)
	}
	if all[1].Err() != nil {
		t.Errorf("the first b was evicted: %v", all[1].Err())
	}
}

// Two that start at the same moment may not see each other at their first
// contact. One stays.
func TestTwoOfANameAtOnce(t *testing.T) {
	t.Parallel()
	seed := startMember(t, newMember(t, "a"))
	both := []*Members{newMember(t, "b", joining(seed)), newMember(t, "b", joining(seed))}
	var wg sync.WaitGroup
	errs := make([]error, len(both))
	for i, m := range both {
		wg.Go(func() { errs[i] = m.Start(within(t)) })
	}
	wg.Wait()
	if errs[0] != nil && errs[1] != nil {
		t.Fatalf("both were refused: %v; %v", errs[0], errs[1])
	}
	if errs[0] == nil && errs[1] == nil {
		select {
		case <-both[0].Evicted():
		case <-both[1].Evicted():
		case <-within(t).Done():
			t.Fatal("both stayed")
		}
	}
	stays := both[0]
	if errs[0] != nil || both[0].Err() != nil {
		stays = both[1]
	}
	await(t, seed, "the one that stays", seesAt("b", gossipAddress(stays)))
}

// A node that was cut off for long finds another in its place when it is back,
// and goes.
func TestReplacedLifeIsEvicted(t *testing.T) {
	t.Parallel()
	var w weather
	a := startMember(t, newMember(t, "a", w.under))
	old := startMember(t, newMember(t, "b", w.under, joining(a)))
	await(t, a, "b", sees("a", "b"))
	w.split([]*Members{old})
	await(t, old, "isolation", sees("b"))

	young := startMember(t, newMember(t, "b", w.under, joining(a)))
	await(t, a, "the young b", seesAt("b", gossipAddress(young)))
	if err := old.Err(); err != nil {
		t.Fatalf("evicted before it could know: %v", err)
	}
	w.split()
	select {
	case <-old.Evicted():
	case <-within(t).Done():
		t.Fatal("the old b did not notice")
	}
	var taken *NameTakenError
	if !errors.As(old.Err(), &taken) || taken.GossipAddress != gossipAddress(young) {
		t.Errorf("it says %v", old.Err())
	}
	if young.Err() != nil || !seesAt("b", gossipAddress(young))(a.View()) {
		t.Errorf("the young b: %v; a sees %+v", young.Err(), a.View().Members())
	}
}

// Whoever is alone at first and meets a cluster later that has its name is the
// intruder, however old it is.
func TestIntruderThatMeetsTheClusterLater(t *testing.T) {
	t.Parallel()
	var w weather
	all := []*Members{startMember(t, newMember(t, "a", w.under))}
	all = append(all, startMember(t, newMember(t, "b", w.under, joining(all[0]))))
	await(t, all[0], "b", sees("a", "b"))
	w.split(all)
	intruder := startMember(t, newMember(t, "b", w.under, joining(all[0])))
	intruder.change(func(l *life) { l.Started = l.Started.Add(-time.Hour) })
	if !sees("b")(intruder.View()) {
		t.Fatalf("the intruder sees %+v", intruder.View().Members())
	}
	w.split()
	select {
	case <-intruder.Evicted():
	case <-within(t).Done():
		t.Fatal("the intruder stayed")
	}
	if all[1].Err() != nil {
		t.Errorf("the rightful b was evicted: %v", all[1].Err())
	}
}
