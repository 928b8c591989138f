package conversation_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"catbird/conversation"
)

// run decides commands one after another and adds them to one unit, each a
// second after the one before.
func run(t *testing.T, s conversation.State, fence int64, commands ...conversation.Command) (*conversation.Unit, conversation.State) {
	t.Helper()
	u := conversation.NewUnit(group, s, fence)
	env := testEnv()
	for i, c := range commands {
		r := request(alice, c)
		r.ID = fmt.Sprintf("id-%d", i+1)
		ch, next, err := conversation.Decide(env, s, r)
		wantCode(t, err, "")
		u.Add(ch, next)
		s, env.Now = next, env.Now.Add(time.Second)
	}
	return u, s
}

func add(welcome string, members ...string) conversation.Command {
	return conversation.AddMembers{DIDs: members, Welcome: []byte(welcome)}
}

func remove(did string) conversation.Command { return conversation.Leave{Target: did} }

// TestUnitFoldsMembers: one statement cannot write a row twice, so a unit says
// each member's end, and as much of the way there as the store needs.
func TestUnitFoldsMembers(t *testing.T) {
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	tests := []struct {
		name     string
		members  []string
		commands []conversation.Command
		want     conversation.MemberChange
		active   bool
	}{
		{
			"joined",
			[]string{alice},
			[]conversation.Command{add("w", bob)},
			conversation.MemberChange{DID: bob, Joined: true, JoinedSeq: 11, At: at(0)},
			true,
		},
		{
			"left",
			[]string{alice, bob},
			[]conversation.Command{remove(bob)},
			conversation.MemberChange{DID: bob, Left: true, LeftSeq: 11, At: at(0)},
			false,
		},
		{
			"joined and left",
			[]string{alice},
			[]conversation.Command{add("w", bob), remove(bob)},
			conversation.MemberChange{DID: bob, Joined: true, JoinedSeq: 11, Left: true, LeftSeq: 12, At: at(1)},
			false,
		},
		{
			"left and came back",
			[]string{alice, bob},
			[]conversation.Command{remove(bob), add("w", bob)},
			conversation.MemberChange{DID: bob, Joined: true, JoinedSeq: 12, At: at(1)},
			true,
		},
		{
			"left, came back, left",
			[]string{alice, bob},
			[]conversation.Command{remove(bob), add("w", bob), remove(bob)},
			conversation.MemberChange{DID: bob, Joined: true, JoinedSeq: 12, Left: true, LeftSeq: 13, At: at(2)},
			false,
		},
		{
			"joined, left, came back",
			[]string{alice},
			[]conversation.Command{add("w", bob), remove(bob), add("w", bob)},
			conversation.MemberChange{DID: bob, Joined: true, JoinedSeq: 13, At: at(2)},
			true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, s := run(t, stateOf(5, 10, tt.members...), 1, tt.commands...)
			if !reflect.DeepEqual(u.Members, []conversation.MemberChange{tt.want}) {
				t.Errorf("members %+v, want %+v", u.Members, tt.want)
			}
			if s.Members.Has(bob) != tt.active {
				t.Errorf("active = %v, want %v", s.Members.Has(bob), tt.active)
			}
			if !u.Alters() {
				t.Error("does not say that it alters the members")
			}
		})
	}
}

func TestUnitKeepsTheNewestWelcome(t *testing.T) {
	u, _ := run(t, stateOf(5, 10, alice), 1, add("first", bob, carol), remove(bob), add("second", bob))
	got := make(map[string]string)
	for _, w := range u.Welcomes {
		if _, ok := got[w.Recipient]; ok {
			t.Errorf("two welcomes for %s", w.Recipient)
		}
		got[w.Recipient] = fmt.Sprintf("%s at epoch %d, seq %d", w.Data, w.Epoch, w.Seq)
	}
	want := map[string]string{bob: "second at epoch 8, seq 13", carol: "first at epoch 6, seq 11"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("welcomes %v, want %v", got, want)
	}
}

func TestUnitAddsUp(t *testing.T) {
	start := stateOf(5, 10, alice, bob)
	u, s := run(t, start, 7,
		conversation.Send{Ciphertext: []byte("one"), Epoch: 5},
		conversation.Commit{Commit: commitAt(5)},
		conversation.Send{Ciphertext: []byte("two"), Epoch: 6},
		conversation.Leave{Target: bob}, // an MLS group by now: no row
	)
	if want := (conversation.Version{Epoch: 5, Seq: 10, Fence: 7}); u.Base != want {
		t.Errorf("base %+v, want %+v", u.Base, want)
	}
	if u.Epoch != 6 || u.Seq != 13 || !u.MLS || s.Epoch != 6 || s.Seq != 13 {
		t.Errorf("ends at epoch %d, seq %d, MLS %v", u.Epoch, u.Seq, u.MLS)
	}
	if want := []string{"id-1", "id-2", "id-3", "id-4"}; !reflect.DeepEqual(u.IDs, want) {
		t.Errorf("ids %v, want %v", u.IDs, want)
	}
	var seqs, epochs []int64
	for _, r := range u.Rows {
		seqs, epochs = append(seqs, r.Seq), append(epochs, r.Epoch)
	}
	if !reflect.DeepEqual(seqs, []int64{11, 12, 13}) || !reflect.DeepEqual(epochs, []int64{5, 6, 6}) {
		t.Errorf("rows have seqs %v and epochs %v", seqs, epochs)
	}
	if len(u.Records) != 1 || u.Records[0].ID != "id-4" {
		t.Errorf("records %+v, want one for the change without a row", u.Records)
	}
	if !u.At.Equal(now.Add(3*time.Second)) || !u.LastMessage.Equal(now.Add(2*time.Second)) {
		t.Errorf("at %v, last message %v", u.At, u.LastMessage)
	}
	rows, size := u.Weight()
	if rows != 5 || size < len("onetwo")+len(commitAt(5)) { // 3 rows, a member, a record
		t.Errorf("weighs %d rows, %d bytes", rows, size)
	}
}

func TestUnitOfMessagesAltersNothing(t *testing.T) {
	u := conversation.NewUnit(group, stateOf(5, 10, alice), 1)
	if !u.Empty() || u.Alters() {
		t.Error("a new unit is not empty")
	}
	u, _ = run(t, stateOf(5, 10, alice), 1, conversation.Send{Ciphertext: []byte("x"), Epoch: 5})
	if u.Empty() || u.Alters() {
		t.Errorf("empty %v, alters %v; want neither", u.Empty(), u.Alters())
	}
	u, _ = run(t, stateOf(5, 10, alice), 1, conversation.Commit{Commit: []byte("x")})
	if u.Empty() || !u.Alters() {
		t.Errorf("a commit: empty %v, alters %v; want only the latter", u.Empty(), u.Alters())
	}
}

func TestUnitWeighsItsPayload(t *testing.T) {
	big := make([]byte, 1<<20)
	u, _ := run(t, stateOf(5, 10, alice), 1,
		conversation.AddMembers{DIDs: []string{bob, carol}, Welcome: big, Commit: big},
		conversation.Send{Ciphertext: big, Epoch: 6})
	rows, size := u.Weight()
	if rows != 6 { // commit, message, two members, two welcomes
		t.Errorf("%d rows, want 6", rows)
	}
	if size < 4<<20 || size > 5<<20 { // the welcome is written once per member
		t.Errorf("%d bytes, want a bit more than 4 MiB", size)
	}
}
