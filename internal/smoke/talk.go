package smoke

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"catbird/conversation"
	"catbird/internal/client"
)

// The names of steps that others need.
const (
	published = "bob publishes a key package"
	found     = "alice finds it"
	created   = "alice creates the conversation"
	added     = "alice adds bob"
	welcomed  = "bob gets the welcome"
	sent      = "alice sends a message"
	renewed   = "alice commits new keys"
)

const suite = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"

// mostPackages is how many of one DID's key packages an answer holds at most.
const mostPackages = 5

// talk is one conversation of Alice and Bob. Its commits, messages and key
// packages are random bytes: the service must not care.
type talk struct {
	alice, bob *client.Caller

	id                                      string
	welcome, keyPackage, add, message, keys []byte

	offered client.KeyPackageHash // what the key package is called
	sent    client.SendMessage
	first   client.Sent // what sending it led to
}

func newTalk(api *client.Client, p *People) *talk {
	noise := func(n int) []byte {
		b := make([]byte, n)
		_, _ = rand.Read(b) // never fails
		return b
	}
	return &talk{
		alice: api.As(p.alice), bob: api.As(p.bob),
		id:      hex.EncodeToString(noise(16)),
		welcome: noise(600), keyPackage: noise(300), add: noise(500), message: noise(1024), keys: noise(400),
	}
}

func (t *talk) steps() []step {
	return []step{
		{published, "publishKeyPackage", nil, t.publish},
		{found, "getKeyPackages", []string{published}, t.find},
		{created, "createConvo", nil, t.create},
		{"bob is told nothing yet", "getEpoch", []string{created}, t.stranger},
		{added, "addMembers", []string{created, found}, t.addBob},
		{"bob finds the conversation", "getConvos", []string{added}, t.list},
		{welcomed, "getWelcome", []string{added}, t.getWelcome},
		{"bob confirms it", "confirmWelcome", []string{welcomed}, t.confirm},
		{sent, "sendMessage", []string{added}, t.send},
		{"sending it again changes nothing", "sendMessage", []string{sent}, t.sendAgain},
		{"bob reads both", "getMessages", []string{sent}, t.read},
		{renewed, "commit", []string{added}, t.commit},
		{"a message of the past is refused", "sendMessage", []string{renewed}, t.sendLate},
		{"bob reads the commits", "getCommits", []string{renewed}, t.commits},
		{"bob knows the epoch", "getEpoch", []string{renewed}, t.epoch},
		{"bob leaves", "leaveConvo", []string{added}, t.leave},
		{"alice is the last and stays", "leaveConvo", []string{"bob leaves"}, t.last},
	}
}

func (t *talk) publish(ctx context.Context) error {
	return t.bob.PublishKeyPackage(ctx, client.PublishKeyPackage{KeyPackage: t.keyPackage, CipherSuite: suite})
}

// find takes Bob's own key package, or where Bob has so many older ones that it
// is not among them, the oldest.
func (t *talk) find(ctx context.Context) error {
	got, err := t.alice.GetKeyPackages(ctx, []string{t.bob.DID()}, suite)
	if err != nil {
		return err
	}
	for _, k := range got.KeyPackages {
		if sum := sha256.Sum256(k.KeyPackage); hex.EncodeToString(sum[:]) != k.Hash || k.DID != t.bob.DID() {
			return fmt.Errorf("a key package of %s with hash %s does not bear it", k.DID, k.Hash)
		}
		if t.offered.Hash == "" || bytes.Equal(k.KeyPackage, t.keyPackage) {
			t.offered = client.KeyPackageHash{DID: k.DID, Hash: k.Hash}
		}
	}
	sum := sha256.Sum256(t.keyPackage)
	if len(got.KeyPackages) < mostPackages && t.offered.Hash != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("it is not among the %d there are", len(got.KeyPackages))
	}
	return nil
}

func (t *talk) create(ctx context.Context) error {
	got, err := t.alice.CreateConvo(ctx, client.CreateConvo{
		GroupID: t.id, CipherSuite: suite, IdempotencyKey: "create",
		Metadata: &client.Metadata{Name: "smoke test", Description: "may be deleted"},
	})
	if err != nil {
		return err
	}
	return errors.Join(
		same("id", got.ID, t.id), same("creator", got.Creator, t.alice.DID()), same("epoch", got.Epoch, 0),
		same("members", len(got.Members), 1),
	)
}

func (t *talk) stranger(ctx context.Context) error {
	_, err := t.bob.GetEpoch(ctx, t.id)
	return refused(err, conversation.NotMember)
}

func (t *talk) addBob(ctx context.Context) error {
	got, err := t.alice.AddMembers(ctx, client.AddMembers{
		ConvoID: t.id, DIDs: []string{t.bob.DID()}, Commit: t.add, Welcome: t.welcome,
		KeyPackageHashes: []client.KeyPackageHash{t.offered}, IdempotencyKey: "add", ExpectedEpoch: new(int64(0)),
	})
	if err != nil {
		return err
	}
	return errors.Join(same("success", got.Success, true), same("newEpoch", got.NewEpoch, 1))
}

