package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

var convosTests = []test{
	{name: "ConvosByLastActivity", run: convosByLastActivity},
	{name: "ConvosOfNobody", run: convosOfNobody},
	{name: "ConvosPagesStandStill", run: convosPagesStandStill},
	{name: "ConvosBadCursor", run: convosBadCursor},
	{name: "WelcomeLife", run: welcomeLife},
	{name: "WelcomeTellsWhereReadingBegins", run: welcomeTellsWhereReadingBegins},
	{name: "WelcomeOnePerRecipient", run: welcomeOnePerRecipient},
}

func convosByLastActivity(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	base := now().Add(-time.Hour)
	at := func(minute int) time.Time { return base.Add(time.Duration(minute) * time.Minute) }
	quiet := f.convoAt(at(3), alice)
	talked := f.convoAt(at(0), alice)
	committed := f.convoAt(at(1), alice)
	left := f.convoAt(at(1), alice, bob)
	f.directAt(envAt(at(9)), left, alice, conversation.Leave{Target: alice})
	f.directAt(envAt(at(5)), talked, alice, send(0, "x"))
	f.directAt(envAt(at(6)), committed, alice, conversation.Commit{Commit: []byte("c")})
	f.convo(bob)

	p, err := f.Store.Convos(f.ctx, persistence.ConvosQuery{Caller: alice, Limit: 10})
	f.ok(err, "list conversations")
	equal(f, p.Cursor, "", "cursor of the only page")
	f.convosAre(p, []string{committed, talked, quiet})
	f.sameTime(p.Convos[1].LastMessageAt, at(5), "last message")
	equal(f, p.Convos[0].LastMessageAt.IsZero(), true, "a commit is no message")
	equal(f, p.Convos[0].Epoch, 1, "epoch")
}

func (f *fixture) convosAre(p persistence.ConvosPage, want []string) {
	f.t.Helper()
	var got []string
	for _, v := range p.Convos {
		got = append(got, v.ID)
	}
	if !slices.Equal(got, want) {
		f.t.Fatalf("conversations: got %v, want %v", got, want)
	}
}

func convosOfNobody(t *testing.T, f *fixture) {
	p, err := f.Store.Convos(f.ctx, persistence.ConvosQuery{Caller: f.did("nobody"), Limit: 10})
	f.ok(err, "list conversations")
	equal(f, len(p.Convos), 0, "conversations")
	equal(f, p.Cursor, "", "cursor")
}

// Between two pages conversations that were shown, and ones that were not, get
// messages, and new ones are made: each that was there at first is shown once,
// in the order that it had at first.
func convosPagesStandStill(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	base := now().Add(-time.Hour)
	var want []string
	for i := range 8 {
		// Two at a time were active at the same moment.
		id := f.convoAt(base, alice, bob)
		f.directAt(envAt(base.Add(time.Duration(i/2)*time.Minute)), id, bob, send(0, "x"))
		want = append(want, id)
	}
	later := func(i int) conversation.Env { return envAt(now().Add(time.Duration(i) * time.Second)) }
	var got []string
	q := persistence.ConvosQuery{Caller: alice, Limit: 3}
	for page := 0; ; page++ {
		p, err := f.Store.Convos(f.ctx, q)
		f.ok(err, "list conversations")
		for _, v := range p.Convos {
			got = append(got, v.ID)
		}
		if p.Cursor == "" {
			break
		}
		if page > 8 {
			t.Fatalf("paging does not end")
		}
		q.Cursor = p.Cursor
		f.directAt(later(page), want[page], bob, send(0, "moves to the top"))
		f.directAt(later(page), want[len(want)-1-page], bob, send(0, "moves to the top"))
		f.convoAt(now().Add(time.Duration(page)*time.Second), alice)
	}
	equal(f, len(got), len(want), "conversations shown")
	for i := 0; i < len(want); i += 2 { // pairs in either order
		pair := got[len(got)-2-i : len(got)-i]
		for _, id := range want[i : i+2] {
			if !slices.Contains(pair, id) {
				t.Fatalf("conversations %d and %d: got %v, want %v", i, i+1, pair, want[i:i+2])
			}
		}
	}
}

func convosBadCursor(t *testing.T, f *fixture) {
	alice := f.did("alice")
	f.convo(alice)
	for _, cursor := range []string{"x", "%%%", "bnVsbA", "e30", "1", fmt.Sprint(now())} {
		_, err := f.Store.Convos(f.ctx, persistence.ConvosQuery{Caller: alice, Limit: 1, Cursor: cursor})
		f.refused(err, conversation.InvalidCursor, "cursor "+cursor)
	}
}

func (f *fixture) welcome(convo, did string) persistence.WelcomeView {
	f.t.Helper()
	w, err := f.Store.Welcome(f.ctx, convo, did)
	f.ok(err, "read a welcome")
	return w
}

func (f *fixture) confirm(convo, did string, success bool) {
	f.t.Helper()
	f.ok(f.Store.ConfirmWelcome(f.ctx, convo, did, success), "confirm a welcome")
}

func welcomeLife(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	convo := f.convo(alice)
	f.direct(convo, alice, conversation.AddMembers{DIDs: []string{bob}, Welcome: []byte("welcome")})
	f.sameBytes(f.welcome(convo, bob).Data, []byte("welcome"), "welcome")
	f.sameBytes(f.welcome(convo, bob).Data, []byte("welcome"), "welcome fetched again")
	f.confirm(convo, bob, false)
	f.confirm(convo, bob, false)
	f.sameBytes(f.welcome(convo, bob).Data, []byte("welcome"), "welcome after a failure")
	f.confirm(convo, bob, true)
	f.confirm(convo, bob, true)
	_, err := f.Store.Welcome(f.ctx, convo, bob)
	f.refused(err, conversation.WelcomeNotFound, "a consumed welcome")
	f.refused(f.Store.ConfirmWelcome(f.ctx, convo, alice, true), conversation.WelcomeNotFound, "confirming none")
}

func welcomeTellsWhereReadingBegins(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	h := f.chat(3, alice)
	h.do(alice, conversation.AddMembers{DIDs: []string{bob}, Welcome: []byte("w")})
	h.do(alice, send(1, "5"))
	h.do(alice, conversation.Commit{Commit: []byte("the epoch moves on")})
	w := f.welcome(h.convo, bob)
	equal(f, w.Epoch, 1, "epoch")
	equal(f, w.Seq, 4, "seq")
}

func welcomeOnePerRecipient(t *testing.T, f *fixture) {
	alice, bob, carol := f.did("alice"), f.did("bob"), f.did("carol")
	convo := f.convo(alice)
	f.direct(convo, alice, conversation.AddMembers{DIDs: []string{bob, carol}, Welcome: []byte("for both")})
	f.confirm(convo, bob, true)
	_, err := f.Store.Welcome(f.ctx, convo, bob)
	f.refused(err, conversation.WelcomeNotFound, "bob's consumed welcome")
	f.sameBytes(f.welcome(convo, carol).Data, []byte("for both"), "carol's welcome")
}
