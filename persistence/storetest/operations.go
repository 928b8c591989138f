package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

var operationsTests = []test{
	{name: "OverviewTellsEverything", run: overviewTellsEverything},
	{name: "HolderIsWhoseClaimCounts", run: holderIsWhoseClaimCounts},
	{name: "PingAndStats", run: pingAndStats},
	{name: "CanceledContext", run: canceledContext},
	{name: "ClosedIsUnavailable", alone: true, run: closedIsUnavailable},
	{name: "HousekeepDeletesWhatHasEnded", alone: true, run: housekeepDeletesWhatHasEnded},
	{name: "HousekeepInBatches", alone: true, run: housekeepInBatches},
	{name: "HousekeepCountsBeforeItDeletes", alone: true, run: housekeepCountsBeforeItDeletes},
	{name: "HousekeepFoldsWhatACrashLeft", alone: true, run: housekeepFoldsWhatACrashLeft},
	{name: "HousekeepLeavesLogsUsable", alone: true, run: housekeepLeavesLogsUsable},
}

func overviewTellsEverything(t *testing.T, f *fixture) {
	alice, bob, carol := f.did("alice"), f.did("bob"), f.did("carol")
	at := now().Add(-time.Minute)
	convo := f.convoAt(at, alice, bob)
	f.directAt(envAt(at.Add(time.Second)), convo, alice, send(0, "1"))
	f.directAt(envAt(at.Add(2*time.Second)), convo, alice, send(0, "2"))
	f.directAt(envAt(at.Add(3*time.Second)), convo, alice, add(carol))
	f.directAt(envAt(at.Add(4*time.Second)), convo, carol, send(1, "4"))
	f.directAt(envAt(at.Add(5*time.Second)), convo, carol, conversation.Leave{})

	o, err := f.Store.Overview(f.ctx, convo)
	f.ok(err, "read the overview")
	equal(f, o.ID, convo, "id")
	equal(f, o.Epoch, 2, "epoch")
	equal(f, o.Seq, 5, "seq")
	equal(f, o.Creator, alice, "creator")
	f.sameTime(o.CreatedAt, at, "time of creation")
	equal(f, len(o.Members), 3, "members")
	for _, m := range o.Members {
		equal(f, m.LeftAt != nil, m.DID == carol, m.DID+" has left")
		if m.DID == bob {
			equal(f, m.Unread, 3, "bob's unread messages")
		}
	}
	want := []persistence.EpochSummary{
		{Epoch: 0, Messages: 2, First: at.Add(time.Second), Last: at.Add(2 * time.Second)},
		{Epoch: 1, Commits: 1, Messages: 1, First: at.Add(3 * time.Second), Last: at.Add(4 * time.Second)},
		{Epoch: 2, Commits: 1, First: at.Add(5 * time.Second), Last: at.Add(5 * time.Second)},
	}
	equal(f, len(o.ByEpoch), len(want), "epochs")
	for i, w := range want {
		g := o.ByEpoch[i]
		equal(f, g.Epoch, w.Epoch, "epoch")
		equal(f, g.Commits, w.Commits, "commits")
		equal(f, g.Messages, w.Messages, "messages")
		f.sameTime(g.First, w.First, "first")
		f.sameTime(g.Last, w.Last, "last")
	}
	_, err = f.Store.Overview(f.ctx, newConvoID())
	f.refused(err, conversation.ConvoNotFound, "overview of nothing")
}

func holderIsWhoseClaimCounts(t *testing.T, f *fixture) {
	convo := f.convo(f.did("alice"))
	nobody := func(when string) {
		t.Helper()
		h, held, err := f.Store.Holder(f.ctx, convo)
		f.ok(err, "look up the holder "+when)
		equal(f, h, persistence.Holder{}, "holder "+when)
		equal(f, held, false, "held "+when)
	}
	nobody("before a claim")
	first, second := f.session(), f.session()
	claim := f.hold(first.ID, convo)
	h, held, err := f.Store.Holder(f.ctx, convo)
	f.ok(err, "look up the holder")
	equal(f, held, true, "held")
	equal(f, h, persistence.Holder{Session: first.ID, Node: first.Node, Address: first.Address, Fence: claim.fence}, "holder")
	f.ok(f.Store.Release(f.ctx, first.ID, []persistence.Claim{{Convo: convo, Fence: claim.fence}}), "release")
	nobody("after the release")
	f.hold(second.ID, convo)
	f.ok(f.Store.EndSession(f.ctx, second.ID), "end the session")
	nobody("after its session's end")

	_, _, err = f.Store.Holder(f.ctx, newConvoID())
	f.refused(err, conversation.ConvoNotFound, "holder of nothing")
}

func pingAndStats(t *testing.T, f *fixture) {
	f.ok(f.Store.Ping(f.ctx), "ping")
	if s := f.Store.Stats(); s.Max <= 0 || s.Active+s.Idle > s.Max {
		t.Fatalf("stats: %+v", s)
	}
}

