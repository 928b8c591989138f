package conversation_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"catbird/conversation"
)

func stateOf(epoch, seq int64, members ...string) conversation.State {
	return conversation.State{Epoch: epoch, Seq: seq, Creator: alice, Members: conversation.NewMembers(members...)}
}

func mls(s conversation.State) conversation.State {
	s.MLS = true
	return s
}

// TestDecideRefusals holds the order of the checks, which is the API's:
// membership, epoch, the rest. Where two things are wrong the first is told.
func TestDecideRefusals(t *testing.T) {
	full := testEnv()
	full.Policy.MaxMembers = 3
	open := testEnv()
	open.Policy.AnyMemberRemoves = true
	three := stateOf(4, 9, alice, bob, carol)
	foreign := private("other", 4, conversation.ContentCommit)

	tests := []struct {
		name    string
		env     conversation.Env
		state   conversation.State
		caller  string
		command conversation.Command
		want    conversation.Code
	}{
		{"stranger adds, epoch wrong too", testEnv(), three, dave, conversation.AddMembers{DIDs: []string{dave}, Expected: epoch(1)}, conversation.NotMember},
		{"stranger sends", testEnv(), three, dave, conversation.Send{Ciphertext: []byte("x"), Epoch: 1}, conversation.NotMember},
		{"stranger commits", testEnv(), three, dave, conversation.Commit{Commit: []byte("x")}, conversation.NotMember},
		{"stranger leaves", testEnv(), three, dave, conversation.Leave{}, conversation.NotMember},
		{"stranger in an MLS group, no MLS commit", testEnv(), mls(three), dave, conversation.Commit{Commit: []byte("x")}, conversation.NotMember},

		{"add: epoch before AlreadyMember", testEnv(), three, bob, conversation.AddMembers{DIDs: []string{carol}, Expected: epoch(3)}, conversation.EpochMismatch},
		{"add: epoch of the header before AlreadyMember", testEnv(), three, bob, conversation.AddMembers{DIDs: []string{carol}, Commit: commitAt(3)}, conversation.EpochMismatch},
		{"add: AlreadyMember before TooManyMembers", full, three, bob, conversation.AddMembers{DIDs: []string{dave, carol}}, conversation.AlreadyMember},
		{"add: oneself", testEnv(), three, bob, conversation.AddMembers{DIDs: []string{bob}}, conversation.AlreadyMember},
		{"add: one too many", full, three, bob, conversation.AddMembers{DIDs: []string{dave}}, conversation.TooManyMembers},

		{"leave: epoch before TargetNotMember", testEnv(), three, bob, conversation.Leave{Target: dave, Expected: epoch(5)}, conversation.EpochMismatch},
		{"leave: TargetNotMember before NotAuthorized", testEnv(), three, bob, conversation.Leave{Target: dave}, conversation.TargetNotMember},
		{"leave: others, not by the creator", testEnv(), three, bob, conversation.Leave{Target: carol}, conversation.NotAuthorized},
		{"leave: the creator, not by the creator", testEnv(), three, bob, conversation.Leave{Target: alice}, conversation.NotAuthorized},
		{"leave: the last one", testEnv(), stateOf(4, 9, bob), bob, conversation.Leave{}, conversation.LastMember},
		{"leave: the last one by name", open, stateOf(4, 9, bob), bob, conversation.Leave{Target: bob}, conversation.LastMember},
		{"leave: the last one is behind", testEnv(), stateOf(4, 9, bob), bob, conversation.Leave{Expected: epoch(3)}, conversation.EpochMismatch},

		{"commit: behind", testEnv(), three, bob, conversation.Commit{Commit: []byte("x"), Expected: epoch(3)}, conversation.EpochMismatch},
		{"commit: ahead", testEnv(), three, bob, conversation.Commit{Commit: []byte("x"), Expected: epoch(5)}, conversation.EpochMismatch},
		{"commit: the header is behind", testEnv(), three, bob, conversation.Commit{Commit: commitAt(3)}, conversation.EpochMismatch},
		{"commit: the header is ahead", testEnv(), three, bob, conversation.Commit{Commit: commitAt(5)}, conversation.EpochMismatch},
		{"commit: an epoch beyond int64", testEnv(), three, bob, conversation.Commit{Commit: commitAt(1 << 63)}, conversation.EpochMismatch},
		{"commit: of another group", testEnv(), three, bob, conversation.Commit{Commit: foreign}, conversation.InvalidCommit},
		{"commit: of another group, MLS", testEnv(), mls(three), bob, conversation.Commit{Commit: foreign}, conversation.InvalidCommit},
		{"commit: of another group and behind", testEnv(), mls(three), bob, conversation.Commit{Commit: private("other", 3, conversation.ContentCommit)}, conversation.EpochMismatch},
		{"commit: opaque in an MLS group", testEnv(), mls(three), bob, conversation.Commit{Commit: []byte("x")}, conversation.InvalidCommit},
		{"commit: opaque in an MLS group is form, so before the epoch", testEnv(), mls(three), bob, conversation.Commit{Commit: []byte("x"), Expected: epoch(3)}, conversation.InvalidCommit},
		{"add: opaque commit in an MLS group", testEnv(), mls(three), bob, conversation.AddMembers{DIDs: []string{carol}, Commit: []byte("x")}, conversation.InvalidCommit},
		{"leave: opaque commit in an MLS group", testEnv(), mls(three), bob, conversation.Leave{Target: dave, Commit: []byte("x")}, conversation.InvalidCommit},

		{"send: behind", testEnv(), three, bob, conversation.Send{Ciphertext: []byte("x"), Epoch: 3}, conversation.EpochMismatch},
		{"send: ahead", testEnv(), three, bob, conversation.Send{Ciphertext: []byte("x"), Epoch: 5}, conversation.EpochMismatch},
		{"send: the header is behind", testEnv(), three, bob, conversation.Send{Ciphertext: private("group", 3, conversation.ContentApplication), Epoch: 4}, conversation.EpochMismatch},
		{"send: the header of a proposal is ahead", testEnv(), three, bob, conversation.Send{Ciphertext: private("group", 5, conversation.ContentProposal), Epoch: 4}, conversation.EpochMismatch},
		{"send: of another group", testEnv(), three, bob, conversation.Send{Ciphertext: private("other", 4, conversation.ContentApplication), Epoch: 4}, conversation.InvalidRequest},
		{"send: of another group and behind", testEnv(), three, bob, conversation.Send{Ciphertext: private("other", 3, conversation.ContentApplication), Epoch: 3}, conversation.EpochMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ch, next, err := conversation.Decide(tt.env, tt.state, request(tt.caller, tt.command))
			wantCode(t, err, tt.want)
			if !reflect.DeepEqual(ch, conversation.Change{}) || !reflect.DeepEqual(next, tt.state) {
				t.Errorf("a refusal changed something: %+v, %+v", ch, next)
			}
		})
	}
}

