package storetest

import (
	"bytes"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

var appendTests = []test{
	{name: "AppendStoresEveryField", run: appendStoresEveryField},
	{name: "AppendStoresUnitOfManyChanges", run: appendStoresUnitOfManyChanges},
	{name: "AppendConflictsOffItsBase", run: appendConflictsOffItsBase},
	{name: "AppendConflictsOnKnownID", run: appendConflictsOnKnownID},
	{name: "AppendUnitsStandAlone", run: appendUnitsStandAlone},
	{name: "AppendUsesUpKeyPackages", run: appendUsesUpKeyPackages},
	{name: "AppendWithoutRowsChangesMembers", run: appendWithoutRowsChangesMembers},
	{name: "AppendOfNothing", run: appendOfNothing},
	{name: "AppendStoresLargeMessage", run: appendStoresLargeMessage},
}

func appendStoresEveryField(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice, bob)
	at := now()
	sent := conversation.Send{
		Epoch: 0, Ciphertext: []byte{0, 1, 2, 0xff}, ClientID: "client-1",
		EmbedType: "image", EmbedURI: "at://did:plc:x/app.bsky.feed.post/1",
	}
	commit := conversation.Commit{Commit: []byte("opaque commit")}
	u := h.appendAt(envAt(at), f.request(h.convo, alice, sent), f.request(h.convo, bob, commit))

	p := f.log(h.convo, alice)
	equal(f, len(p.Messages), 2, "messages")
	app, com := p.Messages[0], p.Messages[1]
	equal(f, app.ID, u.IDs[0], "id")
	equal(f, app.Sender, alice, "sender")
	equal(f, app.Kind, conversation.KindApp, "kind")
	equal(f, app.Epoch, 0, "epoch")
	equal(f, app.Seq, 1, "seq")
	f.sameBytes(app.Ciphertext, sent.Ciphertext, "ciphertext")
	f.sameTime(app.CreatedAt, at, "time of the message")
	equal(f, app.EmbedType, sent.EmbedType, "embed type")
	equal(f, app.EmbedURI, sent.EmbedURI, "embed uri")
	equal(f, com.ID, u.IDs[1], "id of the commit")
	equal(f, com.Sender, bob, "sender of the commit")
	equal(f, com.Kind, conversation.KindCommit, "kind of the commit")
	equal(f, com.Epoch, 1, "epoch of the commit")
	equal(f, com.Seq, 2, "seq of the commit")
	f.sameBytes(com.Ciphertext, commit.Commit, "bytes of the commit")
	equal(f, com.EmbedType+com.EmbedURI, "", "embed of the commit")

	epoch, err := f.Store.Epoch(f.ctx, h.convo, bob)
	f.ok(err, "read the epoch")
	equal(f, epoch, 1, "epoch of the conversation")
	v, err := f.Store.Convo(f.ctx, h.convo, bob)
	f.ok(err, "read the conversation")
	f.sameTime(v.LastMessageAt, at, "time of the last message")
}

// One unit may hold everything at once: messages, commits without bytes, a
// member who comes, one who goes, one who does both.
func appendStoresUnitOfManyChanges(t *testing.T, f *fixture) {
	alice, bob, carol, dave := f.did("alice"), f.did("bob"), f.did("carol"), f.did("dave")
	h := f.held(alice, bob)
	h.append(
		f.request(h.convo, alice, send(0, "one")),
		f.request(h.convo, alice, add(carol, dave)),
		f.request(h.convo, carol, send(1, "two")),
		f.request(h.convo, alice, conversation.Leave{Target: bob}),
		f.request(h.convo, dave, conversation.Leave{}),
		f.request(h.convo, carol, send(3, "three")),
	)
	p := f.log(h.convo, alice)
	equal(f, len(p.Messages), 6, "rows of the log")
	for i, m := range p.Messages {
		equal(f, m.Seq, int64(i+1), "seq")
	}
	equal(f, len(p.Messages[1].Ciphertext), 0, "bytes of a commit that had none")
	loaded := f.hold(h.session, h.convo).state
	equal(f, loaded.Epoch, 3, "epoch")
	equal(f, loaded.Seq, 6, "seq")
	equal(f, bytes.Equal(membersJSON(loaded), membersJSON(h.state)), true, "members are those decided")
	equal(f, f.log(h.convo, bob).LastSeq, 4, "where bob's log ends")
	equal(f, f.log(h.convo, dave).LastSeq, 5, "where dave's log ends")
}

