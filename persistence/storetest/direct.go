package storetest

import (
	"errors"
	"testing"

	"catbird/conversation"
	"catbird/persistence"
)

var directTests = []test{
	{name: "DirectChangesConversation", run: directChangesConversation},
	{name: "DirectStopsAtLiveClaim", run: directStopsAtLiveClaim},
	{name: "DirectTakesOverEndedClaim", run: directTakesOverEndedClaim},
	{name: "DirectRefusals", run: directRefusals},
	{name: "DirectRepeatsByKey", run: directRepeatsByKey},
	{name: "DirectRepeatsByID", run: directRepeatsByID},
	{name: "DirectRepeatIsFoundBeforeMembership", run: directRepeatIsFoundBeforeMembership},
	{name: "DirectFoldsUnread", run: directFoldsUnread},
	{name: "DirectUsesUpKeyPackages", run: directUsesUpKeyPackages},
	{name: "DirectRepeatsRecordedRefusalNever", run: directRepeatsRecordedRefusalNever},
}

func directChangesConversation(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	convo := f.convo(alice)
	at := now()
	r := f.request(convo, alice, send(0, "one"))
	got, err := f.Store.Direct(f.ctx, "", r, envAt(at))
	f.ok(err, "send")
	equal(f, got.ID, r.ID, "id")
	equal(f, got.Epoch, 0, "epoch")
	equal(f, got.Seq, 1, "seq")
	f.sameTime(got.At, at, "time")

	got = f.direct(convo, alice, conversation.AddMembers{DIDs: []string{bob}, Welcome: []byte("welcome")})
	equal(f, got.Epoch, 1, "epoch")
	equal(f, got.Seq, 2, "seq")
	w, err := f.Store.Welcome(f.ctx, convo, bob)
	f.ok(err, "read the welcome")
	equal(f, w.Epoch, 1, "epoch of the welcome")
	equal(f, w.Seq, 2, "seq of the welcome")

	f.direct(convo, bob, conversation.Leave{})
	p := f.log(convo, alice)
	equal(f, len(p.Messages), 3, "rows of the log")
	f.sameBytes(p.Messages[0].Ciphertext, []byte("one"), "ciphertext")
	equal(f, f.hold(f.session().ID, convo).state.Epoch, 2, "epoch in the row")
}

func directStopsAtLiveClaim(t *testing.T, f *fixture) {
	alice := f.did("alice")
	s := f.session()
	h := f.hold(s.ID, f.convo(alice))
	for what, own := range map[string]string{"no session": "", "another's": f.session().ID, "one's own": s.ID} {
		_, err := f.Store.Direct(f.ctx, own, f.request(h.convo, alice, send(0, "x")), env())
		var held *persistence.HeldError
		if !errors.As(err, &held) {
			t.Fatalf("%s: got error %v, want a HeldError", what, err)
		}
		want := persistence.Holder{Session: s.ID, Node: s.Node, Address: s.Address, Fence: h.fence}
		equal(f, held.Holder, want, what)
	}
	h.do(alice, send(0, "the holder goes on"))
}

func directTakesOverEndedClaim(t *testing.T, f *fixture) {
	alice := f.did("alice")
	s, own := f.session(), f.session()
	h := f.hold(s.ID, f.convo(alice))
	f.ok(f.Store.EndSession(f.ctx, s.ID), "end the session")
	got, err := f.Store.Direct(f.ctx, own.ID, f.request(h.convo, alice, send(0, "x")), env())
	f.ok(err, "send")
	equal(f, got.Seq, 1, "seq")

	// Everything built on the old claim is void, even where epoch and seq fit.
	u, _ := h.unit(env(), f.request(h.convo, alice, send(0, "from the grave")))
	u.Base.Seq, u.Seq, u.Rows[0].Seq = 1, 2, 2
	equal(f, f.appendOne(u), persistence.Conflict, "append under the old fence")
	next := f.hold(own.ID, h.convo)
	if next.fence <= h.fence+1 {
		t.Fatalf("fence %d after %d: a direct write must raise it too", next.fence, h.fence)
	}
}

func directRefusals(t *testing.T, f *fixture) {
	alice, bob, eve := f.did("alice"), f.did("bob"), f.did("eve")
	convo := f.convo(alice, bob)
	f.direct(convo, alice, conversation.Commit{Commit: []byte("c")})
	err := f.tryDirect(newConvoID(), alice, send(0, "x"))
	f.refused(err, conversation.ConvoNotFound, "a conversation that is not there")
	f.refused(f.tryDirect(convo, eve, send(1, "x")), conversation.NotMember, "a stranger")
	f.refused(f.tryDirect(convo, alice, add(bob)), conversation.AlreadyMember, "adding a member")
	f.refused(f.tryDirect(convo, bob, conversation.Leave{Target: alice}), conversation.NotAuthorized, "removing the creator")

	err = f.tryDirect(convo, alice, send(0, "x"))
	f.refused(err, conversation.EpochMismatch, "an old epoch")
	var e *conversation.Error
	if !errors.As(err, &e) || e.Current != 1 || e.Expected != 0 {
		t.Fatalf("got %+v, want current 1, expected 0", e)
	}
	equal(f, f.log(convo, alice).LastSeq, 1, "last seq after refusals")
	equal(f, f.direct(convo, alice, send(1, "x")).Seq, 2, "next seq after refusals")
}

