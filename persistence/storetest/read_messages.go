package storetest

import (
	"bytes"
	"slices"
	"testing"

	"catbird/conversation"
	"catbird/persistence"
)

var messagesTests = []test{
	{name: "MessagesNewestPage", run: messagesNewestPage},
	{name: "MessagesForward", run: messagesForward},
	{name: "MessagesSinceID", run: messagesSinceID},
	{name: "MessagesLeaveOutExpired", run: messagesLeaveOutExpired},
	{name: "MessagesForThoseWhoLeft", run: messagesForThoseWhoLeft},
	{name: "ReadsAreForMembers", run: readsAreForMembers},
	{name: "CommitsByEpoch", run: commitsByEpoch},
	{name: "CommitsLimits", run: commitsLimits},
	{name: "CommitsForThoseWhoLeft", run: commitsForThoseWhoLeft},
}

func (f *fixture) seqsAre(p persistence.MessagesPage, want []int64, what string) {
	f.t.Helper()
	if got := seqs(p.Messages); !slices.Equal(got, want) {
		f.t.Fatalf("%s: got seqs %v, want %v", what, got, want)
	}
}

// chat returns a conversation with n messages by its creator.
func (f *fixture) chat(n int, creator string, initial ...string) *hold {
	f.t.Helper()
	h := f.held(creator, initial...)
	var rs []*conversation.Request
	for range n {
		rs = append(rs, f.request(h.convo, creator, send(0, "text")))
	}
	h.append(rs...)
	return h
}

func messagesNewestPage(t *testing.T, f *fixture) {
	alice := f.did("alice")
	h := f.chat(7, alice)
	p := f.messages(persistence.MessagesQuery{Convo: h.convo, Caller: alice, Limit: 3})
	f.seqsAre(p, []int64{5, 6, 7}, "the newest three")
	equal(f, p.LastSeq, 7, "last seq")
	equal(f, p.More, false, "more after the newest page")
	f.seqsAre(f.messages(persistence.MessagesQuery{Convo: h.convo, Caller: alice, Limit: 9}), upTo(1, 7), "all")
	empty := f.convo(alice)
	p = f.messages(persistence.MessagesQuery{Convo: empty, Caller: alice})
	f.seqsAre(p, []int64{}, "an empty log")
	equal(f, p.LastSeq, 0, "last seq of an empty log")
}

func messagesForward(t *testing.T, f *fixture) {
	alice := f.did("alice")
	h := f.chat(7, alice)
	for _, c := range []struct {
		since int64
		limit int
		want  []int64
		more  bool
	}{
		{0, 3, []int64{1, 2, 3}, true},
		{3, 3, []int64{4, 5, 6}, true},
		{6, 3, []int64{7}, false},
		{4, 3, []int64{5, 6, 7}, false},
		{7, 3, []int64{}, false},
		{99, 3, []int64{}, false},
		{0, 7, upTo(1, 7), false},
		{0, 6, upTo(1, 6), true},
	} {
		p := f.messages(persistence.MessagesQuery{Convo: h.convo, Caller: alice, Limit: c.limit, SinceSeq: &c.since})
		f.seqsAre(p, c.want, "page")
		equal(f, p.More, c.more, "more")
		equal(f, p.LastSeq, 7, "last seq")
	}
}

func messagesSinceID(t *testing.T, f *fixture) {
	alice := f.did("alice")
	h, other := f.chat(3, alice), f.chat(3, alice)
	ids := f.log(h.convo, alice).Messages
	since := func(id string) (persistence.MessagesPage, error) {
		return f.Store.Messages(f.ctx, persistence.MessagesQuery{Convo: h.convo, Caller: alice, Limit: 10, SinceID: id})
	}
	p, err := since(ids[0].ID)
	f.ok(err, "read since the first message")
	f.seqsAre(p, []int64{2, 3}, "since the first message")
	p, err = since(ids[2].ID)
	f.ok(err, "read since the last message")
	f.seqsAre(p, []int64{}, "since the last message")
	_, err = since(newID())
	f.refused(err, conversation.InvalidCursor, "an unknown id")
	_, err = since(f.log(other.convo, alice).Messages[0].ID)
	f.refused(err, conversation.InvalidCursor, "an id of another conversation")
}

