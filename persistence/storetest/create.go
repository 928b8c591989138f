package storetest

import (
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

var createTests = []test{
	{name: "CreateStoresEveryField", run: createStoresEveryField},
	{name: "CreateAtEpochOne", run: createAtEpochOne},
	{name: "CreateOfTakenID", run: createOfTakenID},
	{name: "CreateRepeatsByKey", run: createRepeatsByKey},
	{name: "CreateRepeatsByID", run: createRepeatsByID},
	{name: "CreateUsesUpKeyPackages", run: createUsesUpKeyPackages},
}

func createStoresEveryField(t *testing.T, f *fixture) {
	alice, bob, carol := f.did("alice"), f.did("bob"), f.did("carol")
	at := now()
	c := conversation.Creation{
		Creator: alice, CipherSuite: cipherSuite, Initial: []string{bob, carol}, Welcome: []byte("welcome"),
		Name: "Näme", Description: "what it is about",
	}
	id := newConvoID()
	r := f.creation(id, c, envAt(at))
	answer, repeated, err := f.Store.Create(f.ctx, r)
	f.ok(err, "create")
	equal(f, repeated, false, "repeated")
	f.sameBytes(answer, r.Response, "answer")

	v, err := f.Store.Convo(f.ctx, id, carol)
	f.ok(err, "read the conversation")
	equal(f, v.ID, id, "id")
	equal(f, v.GroupID, id, "group id")
	equal(f, v.Creator, alice, "creator")
	equal(f, v.Epoch, 0, "epoch")
	equal(f, v.CipherSuite, cipherSuite, "cipher suite")
	equal(f, v.Name, c.Name, "name")
	equal(f, v.Description, c.Description, "description")
	equal(f, v.Unread, 0, "unread messages")
	equal(f, v.LastMessageAt.IsZero(), true, "no last message")
	f.sameTime(v.CreatedAt, at, "time of creation")
	members := f.members(id, alice)
	equal(f, len(members), 3, "members")
	for _, did := range []string{alice, bob, carol} {
		f.sameTime(members[did].JoinedAt, at, "when "+did+" joined")
	}
	for _, did := range []string{bob, carol} {
		w, err := f.Store.Welcome(f.ctx, id, did)
		f.ok(err, "read a welcome")
		f.sameBytes(w.Data, c.Welcome, "welcome")
		equal(f, w.Epoch, 0, "epoch of the welcome")
		equal(f, w.Seq, 0, "seq of the welcome")
	}
	_, err = f.Store.Welcome(f.ctx, id, alice)
	f.refused(err, conversation.WelcomeNotFound, "a welcome for the creator")
	equal(f, f.log(id, bob).LastSeq, 0, "last seq")
}

func createAtEpochOne(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	id := newConvoID()
	c := conversation.Creation{Creator: alice, Initial: []string{bob}, Welcome: []byte("w"), Commit: mlsCommit(id, 0)}
	_, _, err := f.Store.Create(f.ctx, f.creation(id, c, env()))
	f.ok(err, "create")
	h := f.hold(f.session().ID, id)
	equal(f, h.state.Epoch, 1, "epoch")
	equal(f, h.state.Seq, 1, "seq")
	equal(f, h.state.MLS, true, "an MLS group")
	p := f.log(id, bob)
	equal(f, len(p.Messages), 1, "rows of the log")
	f.sameBytes(p.Messages[0].Ciphertext, c.Commit, "commit")
	w, err := f.Store.Welcome(f.ctx, id, bob)
	f.ok(err, "read the welcome")
	equal(f, w.Epoch, 1, "epoch of the welcome")
	equal(f, w.Seq, 1, "seq of the welcome")
	equal(f, f.unread(id, bob), 0, "unread messages")
	equal(f, h.do(bob, send(1, "first")).Seq, 2, "seq of the first message")
}

func createOfTakenID(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	id := f.convo(alice)
	for what, who := range map[string]string{"its creator": alice, "somebody else": bob} {
		r := f.creation(id, conversation.Creation{Creator: who}, env())
		r.Request.Key = "k" + who
		_, _, err := f.Store.Create(f.ctx, r)
		f.refused(err, conversation.ConvoAlreadyExists, "the same group by "+what)
	}
	equal(f, len(f.members(id, alice)), 1, "members after refused creations")
}

func createRepeatsByKey(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	id := newConvoID()
	create := func(caller, digest, answer string) ([]byte, bool, error) {
		r := &conversation.Request{ID: newID(), Convo: id, Caller: caller, Key: "k", Digest: []byte(digest)}
		c := f.creationOf(r, conversation.Creation{Creator: caller, CipherSuite: cipherSuite}, env())
		c.Response = []byte(answer)
		return f.Store.Create(f.ctx, c)
	}
	_, repeated, err := create(alice, "d", "first answer")
	f.ok(err, "create")
	equal(f, repeated, false, "repeated")
	answer, repeated, err := create(alice, "d", "second answer")
	f.ok(err, "create again")
	equal(f, repeated, true, "repeated")
	f.sameBytes(answer, []byte("first answer"), "answer to the repeat")
	_, _, err = create(alice, "another", "third answer")
	f.refused(err, conversation.IdempotencyConflict, "the key with another body")
	_, _, err = create(bob, "d", "fourth answer")
	f.refused(err, conversation.ConvoAlreadyExists, "the key of another caller")
}

func createRepeatsByID(t *testing.T, f *fixture) {
	alice := f.did("alice")
	for _, commit := range []bool{false, true} {
		c := conversation.Creation{Creator: alice}
		if commit {
			c.Commit = []byte("opaque commit")
		}
		r := f.creation(newConvoID(), c, env())
		first, _, err := f.Store.Create(f.ctx, r)
		f.ok(err, "create")
		r.Request.Retry = true
		again, repeated, err := f.Store.Create(f.ctx, r)
		f.ok(err, "create again")
		equal(f, repeated, true, "repeated")
		f.sameBytes(again, first, "answer to the repeat")
		e := f.lookup(r.Request.Convo, persistence.Ref{ID: r.Request.ID})
		if e == nil {
			t.Fatal("the creation is not found by its id")
		}
		f.sameBytes(e.Response, first, "answer found by its id")
	}
}

func createUsesUpKeyPackages(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	k := f.publish(bob, "one")
	gone := f.publishUntil(bob, "old", now().Add(-time.Second))
	id := newConvoID()
	c := conversation.Creation{Creator: alice, Initial: []string{bob}, KeyPackages: []conversation.KeyPackageRef{
		{DID: bob, Hash: k.Hash}, {DID: bob, Hash: gone.Hash},
	}}
	_, _, err := f.Store.Create(f.ctx, f.creation(id, c, env()))
	f.refused(err, conversation.KeyPackageNotFound, "one of two has expired")
	equal(f, len(f.find(bob)), 1, "bob's key packages after the refusal")
	_, err = f.Store.Epoch(f.ctx, id, alice)
	f.refused(err, conversation.ConvoNotFound, "the conversation after the refusal")

	c.KeyPackages = c.KeyPackages[:1]
	_, _, err = f.Store.Create(f.ctx, f.creation(id, c, env()))
	f.ok(err, "create")
	equal(f, len(f.find(bob)), 0, "bob's key packages")
	_, _, err = f.Store.Create(f.ctx, f.creation(newConvoID(), c, env()))
	f.refused(err, conversation.KeyPackageNotFound, "the same key package again")
}