func membersJSON(s conversation.State) []byte {
	var b bytes.Buffer
	for _, did := range s.Members.List() {
		b.WriteString(did + "\n")
	}
	return b.Bytes()
}

func appendConflictsOffItsBase(t *testing.T, f *fixture) {
	alice := f.did("alice")
	h := f.held(alice)
	h.do(alice, send(0, "one"))
	h.do(alice, conversation.Commit{Commit: []byte("c")})
	for _, c := range []struct {
		name  string
		shift func(*conversation.Unit)
	}{
		{"OlderEpoch", func(u *conversation.Unit) { u.Base.Epoch-- }},
		{"NewerEpoch", func(u *conversation.Unit) { u.Base.Epoch++ }},
		{"OlderSeq", func(u *conversation.Unit) { u.Base.Seq-- }},
		{"NewerSeq", func(u *conversation.Unit) { u.Base.Seq++ }},
		{"OlderFence", func(u *conversation.Unit) { u.Base.Fence-- }},
		{"NewerFence", func(u *conversation.Unit) { u.Base.Fence++ }},
		{"NoSuchConversation", func(u *conversation.Unit) { u.Convo = newConvoID() }},
	} {
		u, _ := h.unit(env(), f.request(h.convo, alice, send(1, c.name)))
		c.shift(u)
		equal(f, f.appendOne(u), persistence.Conflict, c.name)
	}
	equal(f, f.log(h.convo, alice).LastSeq, 2, "last seq after refused appends")
	h.do(alice, send(1, "still at the base"))
}

// An id that is in the log of any conversation, or among the records, is a
// change that has happened.
func appendConflictsOnKnownID(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h, other := f.held(alice, bob), f.held(alice)
	mls := f.mlsHeld(alice, bob)

	inLog := h.do(alice, send(0, "one")).ID
	elsewhere := other.do(alice, send(0, "one")).ID
	recorded := mls.append(f.request(mls.convo, bob, conversation.Leave{})).IDs[0]
	for name, id := range map[string]string{"same log": inLog, "another log": elsewhere, "a record": recorded} {
		fresh := f.request(h.convo, alice, send(0, "fresh"))
		again := f.request(h.convo, alice, send(0, "again"))
		again.ID = id
		u, _ := h.unit(env(), fresh, again)
		equal(f, f.appendOne(u), persistence.Conflict, "among others, the id of "+name)
		u, _ = h.unit(env(), again)
		equal(f, f.appendOne(u), persistence.Conflict, "alone, the id of "+name)
	}
	equal(f, f.log(h.convo, alice).LastSeq, 1, "last seq after refused appends")
}

