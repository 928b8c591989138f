package storetest

import (
	"testing"

	"catbird/conversation"
	"catbird/persistence"
)

var unreadTests = []test{
	{name: "UnreadIsExactBeforeAndAfterFold", run: unreadIsExactBeforeAndAfterFold},
	{name: "FoldTwiceCountsOnce", run: foldTwiceCountsOnce},
	{name: "FoldManyAndUnknown", run: foldManyAndUnknown},
	{name: "ResetUnread", run: resetUnread},
	{name: "ResetBeforeFold", run: resetBeforeFold},
	{name: "ResetBelowWhatIsCounted", run: resetBelowWhatIsCounted},
	{name: "ResetBeyondTheLog", run: resetBeyondTheLog},
	{name: "ResetByOneWhoIsNoMember", run: resetByOneWhoIsNoMember},
	{name: "MessagesTellWhetherResetIsDue", run: messagesTellWhetherResetIsDue},
}

// unreadOf demands what each member has not read.
func (f *fixture) unreadOf(convo string, want map[string]int64, when string) {
	f.t.Helper()
	for did, n := range want {
		equal(f, f.unread(convo, did), n, when+": unread of "+did)
	}
}

func (f *fixture) reset(convo, did string, seq int64) {
	f.t.Helper()
	f.ok(f.Store.ResetUnread(f.ctx, convo, did, seq), "reset unread")
}

func (f *fixture) fold(convos ...string) {
	f.t.Helper()
	f.ok(f.Store.Fold(f.ctx, convos), "fold")
}

func unreadIsExactBeforeAndAfterFold(t *testing.T, f *fixture) {
	alice, bob, carol := f.did("alice"), f.did("bob"), f.did("carol")
	h := f.held(alice, bob)
	h.append(f.request(h.convo, alice, send(0, "1")), f.request(h.convo, bob, send(0, "2")))
	h.append(f.request(h.convo, alice, send(0, "3")), f.request(h.convo, alice, add(carol)))
	h.append(f.request(h.convo, carol, send(1, "5")), f.request(h.convo, alice, send(1, "6")))
	want := map[string]int64{alice: 2, bob: 4, carol: 1}
	f.unreadOf(h.convo, want, "before the fold")
	f.fold(h.convo)
	f.unreadOf(h.convo, want, "after the fold")
	h.do(bob, send(1, "7"))
	f.unreadOf(h.convo, map[string]int64{alice: 3, bob: 4, carol: 2}, "with a tail beyond the fold")

	p, err := f.Store.Convos(f.ctx, persistence.ConvosQuery{Caller: carol, Limit: 10})
	f.ok(err, "list conversations")
	equal(f, len(p.Convos), 1, "conversations")
	equal(f, p.Convos[0].Unread, 2, "unread in the list")
}

func foldTwiceCountsOnce(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice, bob)
	h.do(alice, send(0, "1"))
	f.fold(h.convo, h.convo)
	f.fold(h.convo)
	f.unreadOf(h.convo, map[string]int64{alice: 0, bob: 1}, "after three folds")
	h.do(alice, conversation.Commit{Commit: []byte("nothing to read")})
	f.fold(h.convo)
	f.unreadOf(h.convo, map[string]int64{alice: 0, bob: 1}, "after a commit")
	h.do(alice, send(1, "3"))
	f.fold(h.convo)
	f.unreadOf(h.convo, map[string]int64{alice: 0, bob: 2}, "after another message")
}

func foldManyAndUnknown(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	a, b := f.held(alice, bob), f.held(alice, bob)
	a.do(alice, send(0, "1"))
	b.do(bob, send(0, "1"))
	f.fold(a.convo, newConvoID(), b.convo)
	f.fold()
	equal(f, f.claimOne(a.session, a.convo).Unfolded, false, "the first is folded")
	equal(f, f.claimOne(b.session, b.convo).Unfolded, false, "the second is folded")
	f.unreadOf(a.convo, map[string]int64{alice: 0, bob: 1}, "in the first")
	f.unreadOf(b.convo, map[string]int64{alice: 1, bob: 0}, "in the second")
}

