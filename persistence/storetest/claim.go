package storetest

import (
	"slices"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

var claimTests = []test{
	{name: "ClaimLoadsState", run: claimLoadsState},
	{name: "ClaimRaisesFence", run: claimRaisesFence},
	{name: "ClaimHeldByAnother", run: claimHeldByAnother},
	{name: "ClaimOverEndedSession", run: claimOverEndedSession},
	{name: "ClaimNeedsLiveSession", run: claimNeedsLiveSession},
	{name: "ClaimManyInOrder", run: claimManyInOrder},
	{name: "ClaimTellsUnfolded", run: claimTellsUnfolded},
	{name: "ClaimTakesLargerSeq", alone: true, run: claimTakesLargerSeq},
	{name: "ReleaseNeedsSessionAndFence", run: releaseNeedsSessionAndFence},
}

func claimLoadsState(t *testing.T, f *fixture) {
	alice, bob, carol := f.did("alice"), f.did("bob"), f.did("carol")
	convo := f.convo(alice, bob)
	h := f.hold(f.session().ID, convo)
	equal(f, h.state.Epoch, 0, "epoch")
	equal(f, h.state.Seq, 0, "seq")
	equal(f, h.state.MLS, false, "an MLS group")
	equal(f, h.state.Creator, alice, "creator")
	h.append(
		f.request(convo, bob, send(0, "one")),
		f.request(convo, alice, conversation.AddMembers{DIDs: []string{carol}, Commit: mlsCommit(convo, 0)}),
		f.request(convo, bob, conversation.Leave{}),
	)
	got := f.hold(h.session, convo).state
	equal(f, got.Epoch, 1, "epoch")
	equal(f, got.Seq, 2, "seq")
	equal(f, got.MLS, true, "an MLS group")
	equal(f, got.Creator, alice, "creator")
	if want := []string{alice, carol}; !slices.Equal(got.Members.List(), want) {
		t.Fatalf("members: got %v, want %v", got.Members.List(), want)
	}
}

func claimRaisesFence(t *testing.T, f *fixture) {
	alice := f.did("alice")
	convo := f.convo(alice)
	mine, other := f.session().ID, f.session().ID
	first := f.hold(mine, convo)
	if first.fence <= 0 {
		t.Fatalf("the first fence is %d, want more than that of no claim", first.fence)
	}
	again := f.hold(mine, convo)
	equal(f, again.fence, first.fence+1, "fence over one's own claim")

	u, _ := first.unit(env(), f.request(convo, alice, send(0, "late")))
	equal(f, f.appendOne(u), persistence.Conflict, "append under the old fence")
	again.do(alice, send(0, "in time"))

	f.ok(f.Store.Release(f.ctx, mine, []persistence.Claim{{Convo: convo, Fence: again.fence}}), "release")
	equal(f, f.hold(other, convo).fence, again.fence+1, "fence of the next holder")
}

func claimHeldByAnother(t *testing.T, f *fixture) {
	holder, other := f.session(), f.session()
	h := f.hold(holder.ID, f.convo(f.did("alice")))
	got := f.claimOne(other.ID, h.convo)
	equal(f, got.Outcome, persistence.ClaimHeld, "outcome")
	want := persistence.Holder{Session: holder.ID, Node: holder.Node, Address: holder.Address, Fence: h.fence}
	equal(f, got.Holder, want, "holder")
	h.do(f.did("alice"), send(0, "the holder's fence still stands"))
}

func claimOverEndedSession(t *testing.T, f *fixture) {
	dead, next := f.session(), f.session()
	h := f.hold(dead.ID, f.convo(f.did("alice")))
	f.ok(f.Store.EndSession(f.ctx, dead.ID), "end the session")
	taken := f.hold(next.ID, h.convo)
	equal(f, taken.fence, h.fence+1, "fence")
	u, _ := h.unit(env(), f.request(h.convo, f.did("alice"), send(0, "from the grave")))
	equal(f, f.appendOne(u), persistence.Conflict, "append of the ended session")
}

func claimNeedsLiveSession(t *testing.T, f *fixture) {
	convo := f.convo(f.did("alice"))
	ended := f.session().ID
	f.ok(f.Store.EndSession(f.ctx, ended), "end the session")
	for what, session := range map[string]string{"ended": ended, "never started": newID()} {
		_, err := f.Store.Claim(f.ctx, session, []string{convo})
		f.is(err, persistence.ErrSessionOver, "claim for a session "+what)
	}
	equal(f, f.hold(f.session().ID, convo).fence, 1, "fence after refused claims")
}

func claimManyInOrder(t *testing.T, f *fixture) {
	alice := f.did("alice")
	mine, other := f.session().ID, f.session().ID
	var ids []string
	for range 12 {
		ids = append(ids, f.convo(alice))
	}
	missing, taken := newConvoID(), f.hold(other, ids[7])
	ids[4] = missing
	slices.Reverse(ids)
	got, err := f.Store.Claim(f.ctx, mine, ids)
	f.ok(err, "claim")
	equal(f, len(got), len(ids), "answers")
	for i, c := range got {
		want := persistence.ClaimGranted
		switch ids[i] {
		case missing:
			want = persistence.ClaimNotFound
		case taken.convo:
			want = persistence.ClaimHeld
		}
		equal(f, c.Convo, ids[i], "conversation")
		equal(f, c.Outcome, want, "outcome")
		if want == persistence.ClaimGranted {
			equal(f, c.State.Creator, alice, "creator")
			equal(f, c.State.Members.Has(alice), true, "alice is a member")
		}
	}
	none, err := f.Store.Claim(f.ctx, mine, nil)
	f.ok(err, "claim nothing")
	equal(f, len(none), 0, "answers to nothing")
}

func claimTellsUnfolded(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice, bob)
	equal(f, f.claimOne(h.session, h.convo).Unfolded, false, "unfolded when nothing was sent")
	h = f.hold(h.session, h.convo)
	h.do(alice, send(0, "one"))
	equal(f, f.claimOne(h.session, h.convo).Unfolded, true, "unfolded after a message")
	f.ok(f.Store.Fold(f.ctx, []string{h.convo}), "fold")
	equal(f, f.claimOne(h.session, h.convo).Unfolded, false, "unfolded after a fold")
}