// Whoever gave up is told so, and what was not begun did not happen.
func canceledContext(t *testing.T, f *fixture) {
	alice := f.did("alice")
	h := f.held(alice)
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	u, _ := h.unit(env(), f.request(h.convo, alice, send(0, "1")))
	_, err := f.Store.Append(ctx, []*conversation.Unit{u})
	if !errors.Is(err, context.Canceled) && !errors.Is(err, persistence.ErrUnavailable) {
		t.Fatalf("append: got error %v", err)
	}
	_, err = f.Store.Epoch(ctx, h.convo, alice)
	if !errors.Is(err, context.Canceled) && !errors.Is(err, persistence.ErrUnavailable) {
		t.Fatalf("epoch: got error %v", err)
	}
	equal(f, f.log(h.convo, alice).LastSeq, 0, "last seq")
	equal(f, f.appendOne(u), persistence.Appended, "the same unit once somebody waits")
}

func closedIsUnavailable(t *testing.T, f *fixture) {
	alice := f.did("alice")
	h := f.held(alice)
	u, _ := h.unit(env(), f.request(h.convo, alice, send(0, "1")))
	f.ok(f.Store.Close(), "close")
	calls := map[string]func() error{
		"Ping":         func() error { return f.Store.Ping(f.ctx) },
		"RenewSession": func() error { return f.Store.RenewSession(f.ctx, h.session) },
		"LiveSessions": func() error { _, err := f.Store.LiveSessions(f.ctx); return err },
		"Claim":        func() error { _, err := f.Store.Claim(f.ctx, h.session, []string{h.convo}); return err },
		"Append":       func() error { _, err := f.Store.Append(f.ctx, []*conversation.Unit{u}); return err },
		"Lookup": func() error {
			_, err := f.Store.Lookup(f.ctx, []string{h.convo}, []persistence.Ref{{ID: newID()}})
			return err
		},
		"Direct": func() error { return f.tryDirect(h.convo, alice, send(0, "1")) },
		"Create": func() error {
			_, _, err := f.Store.Create(f.ctx, f.creation(newConvoID(), conversation.Creation{Creator: alice}, env()))
			return err
		},
		"Fold":  func() error { return f.Store.Fold(f.ctx, []string{h.convo}) },
		"Epoch": func() error { _, err := f.Store.Epoch(f.ctx, h.convo, alice); return err },
		"Messages": func() error {
			_, err := f.Store.Messages(f.ctx, persistence.MessagesQuery{Convo: h.convo, Caller: alice, Limit: 1})
			return err
		},
		"Housekeep": func() error { _, err := f.Store.Housekeep(f.ctx, persistence.Retention{}, 1); return err },
	}
	for name, call := range calls {
		f.is(call(), persistence.ErrUnavailable, name)
	}
}

// atOnce keeps nothing that has ended.
var atOnce = persistence.Retention{
	Requests: time.Nanosecond, Welcomes: time.Nanosecond, Sessions: time.Nanosecond,
}

func (f *fixture) housekeep(r persistence.Retention, batch int) persistence.Removed {
	f.t.Helper()
	got, err := f.Store.Housekeep(f.ctx, r, batch)
	f.ok(err, "housekeep")
	equal(f, got.Busy, false, "busy")
	return got
}

func housekeepDeletesWhatHasEnded(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	convo := f.convo(alice)
	f.direct(convo, alice, send(0, "stays"))
	f.directAt(expired(), convo, alice, send(0, "goes"))
	kept, used := f.publish(bob, "stays"), f.publish(bob, "goes, used up")
	f.publishUntil(bob, "goes, expired", now().Add(-time.Second))
	f.direct(convo, alice, conversation.AddMembers{
		DIDs: []string{bob}, Welcome: []byte("goes"), KeyPackages: []conversation.KeyPackageRef{{DID: bob, Hash: used.Hash}},
	})
	f.confirm(convo, bob, true)
	_, err := f.Store.Direct(f.ctx, "", f.keyed(convo, bob, "k", send(1, "its record goes")), env())
	f.ok(err, "send with a key")
	live, over := f.session(), f.session()
	f.ok(f.Store.EndSession(f.ctx, over.ID), "end a session")
	f.ok(f.Store.Want(f.ctx, over.ID, convo), "want of an ended session")
	f.ok(f.Store.Want(f.ctx, live.ID, convo), "want of a living session")

	long := persistence.Retention{Requests: time.Hour, Welcomes: time.Hour, Sessions: time.Hour}
	got := f.housekeep(long, 100)
	equal(f, got.Messages, 1, "messages deleted")
	equal(f, got.Welcomes+got.Requests+got.Sessions, 0, "deleted before their time")
	got = f.housekeep(atOnce, 100)
	equal(f, got.Messages, 0, "messages deleted again")
	equal(f, got.Commits, 0, "commits deleted")
	equal(f, got.Welcomes, 1, "welcomes deleted")
	equal(f, got.Sessions, 1, "sessions deleted")
	if got.Requests < 2 { // the creation's and the message's
		t.Fatalf("records deleted: %d", got.Requests)
	}
	got = f.housekeep(atOnce, 100)
	got.More = false
	equal(f, got, persistence.Removed{}, "deleted once all is gone")

	f.areKeyPackages(f.find(bob), kept)
	f.seqsAre(f.log(convo, alice), []int64{1, 3, 4}, "the log")
	equal(f, f.log(convo, alice).LastSeq, 4, "last seq")
	_, lives := f.sessionOf(live.ID)
	equal(f, lives, true, "the living session lives")
	wanted, err := f.Store.Wanted(f.ctx, live.ID)
	f.ok(err, "look for wants")
	equal(f, len(wanted), 1, "wants of the living session")
	wanted, err = f.Store.Wanted(f.ctx, over.ID)
	f.ok(err, "look for wants")
	equal(f, len(wanted), 0, "wants of the ended session")
}