func messagesLeaveOutExpired(t *testing.T, f *fixture) {
	alice := f.did("alice")
	h := f.held(alice)
	old := func(c conversation.Command) { h.appendAt(expired(), f.request(h.convo, alice, c)) }
	old(send(0, "1"))
	old(conversation.Commit{Commit: []byte("2")})
	h.do(alice, send(1, "3"))
	old(send(1, "4"))
	p := f.log(h.convo, alice)
	f.seqsAre(p, []int64{2, 3}, "all")
	equal(f, p.LastSeq, 4, "last seq")
	equal(f, p.More, false, "more")
	p = f.messages(persistence.MessagesQuery{Convo: h.convo, Caller: alice, Limit: 1, SinceSeq: ptr[int64](0)})
	f.seqsAre(p, []int64{2}, "the first")
	equal(f, p.More, true, "more after the first")
	p = f.messages(persistence.MessagesQuery{Convo: h.convo, Caller: alice, Limit: 1, SinceSeq: ptr[int64](2)})
	f.seqsAre(p, []int64{3}, "the second")
	equal(f, p.More, false, "more where the rest has expired")
	f.seqsAre(f.messages(persistence.MessagesQuery{Convo: h.convo, Caller: alice, Limit: 1}), []int64{3}, "the newest")
}

func messagesForThoseWhoLeft(t *testing.T, f *fixture) {
	alice, bob, carol := f.did("alice"), f.did("bob"), f.did("carol")
	h := f.chat(2, alice, bob, carol)
	h.do(alice, conversation.Leave{Target: bob, Commit: mlsCommit(h.convo, 0)}) // seq 3
	h.do(carol, conversation.Leave{})                                           // an MLS group now: no row
	h.do(alice, send(1, "4"))
	for did, last := range map[string]int64{alice: 4, bob: 3, carol: 3} {
		p := f.log(h.convo, did)
		f.seqsAre(p, upTo(1, last), "log of "+did)
		equal(f, p.LastSeq, last, "last seq of "+did)
		equal(f, p.More, false, "more for "+did)
		p = f.messages(persistence.MessagesQuery{Convo: h.convo, Caller: did, Limit: 1})
		f.seqsAre(p, []int64{last}, "newest message of "+did)
		p = f.messages(persistence.MessagesQuery{Convo: h.convo, Caller: did, Limit: 1, SinceSeq: ptr(last - 1)})
		f.seqsAre(p, []int64{last}, "last page of "+did)
		equal(f, p.More, false, "more after the last page of "+did)
	}
	equal(f, f.log(h.convo, bob).Unread, false, "reset due for one who left")
}

func readsAreForMembers(t *testing.T, f *fixture) {
	alice, bob, eve := f.did("alice"), f.did("bob"), f.did("eve")
	h := f.chat(1, alice, bob)
	h.do(bob, conversation.Leave{})
	reads := []struct {
		name    string
		leftToo bool // also for those who have left
		read    func(convo, caller string) error
	}{
		{"Epoch", false, func(convo, caller string) error {
			_, err := f.Store.Epoch(f.ctx, convo, caller)
			return err
		}},
		{"Convo", false, func(convo, caller string) error {
			_, err := f.Store.Convo(f.ctx, convo, caller)
			return err
		}},
		{"Welcome", false, func(convo, caller string) error {
			_, err := f.Store.Welcome(f.ctx, convo, caller)
			if conversation.CodeOf(err) == conversation.WelcomeNotFound {
				return nil
			}
			return err
		}},
		{"ConfirmWelcome", false, func(convo, caller string) error {
			err := f.Store.ConfirmWelcome(f.ctx, convo, caller, true)
			if conversation.CodeOf(err) == conversation.WelcomeNotFound {
				return nil
			}
			return err
		}},
		{"Messages", true, func(convo, caller string) error {
			_, err := f.Store.Messages(f.ctx, persistence.MessagesQuery{Convo: convo, Caller: caller, Limit: 1})
			return err
		}},
		{"Commits", true, func(convo, caller string) error {
			_, err := f.Store.Commits(f.ctx, persistence.CommitsQuery{Convo: convo, Caller: caller, Limit: 1, MaxBytes: 1})
			return err
		}},
	}
	for _, r := range reads {
		f.ok(r.read(h.convo, alice), r.name+" for a member")
		f.refused(r.read(h.convo, eve), conversation.NotMember, r.name+" for a stranger")
		f.refused(r.read(newConvoID(), alice), conversation.ConvoNotFound, r.name+" of nothing")
		if err := r.read(h.convo, bob); r.leftToo {
			f.ok(err, r.name+" for one who left")
		} else {
			f.refused(err, conversation.NotMember, r.name+" for one who left")
		}
	}
}

