package storetest

import (
	"testing"

	"catbird/conversation"
	"catbird/persistence"
)

var memberTests = []test{
	{name: "MemberJoins", run: memberJoins},
	{name: "MemberLeavesAndReturns", run: memberLeavesAndReturns},
	{name: "MemberJoinsAndLeavesInOneUnit", run: memberJoinsAndLeavesInOneUnit},
	{name: "MemberReturnsInOneUnit", run: memberReturnsInOneUnit},
	{name: "ReturningReplacesOldWelcome", run: returningReplacesOldWelcome},
}

func (f *fixture) members(convo, caller string) map[string]persistence.MemberView {
	f.t.Helper()
	v, err := f.Store.Convo(f.ctx, convo, caller)
	f.ok(err, "read a conversation")
	out := map[string]persistence.MemberView{}
	for _, m := range v.Members {
		out[m.DID] = m
	}
	equal(f, len(out), len(v.Members), "members listed once each")
	return out
}

func memberJoins(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob#phone")
	h := f.held(alice)
	h.do(alice, send(0, "before bob"))
	at := now()
	h.appendAt(envAt(at), f.request(h.convo, alice, add(bob)))
	got := f.members(h.convo, bob)
	equal(f, len(got), 2, "members")
	f.sameTime(got[bob].JoinedAt, at, "when bob joined")
	equal(f, f.unread(h.convo, bob), 0, "bob's unread messages")
	f.ok(f.Store.Fold(f.ctx, []string{h.convo}), "fold")
	equal(f, f.unread(h.convo, bob), 0, "bob's unread messages after a fold")
	equal(f, f.log(h.convo, bob).LastSeq, 2, "where bob's log ends")
}

func memberLeavesAndReturns(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice, bob)
	h.do(alice, send(0, "one"))
	h.do(alice, send(0, "two"))
	f.ok(f.Store.Fold(f.ctx, []string{h.convo}), "fold")
	equal(f, f.unread(h.convo, bob), 2, "bob's unread messages")

	h.do(alice, conversation.Leave{Target: bob})
	_, err := f.Store.Epoch(f.ctx, h.convo, bob)
	f.refused(err, conversation.NotMember, "epoch for one who left")
	h.do(alice, send(1, "unseen by bob"))
	equal(f, f.log(h.convo, bob).LastSeq, 3, "where bob's log ends")
	equal(f, len(f.members(h.convo, alice)), 1, "members")

	at := now()
	h.appendAt(envAt(at), f.request(h.convo, alice, add(bob)))
	f.sameTime(f.members(h.convo, alice)[bob].JoinedAt, at, "when bob joined again")
	equal(f, f.unread(h.convo, bob), 0, "bob's unread messages on return")
	h.do(alice, send(2, "seen by bob"))
	f.ok(f.Store.Fold(f.ctx, []string{h.convo}), "fold")
	equal(f, f.unread(h.convo, bob), 1, "bob's unread messages after one more")
	equal(f, f.log(h.convo, bob).LastSeq, 6, "where bob's log ends on return")
}

func memberJoinsAndLeavesInOneUnit(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice)
	h.append(
		f.request(h.convo, alice, add(bob)),
		f.request(h.convo, alice, send(1, "while bob is there")),
		f.request(h.convo, bob, conversation.Leave{}),
		f.request(h.convo, alice, send(2, "after bob")),
	)
	equal(f, f.hold(h.session, h.convo).state.Members.Has(bob), false, "bob is a member")
	equal(f, f.log(h.convo, bob).LastSeq, 3, "where bob's log ends")
	_, err := f.Store.Epoch(f.ctx, h.convo, bob)
	f.refused(err, conversation.NotMember, "epoch for one who left")
}

func memberReturnsInOneUnit(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice, bob)
	h.append(
		f.request(h.convo, alice, send(0, "before")),
		f.request(h.convo, bob, conversation.Leave{}),
		f.request(h.convo, alice, send(1, "between")),
		f.request(h.convo, alice, add(bob)),
		f.request(h.convo, alice, send(2, "after")),
	)
	f.ok(f.Store.Fold(f.ctx, []string{h.convo}), "fold")
	equal(f, f.unread(h.convo, bob), 1, "bob's unread messages")
	equal(f, f.log(h.convo, bob).LastSeq, 5, "where bob's log ends")
}

func returningReplacesOldWelcome(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice)
	h.do(alice, conversation.AddMembers{DIDs: []string{bob}, Welcome: []byte("first")})
	h.do(bob, conversation.Leave{})
	h.do(alice, conversation.AddMembers{DIDs: []string{bob}, Welcome: []byte("second")})
	w, err := f.Store.Welcome(f.ctx, h.convo, bob)
	f.ok(err, "read the welcome")
	f.sameBytes(w.Data, []byte("second"), "welcome")
	f.ok(f.Store.ConfirmWelcome(f.ctx, h.convo, bob, true), "confirm")
	_, err = f.Store.Welcome(f.ctx, h.convo, bob)
	f.refused(err, conversation.WelcomeNotFound, "no older welcome appears")

	h.do(bob, conversation.Leave{})
	h.do(alice, conversation.AddMembers{DIDs: []string{bob}, Welcome: []byte("third")})
	h.do(bob, conversation.Leave{})
	h.do(alice, add(bob))
	_, err = f.Store.Welcome(f.ctx, h.convo, bob)
	f.refused(err, conversation.WelcomeNotFound, "a return without welcome")
}