func housekeepInBatches(t *testing.T, f *fixture) {
	alice := f.did("alice")
	convo := f.convo(alice)
	for range 5 {
		f.directAt(expired(), convo, alice, send(0, "goes"))
	}
	got := f.housekeep(persistence.Retention{Requests: time.Hour}, 2)
	equal(f, got.Messages, 2, "messages deleted first")
	equal(f, got.More, true, "more to do")
	f.housekeep(persistence.Retention{Requests: time.Hour}, 2)
	got = f.housekeep(persistence.Retention{Requests: time.Hour}, 2)
	equal(f, got.Messages, 1, "messages deleted last")
	equal(f, got.More, false, "more to do")
	equal(f, f.direct(convo, alice, send(0, "next")).Seq, 6, "next seq")
}

// A message that has expired uncounted is counted before it goes (rule 25).
func housekeepCountsBeforeItDeletes(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice, bob)
	h.appendAt(expired(), f.request(h.convo, alice, send(0, "goes")), f.request(h.convo, alice, send(0, "goes")))
	for range 2 {
		f.housekeep(atOnce, 100)
		f.fold(h.convo)
	}
	f.unreadOf(h.convo, map[string]int64{alice: 0, bob: 2}, "after housekeeping")
	equal(f, len(f.log(h.convo, alice).Messages), 0, "messages")
	got := f.housekeep(atOnce, 100)
	equal(f, got.Messages, 0, "messages deleted at last")
}

func housekeepFoldsWhatACrashLeft(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	dead, live := f.held(alice, bob), f.held(alice, bob)
	dead.do(alice, send(0, "1"))
	live.do(alice, send(0, "1"))
	f.ok(f.Store.EndSession(f.ctx, dead.session), "end the session")
	got := f.housekeep(persistence.Retention{Requests: time.Hour, Sessions: time.Hour}, 100)
	if got.Folded < 1 {
		t.Fatalf("folded: %d", got.Folded)
	}
	equal(f, f.claimOne(live.session, dead.convo).Unfolded, false, "the crashed one's is folded")
	f.unreadOf(dead.convo, map[string]int64{alice: 0, bob: 1}, "after the crash")
	f.unreadOf(live.convo, map[string]int64{alice: 0, bob: 1}, "of what lives")
}

// What age has taken leaves a log that goes on, reads well and is no fault.
func housekeepLeavesLogsUsable(t *testing.T, f *fixture) {
	alice := f.did("alice")
	convo := f.convo(alice)
	for i := range int64(3) {
		f.directAt(expired(), convo, alice, send(i, "goes"))
		f.directAt(envAt(now().Add(-2*time.Hour)), convo, alice, conversation.Commit{Commit: []byte("goes later")})
	}
	f.direct(convo, alice, send(3, "stays"))
	f.direct(convo, alice, conversation.Commit{Commit: []byte("stays")})
	got := f.housekeep(persistence.Retention{Requests: time.Hour}, 100)
	equal(f, got.Messages, 3, "messages deleted")
	f.clean("after messages went")
	f.seqsAre(f.log(convo, alice), []int64{2, 4, 6, 7, 8}, "the log")

	got = f.housekeep(persistence.Retention{Requests: time.Hour, Commits: time.Hour}, 100)
	equal(f, got.Commits, 3, "commits deleted")
	f.clean("after commits went")
	f.seqsAre(f.log(convo, alice), []int64{7, 8}, "the log")
	p := f.commits(persistence.CommitsQuery{Convo: convo, Caller: alice})
	f.epochsAre(p, []int64{4}, "commits")
	h := f.hold(f.session().ID, convo)
	equal(f, h.state.Epoch, 4, "epoch")
	equal(f, h.do(alice, send(4, "next")).Seq, 9, "next seq")
	f.clean("at the end")
}

func (f *fixture) integrity(since time.Time) persistence.Integrity {
	f.t.Helper()
	got, err := f.Store.Integrity(f.ctx, since)
	f.ok(err, "check integrity")
	return got
}

// clean demands that nothing in the whole database is damaged.
func (f *fixture) clean(when string) {
	f.t.Helper()
	if got := f.integrity(time.Time{}); !got.Clean() {
		f.t.Fatalf("%s: damage is found: %+v", when, got)
	}
}