func (f *fixture) commits(q persistence.CommitsQuery) persistence.CommitsPage {
	f.t.Helper()
	if q.Limit == 0 {
		q.Limit = conversation.MaxCommits
	}
	if q.MaxBytes == 0 {
		q.MaxBytes = conversation.MaxAnswer
	}
	p, err := f.Store.Commits(f.ctx, q)
	f.ok(err, "read commits")
	return p
}

func epochs(commits []persistence.Message) []int64 {
	out := make([]int64, 0, len(commits))
	for _, c := range commits {
		out = append(out, c.Epoch)
	}
	return out
}

func (f *fixture) epochsAre(p persistence.CommitsPage, want []int64, what string) {
	f.t.Helper()
	if got := epochs(p.Commits); !slices.Equal(got, want) {
		f.t.Fatalf("%s: got epochs %v, want %v", what, got, want)
	}
}

// moved returns a conversation with a message and n commits of ten bytes.
func (f *fixture) moved(n int, creator string, initial ...string) *hold {
	f.t.Helper()
	h := f.chat(1, creator, initial...)
	for i := range n {
		h.do(creator, conversation.Commit{Commit: bytes.Repeat([]byte{byte(i)}, 10)})
	}
	return h
}

func commitsByEpoch(t *testing.T, f *fixture) {
	alice := f.did("alice")
	h := f.moved(5, alice)
	h.do(alice, send(5, "no commit"))
	for _, c := range []struct {
		from int64
		to   *int64
		want []int64
	}{
		{0, nil, upTo(1, 5)},
		{1, nil, upTo(1, 5)},
		{2, ptr[int64](4), []int64{2, 3, 4}},
		{3, ptr[int64](3), []int64{3}},
		{4, ptr[int64](99), []int64{4, 5}},
		{5, nil, []int64{5}},
		{6, nil, []int64{}},
		{6, ptr[int64](7), []int64{}},
		{0, ptr[int64](0), []int64{}},
	} {
		p := f.commits(persistence.CommitsQuery{Convo: h.convo, Caller: alice, From: c.from, To: c.to})
		f.epochsAre(p, c.want, "commits")
		equal(f, p.More, false, "more")
	}
	_, err := f.Store.Commits(f.ctx, persistence.CommitsQuery{
		Convo: h.convo, Caller: alice, From: 3, To: ptr[int64](2), Limit: 10, MaxBytes: 100,
	})
	f.refused(err, conversation.InvalidEpochRange, "from after to")

	third := f.commits(persistence.CommitsQuery{Convo: h.convo, Caller: alice, From: 3}).Commits[0]
	equal(f, third.Seq, 4, "seq")
	equal(f, third.Sender, alice, "sender")
	equal(f, third.Kind, conversation.KindCommit, "kind")
	f.sameBytes(third.Ciphertext, bytes.Repeat([]byte{2}, 10), "bytes")
}

func commitsLimits(t *testing.T, f *fixture) {
	alice := f.did("alice")
	h := f.moved(5, alice)
	for _, c := range []struct {
		limit, bytes int
		want         []int64
		more         bool
	}{
		{2, 1000, []int64{1, 2}, true},
		{5, 1000, upTo(1, 5), false},
		{9, 50, upTo(1, 5), false},
		{9, 49, upTo(1, 4), true},
		{9, 25, []int64{1, 2}, true},
		{9, 1, []int64{1}, true},
	} {
		p := f.commits(persistence.CommitsQuery{Convo: h.convo, Caller: alice, Limit: c.limit, MaxBytes: c.bytes})
		f.epochsAre(p, c.want, "commits")
		equal(f, p.More, c.more, "more")
	}
	p := f.commits(persistence.CommitsQuery{Convo: h.convo, Caller: alice, To: ptr[int64](2), Limit: 2})
	f.epochsAre(p, []int64{1, 2}, "commits up to 2")
	equal(f, p.More, false, "more within the range")
}

func commitsForThoseWhoLeft(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.moved(1, alice, bob)
	h.do(alice, conversation.Leave{Target: bob, Commit: []byte("bob is out")}) // epoch 2
	h.do(alice, conversation.Commit{Commit: []byte("without bob")})
	p := f.commits(persistence.CommitsQuery{Convo: h.convo, Caller: bob})
	f.epochsAre(p, []int64{1, 2}, "commits for bob")
	equal(f, p.More, false, "more for bob")
	p = f.commits(persistence.CommitsQuery{Convo: h.convo, Caller: bob, From: 3})
	f.epochsAre(p, []int64{}, "later commits for bob")
}