func TestDecideEpochMismatchSaysBothEpochs(t *testing.T) {
	_, _, err := conversation.Decide(testEnv(), stateOf(4, 9, alice), request(alice, conversation.Commit{Commit: commitAt(2)}))
	var e *conversation.Error
	if !errors.As(err, &e) || e.Expected != 2 || e.Current != 4 {
		t.Fatalf("got %#v, want expected 2, current 4", err)
	}
	// An epoch that does not fit is one far ahead, not one behind.
	_, _, err = conversation.Decide(testEnv(), stateOf(4, 9, alice), request(alice, conversation.Commit{Commit: commitAt(1 << 63)}))
	if !errors.As(err, &e) || e.Expected <= e.Current || e.Final() {
		t.Fatalf("got %#v, want an expected epoch beyond the current one", err)
	}
}

// TestDecideLog says for each command, in an MLS group and outside one, which
// row it makes and where epoch and seq go.
func TestDecideLog(t *testing.T) {
	opaque := []byte("opaque")
	two := stateOf(4, 9, alice, bob)
	tests := []struct {
		name    string
		state   conversation.State
		command conversation.Command
		kind    conversation.Kind // "": no row
		epoch   int64             // after
		mls     bool
		bytes   []byte
		wantSeq int64
	}{
		{name: "add without a commit", state: two, command: conversation.AddMembers{DIDs: []string{carol}}, kind: conversation.KindCommit, epoch: 5, wantSeq: 10},
		{name: "add with an opaque commit", state: two, command: conversation.AddMembers{DIDs: []string{carol}, Commit: opaque}, kind: conversation.KindCommit, epoch: 5, wantSeq: 10, bytes: opaque},
		{name: "add with an expected epoch", state: two, command: conversation.AddMembers{DIDs: []string{carol}, Commit: opaque, Expected: epoch(4)}, kind: conversation.KindCommit, epoch: 5, wantSeq: 10, bytes: opaque},
		{name: "add with an MLS commit", state: two, command: conversation.AddMembers{DIDs: []string{carol}, Commit: commitAt(4)}, kind: conversation.KindCommit, epoch: 5, wantSeq: 10, bytes: commitAt(4), mls: true},
		{name: "leave without a commit", state: two, command: conversation.Leave{}, kind: conversation.KindCommit, epoch: 5, wantSeq: 10},
		{name: "leave with an MLS commit", state: two, command: conversation.Leave{Target: bob, Commit: commitAt(4)}, kind: conversation.KindCommit, epoch: 5, wantSeq: 10, bytes: commitAt(4), mls: true},
		{name: "opaque commit", state: two, command: conversation.Commit{Commit: opaque}, kind: conversation.KindCommit, epoch: 5, wantSeq: 10, bytes: opaque},
		{name: "public MLS commit", state: two, command: conversation.Commit{Commit: public("group", 4, senderMember, nil, conversation.ContentCommit)}, kind: conversation.KindCommit, epoch: 5, wantSeq: 10, bytes: public("group", 4, senderMember, nil, conversation.ContentCommit), mls: true},
		{name: "opaque message", state: two, command: conversation.Send{Ciphertext: opaque, Epoch: 4}, kind: conversation.KindApp, epoch: 4, wantSeq: 10, bytes: opaque},
		{name: "MLS message", state: two, command: conversation.Send{Ciphertext: private("group", 4, conversation.ContentApplication), Epoch: 4}, kind: conversation.KindApp, epoch: 4, wantSeq: 10, bytes: private("group", 4, conversation.ContentApplication)},

		{name: "MLS: add without a commit", state: mls(two), command: conversation.AddMembers{DIDs: []string{carol}}, epoch: 4, wantSeq: 9, mls: true},
		{name: "MLS: add with an empty commit", state: mls(two), command: conversation.AddMembers{DIDs: []string{carol}, Commit: []byte{}}, epoch: 4, wantSeq: 9, mls: true},
		{name: "MLS: leave without a commit", state: mls(two), command: conversation.Leave{Expected: epoch(4)}, epoch: 4, wantSeq: 9, mls: true},
		{name: "MLS: leave with a commit", state: mls(two), command: conversation.Leave{Target: bob, Commit: commitAt(4), Expected: epoch(4)}, kind: conversation.KindCommit, epoch: 5, wantSeq: 10, bytes: commitAt(4), mls: true},
		{name: "MLS: commit", state: mls(two), command: conversation.Commit{Commit: commitAt(4)}, kind: conversation.KindCommit, epoch: 5, wantSeq: 10, bytes: commitAt(4), mls: true},
		{name: "MLS: opaque message", state: mls(two), command: conversation.Send{Ciphertext: opaque, Epoch: 4}, kind: conversation.KindApp, epoch: 4, wantSeq: 10, bytes: opaque, mls: true},
		{name: "MLS: proposal", state: mls(two), command: conversation.Send{Ciphertext: private("group", 4, conversation.ContentProposal), Epoch: 4}, kind: conversation.KindApp, epoch: 4, wantSeq: 10, bytes: private("group", 4, conversation.ContentProposal), mls: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ch, next, err := conversation.Decide(testEnv(), tt.state, request(alice, tt.command))
			wantCode(t, err, "")
			if next.Epoch != tt.epoch || next.Seq != tt.wantSeq || next.MLS != tt.mls || next.Creator != alice {
				t.Errorf("next state %+v, want epoch %d, seq %d, MLS %v", next, tt.epoch, tt.wantSeq, tt.mls)
			}
			wantResult := conversation.Result{ID: "id-1", Epoch: tt.epoch, Seq: tt.wantSeq, At: now}
			if ch.Result != wantResult {
				t.Errorf("result %+v, want %+v", ch.Result, wantResult)
			}
			if tt.kind == "" {
				if ch.Row != nil {
					t.Fatalf("made a row: %+v", ch.Row)
				}
				if ch.Record == nil || ch.Record.ID != "id-1" || ch.Record.Result != wantResult {
					t.Fatalf("a change without a row must leave a record to be found by, got %+v", ch.Record)
				}
				return
			}
			want := conversation.Row{ID: "id-1", Sender: alice, Kind: tt.kind, Epoch: tt.epoch, Seq: tt.wantSeq, Ciphertext: tt.bytes, At: now}
			if tt.kind == conversation.KindApp {
				want.Expires = now.Add(720 * time.Hour)
			}
			if ch.Row == nil || !reflect.DeepEqual(*ch.Row, want) {
				t.Errorf("row %+v, want %+v", ch.Row, want)
			}
			if ch.Record != nil {
				t.Errorf("a row without a key needs no record, got %+v", ch.Record)
			}
		})
	}
}

