//go:build broken

package broken_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"catbird/cluster"
	"catbird/conversation"
	"catbird/internal/broken"
	"catbird/internal/memstore"
	"catbird/internal/testenv"
)

// moment is how long a change is waited for that a conversation's holder stands
// in the way of. It is over early only where the rule is left out.
const moment = 300 * time.Millisecond

func commit(text string) conversation.Command { return conversation.Commit{Commit: []byte(text)} }

// schedules make of each variant what it can do wrong. With nothing left out
// each ends well.
var schedules = []struct {
	name    string
	variant broken.Variant
	run     func(w *world)
	// catches are the beginnings of the rules that are broken, all of them.
	catches []string
}{
	{"append without the fence", broken.AppendWithoutFence, appendAfterLoss, []string{"there is one order"}},
	{"read without the deadline", broken.ReadWithoutDeadline, readAfterLoss, []string{"there is one order", "of the nodes"}},
	{"deadline of the current session", broken.CurrentSessionsDeadline, readInNextLife, []string{"there is one order"}},
	{"no silence", broken.NoSilence, readDuringAppend, []string{"there is one order"}},
	{"a reload keeps its fence", broken.ReloadKeepsFence, appendFromBefore, []string{"there is one order"}},
	{"a direct write ignores the claim", broken.DirectIgnoresClaim, writeBesideHolder, []string{"there is one order"}},
	{"a retry without ids", broken.RetryWithoutIDs, retryOfWhatWasDone, []string{"there is one order"}},
	{"a retry tells refusals", broken.RetryTellsRefusals, retryThatIsRefused, []string{"there is one order"}},
	{"release without the fence", broken.ReleaseWithoutFence, releaseFromBefore, []string{"there is one order"}},
}

// appendAfterLoss: an append is on its way when its node loses the
// conversation, and lands when another one serves it.
func appendAfterLoss(w *world) {
	a, b, d := w.node("a", actors), w.node("b", actors), w.node("d", noActors)
	a.epoch(alice)
	hold := make(chan struct{})
	late := w.gate.will("append", fate{before: hold})
	giveUp, _ := a.start(alice, commit("late"))
	<-late.reached
	a.end()
	b.epoch(alice)
	close(hold)
	<-late.ran
	d.epoch(alice)
	b.epoch(alice)
	giveUp()
}

// readAfterLoss: a node that has lost its session is asked.
func readAfterLoss(w *world) {
	a, b := w.node("a", actors), w.node("b", actors)
	a.epoch(alice)
	a.end()
	b.do(w.t.Context(), alice, commit("k"))
	b.epoch(alice)
	a.epoch(alice)
}

// readInNextLife: it is asked when it has another session.
func readInNextLife(w *world) {
	a, b := w.node("a", actors), w.node("b", actors)
	a.epoch(alice)
	a.end()
	b.do(w.t.Context(), alice, commit("k"))
	a.begin()
	a.epoch(alice)
}

// readDuringAppend: a commit is stored, and its node does not know yet.
func readDuringAppend(w *world) {
	a, d := w.node("a", actors), w.node("d", noActors)
	a.epoch(alice)
	hold := make(chan struct{})
	slow := w.gate.will("append", fate{after: hold})
	_, answered := a.start(alice, commit("k"))
	<-slow.ran
	d.epoch(alice)
	a.epoch(alice)
	close(hold)
	<-answered
}

// appendFromBefore: contact is lost with an append that lands after its node
// has loaded the conversation anew.
func appendFromBefore(w *world) {
	a, d := w.node("a", actors), w.node("d", noActors)
	a.epoch(alice)
	hold := make(chan struct{})
	late := w.gate.will("append", fate{lost: true, before: hold})
	for range 20 { // it is tried again, in vain
		w.gate.will("append", fate{refused: true})
	}
	_, answered := a.start(alice, commit("k"))
	<-answered
	a.epoch(alice)
	close(hold)
	<-late.ran
	d.epoch(alice)
	a.epoch(alice)
}

// writeBesideHolder: a node without actors is asked to change what another one
// has in memory.
func writeBesideHolder(w *world) {
	a, d := w.node("a", actors), w.node("d", noActors)
	a.epoch(alice)
	ctx, cancel := context.WithTimeout(w.t.Context(), moment)
	defer cancel()
	d.do(ctx, alice, commit("k"))
	a.epoch(alice)
}

// retryOfWhatWasDone: a message is stored, and the reply is lost.
func retryOfWhatWasDone(w *world) {
	d := w.node("d", noActors)
	w.gate.will("direct", fate{lost: true})
	hold := make(chan struct{})
	again := w.gate.will("direct", fate{before: hold})
	_, answered := d.start(alice, conversation.Send{Ciphertext: []byte("m")})
	<-again.reached
	w.gate.running.Wait() // the first has landed
	close(hold)
	<-answered
}

