package conversation_test

import (
	"reflect"
	"slices"
	"testing"

	"catbird/conversation"
)

func creation(change func(*conversation.Creation)) conversation.Creation {
	c := conversation.Creation{Creator: alice, CipherSuite: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"}
	if change != nil {
		change(&c)
	}
	return c
}

func createRequest() *conversation.Request {
	return &conversation.Request{ID: "id-1", Convo: group, Caller: alice}
}

// TestCreateStart says at which epoch a conversation starts, and with which
// row.
func TestCreateStart(t *testing.T) {
	tests := []struct {
		name     string
		creation conversation.Creation
		epoch    int64
		mls      bool
		bytes    []byte
	}{
		{"alone", creation(nil), 0, false, nil},
		{"members, but no commit", creation(func(c *conversation.Creation) { c.Initial = []string{bob} }), 0, false, nil},
		{"epoch 1 without a commit: an empty one", creation(func(c *conversation.Creation) { c.Epoch = 1 }), 1, false, nil},
		{"MLS commit", creation(func(c *conversation.Creation) { c.Commit = commitAt(0) }), 1, true, commitAt(0)},
		{"MLS commit and epoch 1", creation(func(c *conversation.Creation) { c.Commit, c.Epoch = commitAt(0), 1 }), 1, true, commitAt(0)},
		{"opaque commit", creation(func(c *conversation.Creation) { c.Commit = []byte("x") }), 1, false, []byte("x")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, u, err := tt.creation.Create(testEnv(), createRequest())
			wantCode(t, err, "")
			if got := tt.creation.Start(); got != tt.epoch {
				t.Errorf("Start() = %d, want %d", got, tt.epoch)
			}
			// One row if it starts at epoch 1, so seq is the epoch.
			if s.Epoch != tt.epoch || s.Seq != tt.epoch || s.MLS != tt.mls || s.Creator != alice {
				t.Errorf("state %+v", s)
			}
			if u.Epoch != s.Epoch || u.Seq != s.Seq || u.MLS != s.MLS || u.Convo != group || u.Base != (conversation.Version{}) {
				t.Errorf("unit %+v does not lead to the state", u)
			}
			if tt.epoch == 0 {
				if len(u.Rows) != 0 || len(u.Records) != 1 {
					t.Errorf("%d rows, %d records; want none and one", len(u.Rows), len(u.Records))
				}
				return
			}
			want := conversation.Row{ID: "id-1", Sender: alice, Kind: conversation.KindCommit, Epoch: 1, Seq: 1, Ciphertext: tt.bytes, At: now}
			if len(u.Rows) != 1 || !reflect.DeepEqual(u.Rows[0], want) {
				t.Errorf("rows %+v, want %+v", u.Rows, want)
			}
		})
	}
}

func TestCreateMembersAndWelcomes(t *testing.T) {
	refs := []conversation.KeyPackageRef{{DID: bob, Hash: hashOf(1)}}
	c := creation(func(c *conversation.Creation) {
		c.Initial, c.Welcome, c.KeyPackages, c.Commit = []string{carol, bob}, []byte("welcome"), refs, commitAt(0)
	})
	r := createRequest()
	r.Key, r.Digest = "k", []byte("d")
	s, u, err := c.Create(testEnv(), r)
	wantCode(t, err, "")
	if got := s.Members.List(); !slices.Equal(got, []string{alice, bob, carol}) {
		t.Errorf("members %v", got)
	}
	wantMembers := []conversation.MemberChange{
		{DID: alice, Joined: true, JoinedSeq: 1, At: now},
		{DID: carol, Joined: true, JoinedSeq: 1, At: now},
		{DID: bob, Joined: true, JoinedSeq: 1, At: now},
	}
	if !reflect.DeepEqual(u.Members, wantMembers) {
		t.Errorf("member rows %+v, want %+v", u.Members, wantMembers)
	}
	wantWelcomes := []conversation.Welcome{
		{Recipient: carol, Data: []byte("welcome"), Epoch: 1, Seq: 1, At: now},
		{Recipient: bob, Data: []byte("welcome"), KeyPackageHash: hashOf(1), Epoch: 1, Seq: 1, At: now},
	}
	if !reflect.DeepEqual(u.Welcomes, wantWelcomes) {
		t.Errorf("welcomes %+v, want %+v", u.Welcomes, wantWelcomes)
	}
	if !reflect.DeepEqual(u.KeyPackages, refs) {
		t.Errorf("key packages %+v, want %+v", u.KeyPackages, refs)
	}
	if len(u.Records) != 1 || u.Records[0].Endpoint != conversation.OpCreate || u.Records[0].Key != "k" || string(u.Records[0].Digest) != "d" {
		t.Errorf("records %+v", u.Records)
	}
}

// A creator may add their other devices at once: the welcome is for them, the
// membership is one.
func TestCreateWithTheCreatorAmongTheInitialMembers(t *testing.T) {
	c := creation(func(c *conversation.Creation) { c.Initial, c.Welcome = []string{alice, bob}, []byte("w") })
	s, u, err := c.Create(testEnv(), createRequest())
	wantCode(t, err, "")
	if s.Members.Len() != 2 || len(u.Members) != 2 || len(u.Welcomes) != 2 {
		t.Errorf("%d members, %d member rows, %d welcomes; want 2 of each", s.Members.Len(), len(u.Members), len(u.Welcomes))
	}
}

func TestCreateTooManyMembers(t *testing.T) {
	env := testEnv()
	env.Policy.MaxMembers = 2
	c := creation(func(c *conversation.Creation) { c.Initial = []string{bob} })
	_, _, err := c.Create(env, createRequest())
	wantCode(t, err, "")
	c.Initial = []string{bob, carol}
	_, u, err := c.Create(env, createRequest())
	wantCode(t, err, conversation.TooManyMembers)
	if u != nil {
		t.Error("a refusal made a unit")
	}
}