func (t *talk) list(ctx context.Context) error {
	got, err := t.bob.GetConvos(ctx, 100, "") // the last activity comes first
	if err != nil {
		return err
	}
	i := slices.IndexFunc(got.Conversations, func(c client.Convo) bool { return c.ID == t.id })
	if i < 0 {
		return fmt.Errorf("it is not among the first %d", len(got.Conversations))
	}
	return errors.Join(same("epoch", got.Conversations[i].Epoch, 1), same("members", len(got.Conversations[i].Members), 2))
}

func (t *talk) getWelcome(ctx context.Context) error {
	got, err := t.bob.GetWelcome(ctx, t.id)
	if err != nil {
		return err
	}
	return errors.Join(sameBytes("welcome", got.Welcome, t.welcome), same("epoch", got.Epoch, 1), same("seq", got.Seq, 1))
}

func (t *talk) confirm(ctx context.Context) error {
	confirmed, err := t.bob.ConfirmWelcome(ctx, client.ConfirmWelcome{ConvoID: t.id, Success: true})
	if err != nil {
		return err
	}
	return same("confirmed", confirmed, true)
}

func (t *talk) send(ctx context.Context) (err error) {
	t.sent = client.SendMessage{ConvoID: t.id, Ciphertext: t.message, Epoch: 1, IdempotencyKey: "hello"}
	t.first, err = t.alice.SendMessage(ctx, t.sent)
	if err != nil {
		return err
	}
	return errors.Join(same("seq", t.first.Seq, 2), same("epoch", t.first.Epoch, 1))
}

func (t *talk) sendAgain(ctx context.Context) error {
	got, err := t.alice.SendMessage(ctx, t.sent)
	if err != nil {
		return err
	}
	return errors.Join(same("messageId", got.MessageID, t.first.MessageID), same("seq", got.Seq, t.first.Seq))
}

func (t *talk) read(ctx context.Context) error {
	got, err := t.bob.GetMessages(ctx, client.GetMessages{ConvoID: t.id, SinceSeq: new(int64(0))})
	if err != nil {
		return err
	}
	if len(got.Messages) != 2 {
		return fmt.Errorf("%d rows in the log, want a commit and a message", len(got.Messages))
	}
	commit, message := got.Messages[0], got.Messages[1]
	return errors.Join(
		same("lastSeq", got.LastSeq, 2),
		same("messageType of the first", commit.MessageType, "commit"), same("its seq", commit.Seq, 1), sameBytes("the commit", commit.Ciphertext, t.add),
		same("messageType of the second", message.MessageType, "app"), same("its seq", message.Seq, 2), sameBytes("the message", message.Ciphertext, t.message),
		same("its id", message.ID, t.first.MessageID), same("its sender", message.Sender, t.alice.DID()),
	)
}

func (t *talk) commit(ctx context.Context) error {
	got, err := t.alice.Commit(ctx, client.MakeCommit{ConvoID: t.id, Commit: t.keys, IdempotencyKey: "keys", ExpectedEpoch: new(int64(1))})
	if err != nil {
		return err
	}
	return errors.Join(same("success", got.Success, true), same("newEpoch", got.NewEpoch, 2))
}

func (t *talk) sendLate(ctx context.Context) error {
	_, err := t.alice.SendMessage(ctx, client.SendMessage{ConvoID: t.id, Ciphertext: t.message, Epoch: 1, IdempotencyKey: "late"})
	if err := refused(err, conversation.EpochMismatch); err != nil {
		return err
	}
	var told *client.Error
	errors.As(err, &told)
	return errors.Join(same("currentEpoch", told.CurrentEpoch, 2), same("commits missed", len(told.Commits), 1))
}

func (t *talk) commits(ctx context.Context) error {
	got, err := t.bob.GetCommits(ctx, t.id, 1, nil)
	if err != nil {
		return err
	}
	if len(got.Commits) != 2 {
		return fmt.Errorf("%d commits, want one for each of two epochs", len(got.Commits))
	}
	return errors.Join(
		same("epoch of the first", got.Commits[0].Epoch, 1), sameBytes("the first", got.Commits[0].CommitData, t.add),
		same("epoch of the second", got.Commits[1].Epoch, 2), sameBytes("the second", got.Commits[1].CommitData, t.keys),
	)
}

func (t *talk) epoch(ctx context.Context) error {
	got, err := t.bob.GetEpoch(ctx, t.id)
	if err != nil {
		return err
	}
	return same("currentEpoch", got, 2)
}

func (t *talk) leave(ctx context.Context) error {
	got, err := t.bob.LeaveConvo(ctx, client.LeaveConvo{ConvoID: t.id, IdempotencyKey: "leave"})
	if err != nil {
		return err
	}
	return same("success", got.Success, true)
}

func (t *talk) last(ctx context.Context) error {
	_, err := t.alice.LeaveConvo(ctx, client.LeaveConvo{ConvoID: t.id, IdempotencyKey: "leave"})
	return refused(err, conversation.LastMember)
}

// refused checks that err is the refusal that was to come.
func refused(err error, want conversation.Code) error {
	switch got := client.NameOf(err); {
	case err == nil:
		return fmt.Errorf("done, but should be refused with %s", want)
	case got != want:
		return fmt.Errorf("should be refused with %s, but: %w", want, err)
	default:
		return nil
	}
}

func same[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s is %v, want %v", what, got, want)
	}
	return nil
}

func sameBytes(what string, got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s is %d other bytes than the %d that were stored", what, len(got), len(want))
	}
	return nil
}