func appendUnitsStandAlone(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	session := f.session().ID
	var holds []*hold
	var units []*conversation.Unit
	for i := range 5 {
		h := f.hold(session, f.convo(alice))
		c := add(bob)
		if i == 3 {
			c.KeyPackages = []conversation.KeyPackageRef{{DID: bob, Hash: make([]byte, 32)}}
		}
		u, _ := h.unit(env(), f.request(h.convo, alice, send(0, "one")), f.request(h.convo, alice, c))
		if i == 1 {
			u.Base.Fence++
		}
		holds, units = append(holds, h), append(units, u)
	}
	got, err := f.Store.Append(f.ctx, units)
	f.ok(err, "append")
	want := []persistence.AppendOutcome{
		persistence.Appended, persistence.Conflict, persistence.Appended, persistence.KeyPackageGone, persistence.Appended,
	}
	equal(f, len(got), len(want), "outcomes")
	for i := range want {
		equal(f, got[i], want[i], "outcome")
		wantSeq, wantEpoch := int64(2), int64(1)
		if want[i] != persistence.Appended {
			wantSeq, wantEpoch = 0, 0
		}
		loaded := f.hold(session, holds[i].convo).state
		equal(f, loaded.Seq, wantSeq, "seq after the append")
		equal(f, loaded.Epoch, wantEpoch, "epoch after the append")
		equal(f, loaded.Members.Has(bob), want[i] == persistence.Appended, "bob is a member")
	}
}

func appendUsesUpKeyPackages(t *testing.T, f *fixture) {
	alice, bob, carol := f.did("alice"), f.did("bob"), f.did("carol")
	first := f.publish(bob, "bob 1")
	second := f.publish(bob, "bob 2")
	carols := f.publish(carol, "carol")
	old := f.publishUntil(bob, "bob old", now().Add(-time.Second))

	h := f.held(alice)
	refuse := func(what string, refs ...conversation.KeyPackageRef) {
		t.Helper()
		u, _ := h.unit(env(), f.request(h.convo, alice, conversation.AddMembers{DIDs: []string{bob}, KeyPackages: refs}))
		equal(f, f.appendOne(u), persistence.KeyPackageGone, what)
	}
	ref := func(did string, k persistence.KeyPackage) conversation.KeyPackageRef {
		return conversation.KeyPackageRef{DID: did, Hash: k.Hash}
	}
	refuse("expired", ref(bob, first), ref(bob, old))
	refuse("of another DID", ref(bob, carols))
	refuse("of another DID than the hash's", ref(carol, first))
	refuse("unknown", conversation.KeyPackageRef{DID: bob, Hash: bytes.Repeat([]byte{9}, 32)})
	equal(f, len(f.find(bob)), 2, "bob's key packages after refusals")

	h.do(alice, conversation.AddMembers{DIDs: []string{bob}, KeyPackages: []conversation.KeyPackageRef{ref(bob, first)}})
	left := f.find(bob)
	equal(f, len(left), 1, "bob's key packages after one was used")
	f.sameBytes(left[0].Data, second.Data, "the one that is left")

	h.do(bob, conversation.Leave{})
	refuse("used up", ref(bob, first))
}

// In an MLS group a member who leaves changes the members and nothing else.
func appendWithoutRowsChangesMembers(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.mlsHeld(alice, bob)
	before := h.state
	u := h.append(f.request(h.convo, bob, conversation.Leave{}))
	equal(f, len(u.Rows), 0, "rows of the unit")
	after := f.hold(h.session, h.convo).state
	equal(f, after.Epoch, before.Epoch, "epoch")
	equal(f, after.Seq, before.Seq, "seq")
	equal(f, after.MLS, true, "an MLS group")
	equal(f, after.Members.Has(bob), false, "bob is a member")
	equal(f, f.appendOne(u), persistence.Conflict, "the same unit again")
}

func appendOfNothing(t *testing.T, f *fixture) {
	got, err := f.Store.Append(f.ctx, nil)
	f.ok(err, "append nothing")
	equal(f, len(got), 0, "outcomes")
}

func appendStoresLargeMessage(t *testing.T, f *fixture) {
	alice := f.did("alice")
	h := f.held(alice)
	large := bytes.Repeat([]byte("0123456789abcdef"), conversation.MaxMessage/16)
	h.do(alice, conversation.Send{Ciphertext: large})
	p := f.log(h.convo, alice)
	equal(f, len(p.Messages), 1, "messages")
	f.sameBytes(p.Messages[0].Ciphertext, large, "ciphertext")
}