func directRepeatsByKey(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	convo, other := f.convo(alice, bob), f.convo(alice, bob)
	try := func(r *conversation.Request) (conversation.Result, error) {
		return f.Store.Direct(f.ctx, "", r, env())
	}
	first, err := try(f.keyed(convo, alice, "k", send(0, "one")))
	f.ok(err, "send")
	f.direct(convo, alice, conversation.Commit{Commit: []byte("the epoch moves on")})
	again, err := try(f.keyed(convo, alice, "k", send(0, "one")))
	f.ok(err, "send again")
	equal(f, again.ID, first.ID, "id")
	equal(f, again.Seq, first.Seq, "seq")
	equal(f, again.Epoch, first.Epoch, "epoch")
	f.sameTime(again.At, first.At, "time")

	_, err = try(f.keyed(convo, alice, "k", send(0, "another body")))
	f.refused(err, conversation.IdempotencyConflict, "the key with another body")

	for what, r := range map[string]*conversation.Request{
		"another caller":       f.keyed(convo, bob, "k", send(1, "one")),
		"another endpoint":     f.keyed(convo, alice, "k", conversation.Commit{Commit: []byte("one")}),
		"another conversation": f.keyed(other, alice, "k", send(0, "one")),
	} {
		if r.Caller == bob { // whatever order the map gives
			r.Command = send(f.epoch(convo, bob), "one")
		}
		got, err := try(r)
		f.ok(err, what)
		equal(f, got.ID, r.ID, what+": id")
	}
}

func (f *fixture) epoch(convo, caller string) int64 {
	f.t.Helper()
	e, err := f.Store.Epoch(f.ctx, convo, caller)
	f.ok(err, "read the epoch")
	return e
}

func directRepeatsByID(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	convo := f.convo(alice, bob)
	r := f.request(convo, alice, send(0, "one"))
	r.Retry = true // of an attempt that never arrived
	first, err := f.Store.Direct(f.ctx, "", r, env())
	f.ok(err, "send")
	f.direct(convo, bob, conversation.Commit{Commit: []byte("the epoch moves on")})
	again, err := f.Store.Direct(f.ctx, "", r, env())
	f.ok(err, "send again")
	equal(f, again.ID, first.ID, "id")
	equal(f, again.Seq, first.Seq, "seq")
	f.sameTime(again.At, first.At, "time")
	equal(f, f.log(convo, alice).LastSeq, 2, "last seq")

	// A change without a row is found by its record.
	f.direct(convo, alice, conversation.Commit{Commit: mlsCommit(convo, 1)})
	leave := f.request(convo, bob, conversation.Leave{})
	first, err = f.Store.Direct(f.ctx, "", leave, env())
	f.ok(err, "leave")
	leave.Retry = true
	again, err = f.Store.Direct(f.ctx, "", leave, env())
	f.ok(err, "leave again")
	equal(f, again.Epoch, first.Epoch, "epoch")
}

func directRepeatIsFoundBeforeMembership(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	convo := f.convo(alice, bob)
	leave := conversation.Leave{}
	first, err := f.Store.Direct(f.ctx, "", f.keyed(convo, bob, "bye", leave), env())
	f.ok(err, "leave")
	again, err := f.Store.Direct(f.ctx, "", f.keyed(convo, bob, "bye", leave), env())
	f.ok(err, "leave again")
	equal(f, again.ID, first.ID, "id")
	f.refused(f.tryDirect(convo, bob, leave), conversation.NotMember, "leaving without the key")
}

func directFoldsUnread(t *testing.T, f *fixture) {
	alice, bob, carol := f.did("alice"), f.did("bob"), f.did("carol")
	h := f.held(alice, bob)
	h.do(alice, send(0, "not folded by anybody"))
	h.do(bob, send(0, "nor this"))
	f.ok(f.Store.Release(f.ctx, h.session, []persistence.Claim{{Convo: h.convo, Fence: h.fence}}), "release")

	f.direct(h.convo, alice, send(0, "three"))
	equal(f, f.claimOne(h.session, h.convo).Unfolded, false, "unfolded after a direct write")
	equal(f, f.unread(h.convo, bob), 2, "bob's unread messages")
	equal(f, f.unread(h.convo, alice), 1, "alice's unread messages")
	f.ok(f.Store.EndSession(f.ctx, h.session), "end the session")
	f.direct(h.convo, alice, add(carol))
	equal(f, f.unread(h.convo, carol), 0, "carol's unread messages")
	equal(f, f.unread(h.convo, bob), 2, "a commit is nothing to read")
}

func directUsesUpKeyPackages(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	convo := f.convo(alice)
	k := f.publish(bob, "one")
	c := conversation.AddMembers{DIDs: []string{bob}, KeyPackages: []conversation.KeyPackageRef{
		{DID: bob, Hash: k.Hash}, {DID: bob, Hash: make([]byte, 32)},
	}}
	f.refused(f.tryDirect(convo, alice, c), conversation.KeyPackageNotFound, "one of two is gone")
	equal(f, f.epoch(convo, alice), 0, "epoch")
	equal(f, len(f.find(bob)), 1, "bob's key packages")
	c.KeyPackages = c.KeyPackages[:1]
	f.direct(convo, alice, c)
	equal(f, len(f.find(bob)), 0, "bob's key packages")
	f.direct(convo, bob, conversation.Leave{})
	f.refused(f.tryDirect(convo, alice, c), conversation.KeyPackageNotFound, "used up")
}

// A refusal leaves no record: the same request may succeed later.
func directRepeatsRecordedRefusalNever(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	convo := f.convo(alice)
	r := f.keyed(convo, bob, "k", send(0, "one"))
	_, err := f.Store.Direct(f.ctx, "", r, env())
	f.refused(err, conversation.NotMember, "a stranger")
	f.direct(convo, alice, add(bob))
	r = f.keyed(convo, bob, "k", send(1, "one"))
	got, err := f.Store.Direct(f.ctx, "", r, env())
	f.ok(err, "the same key once it may")
	equal(f, got.Seq, 2, "seq")
}