func resetUnread(t *testing.T, f *fixture) {
	alice, bob, carol := f.did("alice"), f.did("bob"), f.did("carol")
	h := f.held(alice, bob, carol)
	h.do(alice, send(0, "1"))
	h.do(alice, send(0, "2"))
	f.fold(h.convo)
	f.reset(h.convo, bob, 2)
	f.unreadOf(h.convo, map[string]int64{alice: 0, bob: 0, carol: 2}, "after the reset")
	h.do(alice, send(0, "3"))
	f.unreadOf(h.convo, map[string]int64{alice: 0, bob: 1, carol: 3}, "with one more")
	f.fold(h.convo)
	f.unreadOf(h.convo, map[string]int64{alice: 0, bob: 1, carol: 3}, "after the fold")
}

// A reset may come while messages are stored that no fold has counted: what was
// read is never counted, what came after it once.
func resetBeforeFold(t *testing.T, f *fixture) {
	alice, bob, carol := f.did("alice"), f.did("bob"), f.did("carol")
	h := f.held(alice, bob, carol)
	h.do(alice, send(0, "1"))
	h.do(bob, send(0, "2"))
	f.reset(h.convo, bob, 2)
	h.do(alice, send(0, "3"))
	h.do(bob, send(0, "4"))
	h.do(carol, send(0, "5"))
	f.reset(h.convo, carol, 4)
	want := map[string]int64{alice: 3, bob: 2, carol: 0}
	f.unreadOf(h.convo, want, "before the fold")
	f.fold(h.convo)
	f.unreadOf(h.convo, want, "after the fold")
}

// A reader may have read less than what is counted by the time the reset
// arrives: what lies between is unread.
func resetBelowWhatIsCounted(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice, bob)
	for range 3 {
		h.do(alice, send(0, "by alice"))
		h.do(bob, send(0, "by bob"))
	}
	f.fold(h.convo)
	f.reset(h.convo, bob, 3)
	f.unreadOf(h.convo, map[string]int64{alice: 3, bob: 1}, "after a reset at 3 of 6")
	f.reset(h.convo, bob, 6)
	f.unreadOf(h.convo, map[string]int64{alice: 3, bob: 0}, "after a reset at 6")
	h.do(alice, send(0, "7"))
	f.fold(h.convo)
	f.unreadOf(h.convo, map[string]int64{alice: 3, bob: 1}, "after one more")
}

// Nobody has read what is not there yet.
func resetBeyondTheLog(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice, bob)
	h.do(alice, send(0, "1"))
	f.reset(h.convo, bob, 5)
	h.do(alice, send(0, "2"))
	f.unreadOf(h.convo, map[string]int64{bob: 1}, "before the fold")
	f.fold(h.convo)
	f.unreadOf(h.convo, map[string]int64{bob: 1}, "after the fold")
}

func resetByOneWhoIsNoMember(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice, bob)
	h.do(alice, send(0, "1"))
	h.do(bob, conversation.Leave{})
	f.reset(h.convo, bob, 1)
	h.do(alice, add(bob))
	h.do(alice, send(2, "4"))
	f.fold(h.convo)
	f.unreadOf(h.convo, map[string]int64{alice: 0, bob: 1}, "after bob came back")
}

func messagesTellWhetherResetIsDue(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.held(alice, bob)
	due := func(want bool, when string) {
		t.Helper()
		equal(f, f.log(h.convo, bob).Unread, want, "reset due "+when)
	}
	due(false, "when nothing was sent")
	h.do(alice, send(0, "1"))
	due(true, "with a message that is not folded")
	f.fold(h.convo)
	due(true, "with a message that is folded")
	f.reset(h.convo, bob, 1)
	due(false, "after the reset")
	h.do(alice, send(0, "2"))
	due(true, "with a message after the reset")
}