func TestDecideAddMembers(t *testing.T) {
	hash1, hash2 := make([]byte, 32), slices.Repeat([]byte{1}, 32)
	refs := []conversation.KeyPackageRef{{DID: carol, Hash: hash1}, {DID: carol, Hash: hash2}}
	r := request(bob, conversation.AddMembers{
		DIDs: []string{dave, carol}, Welcome: []byte("welcome"), Commit: commitAt(4), KeyPackages: refs,
	})
	before := stateOf(4, 9, alice, bob)
	ch, next, err := conversation.Decide(testEnv(), before, r)
	wantCode(t, err, "")
	if got, want := next.Members.List(), []string{alice, bob, carol, dave}; !slices.Equal(got, want) {
		t.Errorf("members %v, want %v", got, want)
	}
	if got := before.Members.List(); !slices.Equal(got, []string{alice, bob}) {
		t.Errorf("the state before was changed: %v", got)
	}
	wantMembers := []conversation.MemberChange{
		{DID: dave, Joined: true, JoinedSeq: 10, At: now}, {DID: carol, Joined: true, JoinedSeq: 10, At: now},
	}
	if !reflect.DeepEqual(ch.Members, wantMembers) {
		t.Errorf("members changed %+v, want %+v", ch.Members, wantMembers)
	}
	wantWelcomes := []conversation.Welcome{
		{Recipient: dave, Data: []byte("welcome"), Epoch: 5, Seq: 10, At: now},
		{Recipient: carol, Data: []byte("welcome"), KeyPackageHash: hash1, Epoch: 5, Seq: 10, At: now},
	}
	if !reflect.DeepEqual(ch.Welcomes, wantWelcomes) {
		t.Errorf("welcomes %+v, want %+v", ch.Welcomes, wantWelcomes)
	}
	if !reflect.DeepEqual(ch.KeyPackages, refs) {
		t.Errorf("key packages %+v, want both of them", ch.KeyPackages)
	}
	if !ch.Alters() {
		t.Error("adding members does not say that it alters epoch or members")
	}
}