// retryThatIsRefused: contact is lost with a change, its retry is refused, and
// then it lands, when it is allowed again.
func retryThatIsRefused(w *world) {
	d := w.node("d", noActors)
	first, second := make(chan struct{}), make(chan struct{})
	late := w.gate.will("direct", fate{lost: true, before: first})
	again := w.gate.will("direct", fate{before: second})
	_, answered := d.start(bob, commit("bob's"))
	<-again.reached
	d.do(w.t.Context(), alice, conversation.Leave{Target: bob, Commit: []byte("out")})
	close(second)
	<-answered
	d.do(w.t.Context(), alice, conversation.AddMembers{DIDs: []string{bob}, Commit: []byte("in")})
	close(first)
	<-late.ran
	d.epoch(bob)
}

// releaseFromBefore: contact is lost with a release that lands after its node
// has loaded the conversation anew.
func releaseFromBefore(w *world) {
	a, d := w.node("a", actors), w.node("d", noActors)
	a.epoch(alice)
	hold := make(chan struct{})
	late := w.gate.will("release", fate{lost: true, before: hold})
	if err := a.reg.Release(w.t.Context(), w.db.convo); err == nil {
		w.t.Error("the release was answered")
	}
	a.epoch(alice)
	close(hold)
	<-late.ran
	ctx, cancel := context.WithTimeout(w.t.Context(), moment)
	defer cancel()
	d.do(ctx, alice, commit("k"))
	a.epoch(alice)
}

// TestEveryVariantIsCaught runs each schedule with nothing left out, which must
// end well, and with one rule left out, which must not.
func TestEveryVariantIsCaught(t *testing.T) {
	stores := map[string]func(testing.TB) backing{"memory": inMemory, "PostgreSQL": onPostgres(testenv.Postgres(t))}
	for name, open := range stores {
		for _, s := range schedules {
			t.Run(s.name+" in "+name, func(t *testing.T) {
				t.Run("control", func(t *testing.T) { judge(t, open, broken.None, s.run, nil) })
				t.Run("variant", func(t *testing.T) { judge(t, open, s.variant, s.run, s.catches) })
			})
		}
	}
}

// judge runs a schedule, and demands that exactly these rules are broken.
func judge(t *testing.T, open func(testing.TB) backing, v broken.Variant, run func(*world), catches []string) {
	broken.Set(v)
	defer broken.Set(broken.None)
	w := newWorld(t, open(t))
	func() {
		defer w.stop()
		run(w)
	}()
	demand(t, w, catches)
}

func demand(t *testing.T, w *world, catches []string) {
	t.Helper()
	r := w.verdict()
	for _, v := range r.Violations {
		t.Logf("%s", v)
	}
	if r.OK() != (len(catches) == 0) || len(r.Violations) != len(catches) {
		t.Fatalf("%d violations, want %d: %+v", len(r.Violations), len(catches), r.Results)
	}
	for i, v := range r.Violations {
		if !strings.HasPrefix(v.Rule, catches[i]) {
			t.Errorf("rule %q, want %q", v.Rule, catches[i])
		}
	}
}

// TestPrivateJudgementIsCaught lets a node renew just before another one, which
// has seen it stand still for long enough, ends its session.
func TestPrivateJudgementIsCaught(t *testing.T) {
	for name, tt := range map[string]struct {
		variant broken.Variant
		catches []string
	}{
		"control": {broken.None, nil},
		"variant": {broken.PrivateJudgement, []string{"there is one order", "of the nodes"}},
	} {
		t.Run(name, func(t *testing.T) {
			broken.Set(tt.variant)
			defer broken.Set(broken.None)
			var w *world
			synctest.Test(t, func(t *testing.T) { w = judgedTooSoon(t) })
			w.t = t
			demand(t, w, tt.catches)
		})
	}
}

const ttl = 5 * time.Second

func judgedTooSoon(t *testing.T) *world {
	db := inMemory(t)
	mem := db.store.(*memstore.Store)
	w := newWorld(t, db)
	defer w.stop()
	a, b := w.keptNode("a"), w.keptNode("b")
	a.epoch(alice)
	stalled := &stall{session: a.session(), ending: make(chan struct{})}
	mem.SetFaults(stalled.fault)
	defer mem.SetFaults(nil)
	<-stalled.ending
	<-time.After(2 * endingTakes)
	ctx, cancel := context.WithTimeout(t.Context(), moment)
	defer cancel()
	a.epoch(alice)
	b.do(ctx, alice, commit("k"))
	b.epoch(alice)
	a.epoch(alice)
	return w
}

// keptNode starts a node with a keeper.
func (w *world) keptNode(name string) *node {
	n := &node{w: w, name: name}
	n.keeper = cluster.NewKeeper(cluster.KeeperConfig{Store: w.db, Node: name, TTL: ttl, Logger: discard})
	if err := n.keeper.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if err := n.keeper.Established(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	n.build(actors)
	return n
}
