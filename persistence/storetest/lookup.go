package storetest

import (
	"testing"

	"catbird/conversation"
	"catbird/persistence"
)

var lookupTests = []test{
	{name: "LookupByID", run: lookupByID},
	{name: "LookupByKey", run: lookupByKey},
	{name: "LookupManyInOrder", run: lookupManyInOrder},
}

func (f *fixture) lookup(convo string, ref persistence.Ref) *conversation.Earlier {
	f.t.Helper()
	got, err := f.Store.Lookup(f.ctx, []string{convo}, []persistence.Ref{ref})
	f.ok(err, "look up")
	equal(f, len(got), 1, "answers to a lookup")
	return got[0]
}

// found demands that a lookup found what led to want.
func (f *fixture) found(e *conversation.Earlier, want conversation.Result, what string) {
	f.t.Helper()
	if e == nil {
		f.t.Fatalf("%s: nothing found", what)
		return
	}
	equal(f, e.Result.ID, want.ID, what+": id")
	equal(f, e.Result.Epoch, want.Epoch, what+": epoch")
	equal(f, e.Result.Seq, want.Seq, what+": seq")
	f.sameTime(e.Result.At, want.At, what+": time")
}

func (f *fixture) notFound(e *conversation.Earlier, what string) {
	f.t.Helper()
	if e != nil {
		f.t.Fatalf("%s: found %+v, want nothing", what, *e)
	}
}

func lookupByID(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h, other := f.mlsHeld(alice, bob), f.held(alice)
	sent := h.do(alice, send(1, "one"))
	committed := h.do(alice, conversation.Commit{Commit: mlsCommit(h.convo, 1)})
	h.do(alice, send(2, "later"))
	left := h.append(f.request(h.convo, bob, conversation.Leave{}))
	leftResult := conversation.Result{ID: left.IDs[0], Epoch: 2, Seq: left.Seq, At: left.At}

	f.found(f.lookup(h.convo, persistence.Ref{ID: sent.ID}), sent, "a message")
	f.found(f.lookup(h.convo, persistence.Ref{ID: committed.ID}), committed, "a commit")
	f.found(f.lookup(h.convo, persistence.Ref{ID: left.IDs[0]}), leftResult, "a change without a row")
	f.notFound(f.lookup(h.convo, persistence.Ref{ID: newID()}), "an unknown id")
	f.notFound(f.lookup(other.convo, persistence.Ref{ID: sent.ID}), "a message of another conversation")
	f.notFound(f.lookup(other.convo, persistence.Ref{ID: left.IDs[0]}), "a record of another conversation")
	f.notFound(f.lookup(newConvoID(), persistence.Ref{ID: newID()}), "a conversation that is not there")
}

func lookupByKey(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h, other := f.held(alice, bob), f.held(alice, bob)
	r := f.keyed(h.convo, alice, "k", send(0, "one"))
	u := h.append(r)
	h.do(bob, send(0, "two"))
	want := conversation.Result{ID: r.ID, Epoch: 0, Seq: 1, At: u.At}

	ref := persistence.Ref{ID: newID(), Caller: alice, Endpoint: conversation.OpSend, Key: "k"}
	e := f.lookup(h.convo, ref)
	f.found(e, want, "by key")
	f.sameBytes(e.Digest, r.Digest, "digest")
	f.found(f.lookup(h.convo, persistence.RefOf(r)), want, "by key and id")

	for what, change := range map[string]func(*persistence.Ref){
		"another key":      func(r *persistence.Ref) { r.Key = "l" },
		"no key":           func(r *persistence.Ref) { r.Key = "" },
		"another caller":   func(r *persistence.Ref) { r.Caller = bob },
		"another endpoint": func(r *persistence.Ref) { r.Endpoint = conversation.OpCommit },
	} {
		c := ref
		change(&c)
		f.notFound(f.lookup(h.convo, c), what)
	}
	f.notFound(f.lookup(other.convo, ref), "another conversation")
}

func lookupManyInOrder(t *testing.T, f *fixture) {
	alice := f.did("alice")
	a, b := f.held(alice), f.held(alice)
	inA, inB := a.do(alice, send(0, "a")), b.do(alice, send(0, "b"))
	keyed := f.keyed(b.convo, alice, "k", send(0, "keyed"))
	b.append(keyed)
	convos := []string{b.convo, a.convo, a.convo, b.convo, b.convo}
	refs := []persistence.Ref{
		{ID: inB.ID},
		{ID: newID()},
		{ID: inA.ID},
		{ID: newID(), Caller: alice, Endpoint: conversation.OpSend, Key: "k"},
		{ID: inA.ID},
	}
	got, err := f.Store.Lookup(f.ctx, convos, refs)
	f.ok(err, "look up")
	equal(f, len(got), len(refs), "answers")
	f.found(got[0], inB, "first")
	f.notFound(got[1], "second")
	f.found(got[2], inA, "third")
	if got[3] == nil || got[3].Result.ID != keyed.ID {
		t.Fatalf("fourth: got %+v, want what the key led to", got[3])
	}
	f.notFound(got[4], "fifth")

	none, err := f.Store.Lookup(f.ctx, nil, nil)
	f.ok(err, "look nothing up")
	equal(f, len(none), 0, "answers")
}