func TestDecideAddMembersWithoutWelcome(t *testing.T) {
	ch, _, err := conversation.Decide(testEnv(), stateOf(4, 9, alice), request(alice, conversation.AddMembers{DIDs: []string{bob}}))
	wantCode(t, err, "")
	if len(ch.Welcomes) != 0 {
		t.Errorf("made welcomes out of nothing: %+v", ch.Welcomes)
	}
}

func TestDecideAddMembersUpToTheLimit(t *testing.T) {
	env := testEnv()
	env.Policy.MaxMembers = 4
	add := conversation.AddMembers{DIDs: []string{carol, dave}}
	_, next, err := conversation.Decide(env, stateOf(0, 0, alice, bob), request(alice, add))
	wantCode(t, err, "")
	if next.Members.Len() != 4 {
		t.Errorf("%d members, want 4", next.Members.Len())
	}
	_, _, err = conversation.Decide(env, stateOf(0, 0, alice, bob, "did:plc:erin"), request(alice, add))
	wantCode(t, err, conversation.TooManyMembers)
}

func TestDecideLeave(t *testing.T) {
	open := testEnv()
	open.Policy.AnyMemberRemoves = true
	withCommit := conversation.MemberChange{Left: true, LeftSeq: 10, At: now}
	tests := []struct {
		name   string
		env    conversation.Env
		caller string
		leave  conversation.Leave
		out    string
		mls    bool
		seq    int64
	}{
		{"oneself", testEnv(), bob, conversation.Leave{}, bob, false, 10},
		{"oneself by name", testEnv(), bob, conversation.Leave{Target: bob}, bob, false, 10},
		{"the creator leaves", testEnv(), alice, conversation.Leave{}, alice, false, 10},
		{"by the creator", testEnv(), alice, conversation.Leave{Target: carol}, carol, false, 10},
		{"by any member, where the policy lets them", open, bob, conversation.Leave{Target: carol}, carol, false, 10},
		{"even the creator, where the policy lets them", open, bob, conversation.Leave{Target: alice}, alice, false, 10},
		{"MLS, with a commit", testEnv(), alice, conversation.Leave{Target: carol, Commit: commitAt(4)}, carol, true, 10},
		{"MLS, without a commit: up to the seq of that moment", testEnv(), bob, conversation.Leave{}, bob, true, 9},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := stateOf(4, 9, alice, bob, carol)
			s.MLS = tt.mls
			ch, next, err := conversation.Decide(tt.env, s, request(tt.caller, tt.leave))
			wantCode(t, err, "")
			want := withCommit
			want.DID, want.LeftSeq = tt.out, tt.seq
			if len(ch.Members) != 1 || ch.Members[0] != want {
				t.Errorf("members changed %+v, want %+v", ch.Members, want)
			}
			if next.Members.Has(tt.out) || next.Members.Len() != 2 {
				t.Errorf("members after: %v", next.Members.List())
			}
			if !ch.Alters() {
				t.Error("leaving does not say that it alters the members")
			}
		})
	}
}

