package cluster

import (
	"bytes"
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

	young := newMember(t, "b", w.under, joining(a))
	young.answerTimeout = 500 * time.Millisecond // there will be no answer
	startMember(t, young)
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
	await(t, a, "the young b, and it alone", seesAt("b", gossipAddress(young))) // both may be seen for a moment
	if young.Err() != nil {
		t.Errorf("the young b: %v", young.Err())
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
		t.Fatalf("the intruder stayed; it sees %+v; the rightful b: %v, sees %+v",
			intruder.View().Members(), all[1].Err(), all[1].View().Members())
	}
	if all[1].Err() != nil {
		t.Errorf("the rightful b was evicted: %v", all[1].Err())
	}
}

func TestQuestionsThatAreNotForUs(t *testing.T) {
	t.Parallel()
	m := newMember(t, "a")
	e, forget := m.expect()
	defer forget()
	good := append([]byte{metaMark, kindQuestion}, e.nonce[:]...)
	good = append(append(good, 11), "127.0.0.1:9"...)
	for name, message := range map[string][]byte{
		"nothing":        nil,
		"another mark":   append([]byte{0}, good[1:]...),
		"another kind":   append([]byte{metaMark, 9}, good[2:]...),
		"short":          good[:9],
		"no address":     good[:10],
		"long address":   append(append(good[:10:10], 255), good[11:]...),
		"bad address":    append(append(good[:11:11], "127.0.0.1:x"...), m.gossip...),
		"another life":   append(good[:len(good):len(good)], "a~another"...),
		"answer to none": append([]byte{metaMark, kindAnswer, 1, 2, 3, 4, 5, 6, 7, 8}, *m.meta.Load()...),
		"answer of whom": append([]byte{metaMark, kindAnswer}, e.nonce[:]...),
		"cut off answer": {metaMark, kindAnswer, e.nonce[0]},
	} {
		m.hear(message)
		select {
		case q := <-m.asked:
			t.Errorf("%s: heard %+v", name, q)
		case <-e.heard:
			t.Errorf("%s: an answer", name)
		default:
		}
	}
	for range 2 * maxAsked {
		m.hear(append(good[:len(good):len(good)], m.gossip...))
	}
	if q := <-m.asked; q.nonce != e.nonce || q.from.String() != "127.0.0.1:9" {
		t.Errorf("heard %+v", q)
	}
	for range 2 {
		m.hear(append(append([]byte{metaMark, kindAnswer}, e.nonce[:]...), *m.meta.Load()...))
	}
	if l := <-e.heard; l.Name != "a" || !l.unsure {
		t.Errorf("answered %+v", l)
	}
}

// FuzzHear feeds what anybody who knows the gossip's key, or needs none, may send
// to a node. It is asked only by its own name and for an address, and hears
// answers only to its own questions.
func FuzzHear(f *testing.F) {
	m := newMember(f, "a")
	question := append([]byte{metaMark, kindQuestion, 1, 2, 3, 4, 5, 6, 7, 8, 11}, "127.0.0.1:9"...)
	f.Add(question)
	f.Add(append(question[:len(question):len(question)], m.gossip...))
	f.Add(append([]byte{metaMark, kindAnswer, 1, 2, 3, 4, 5, 6, 7, 8}, *m.meta.Load()...))
	f.Add([]byte{metaMark, kindQuestion, 1, 2, 3, 4, 5, 6, 7, 8, 255})
	f.Fuzz(func(t *testing.T, message []byte) {
		e, forget := m.expect()
		defer forget()
		m.hear(message)
		select {
		case q := <-m.asked:
			if !q.from.IsValid() || !bytes.HasSuffix(message, []byte(m.gossip)) {
				t.Fatalf("%q is heard as %+v", message, q)
			}
		case l := <-e.heard:
			t.Fatalf("%q is heard as an answer: %+v", message, l)
		default:
		}
	})
}