// The log has the last word on the seq: a row that somebody else wrote behind
// the conversation's row is counted on from.
func claimTakesLargerSeq(t *testing.T, f *fixture) {
	alice := f.did("alice")
	h := f.held(alice)
	h.do(alice, send(0, "one"))
	f.ok(f.Raw.InsertMessage(f.ctx, RawMessage{
		ID: newID(), Convo: h.convo, Sender: alice, Kind: conversation.KindApp, Seq: ptr[int64](7),
		Ciphertext: []byte("from elsewhere"), At: now().Add(-time.Minute),
	}), "insert a row")
	next := f.hold(h.session, h.convo)
	equal(f, next.state.Seq, 7, "seq")
	equal(f, next.do(alice, send(0, "after")).Seq, 8, "seq of the next message")
	f.ok(f.Store.Release(f.ctx, next.session, []persistence.Claim{{Convo: h.convo, Fence: next.fence}}), "release")

	f.ok(f.Raw.InsertMessage(f.ctx, RawMessage{
		ID: newID(), Convo: h.convo, Sender: alice, Kind: conversation.KindApp, Seq: ptr[int64](9),
		Ciphertext: []byte("from elsewhere"), At: now().Add(-time.Minute),
	}), "insert a row")
	equal(f, f.direct(h.convo, alice, send(0, "direct")).Seq, 10, "seq of a direct message")
}

func releaseNeedsSessionAndFence(t *testing.T, f *fixture) {
	alice := f.did("alice")
	mine, other := f.session().ID, f.session().ID
	h := f.hold(mine, f.convo(alice))
	release := func(session string, fence int64) {
		t.Helper()
		f.ok(f.Store.Release(f.ctx, session, []persistence.Claim{
			{Convo: newConvoID(), Fence: 1}, {Convo: h.convo, Fence: fence},
		}), "release")
	}
	release(mine, h.fence-1)
	release(mine, h.fence+1)
	release(other, h.fence)
	equal(f, f.claimOne(other, h.convo).Outcome, persistence.ClaimHeld, "outcome before the release")
	release(mine, h.fence)
	equal(f, f.claimOne(other, h.convo).Outcome, persistence.ClaimGranted, "outcome after the release")
	f.ok(f.Store.Release(f.ctx, mine, nil), "release nothing")
}