// A creator who has left has no more say than anybody else who is no member.
func TestDecideFormerCreator(t *testing.T) {
	_, _, err := conversation.Decide(testEnv(), stateOf(4, 9, bob, carol), request(alice, conversation.Leave{Target: bob}))
	wantCode(t, err, conversation.NotMember)
}

func TestDecideSend(t *testing.T) {
	send := conversation.Send{Ciphertext: []byte("x"), Epoch: 4, ClientID: "m1", EmbedType: "gif", EmbedURI: "https://example.com/a.gif"}
	ch, _, err := conversation.Decide(testEnv(), stateOf(4, 9, alice), request(alice, send))
	wantCode(t, err, "")
	if ch.Row.ClientID != "m1" || ch.Row.EmbedType != "gif" || ch.Row.EmbedURI != "https://example.com/a.gif" {
		t.Errorf("row %+v has lost what the client said", ch.Row)
	}
	if ch.Alters() {
		t.Error("an application message says that it alters epoch or members")
	}

	forever := testEnv()
	forever.Policy.Retention = 0
	ch, _, err = conversation.Decide(forever, stateOf(4, 9, alice), request(alice, send))
	wantCode(t, err, "")
	if !ch.Row.Expires.IsZero() {
		t.Errorf("expires at %v, want never", ch.Row.Expires)
	}
}

func TestDecideRecordsKeyedRequests(t *testing.T) {
	commands := []conversation.Command{
		conversation.AddMembers{DIDs: []string{carol}},
		conversation.Leave{},
		conversation.Commit{Commit: []byte("x")},
		conversation.Send{Ciphertext: []byte("x"), Epoch: 4},
	}
	for _, c := range commands {
		t.Run(string(c.Op()), func(t *testing.T) {
			r := request(bob, c)
			r.Key, r.Digest = "k", conversation.DigestOf(c)
			ch, _, err := conversation.Decide(testEnv(), stateOf(4, 9, alice, bob), r)
			wantCode(t, err, "")
			want := &conversation.Record{ID: "id-1", Caller: bob, Endpoint: c.Op(), Key: "k", Digest: r.Digest, Result: ch.Result}
			if !reflect.DeepEqual(ch.Record, want) {
				t.Errorf("record %+v, want %+v", ch.Record, want)
			}
		})
	}
}

// TestDecideIsPure decides the same twice and wants the same, with nothing
// given changed.
func TestDecideIsPure(t *testing.T) {
	s := mls(stateOf(4, 9, alice, bob))
	r := request(alice, conversation.AddMembers{DIDs: []string{carol}, Commit: commitAt(4), Welcome: []byte("w")})
	before := fmt.Sprintf("%+v %+v", s, r)
	ch1, next1, err1 := conversation.Decide(testEnv(), s, r)
	ch2, next2, err2 := conversation.Decide(testEnv(), s, r)
	wantCode(t, err1, "")
	wantCode(t, err2, "")
	if !reflect.DeepEqual(ch1, ch2) || !reflect.DeepEqual(next1, next2) {
		t.Error("equal arguments gave different answers")
	}
	if after := fmt.Sprintf("%+v %+v", s, r); after != before {
		t.Errorf("arguments were changed:\n%s\n%s", before, after)
	}
}
