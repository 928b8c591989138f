package router

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"catbird/conversation"
	"catbird/persistence"
)

func TestIdempotency(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ first, other obj }{
		"createConvo":       {obj{"groupId": "ff", "cipherSuite": suite, "idempotencyKey": "k"}, obj{"cipherSuite": "MLS_128_DHKEMP256_AES128GCM_SHA256_P256"}},
		"addMembers":        {obj{"convoId": group, "didList": []string{carol}, "idempotencyKey": "k"}, obj{"didList": []string{dave}}},
		"leaveConvo":        {obj{"convoId": group, "targetDid": bob, "idempotencyKey": "k"}, obj{"targetDid": carol}},
		"commit":            {obj{"convoId": group, "commit": b64("c"), "expectedEpoch": 0, "idempotencyKey": "k"}, obj{"commit": b64("d")}},
		"sendMessage":       {obj{"convoId": group, "epoch": 0, "ciphertext": b64("m"), "idempotencyKey": "k"}, obj{"ciphertext": b64("n")}},
		"sendMessage msgId": {obj{"convoId": group, "epoch": 0, "ciphertext": b64("m"), "msgId": "k"}, obj{"ciphertext": b64("n")}},
		"publishKeyPackage": {obj{"keyPackage": b64("p"), "cipherSuite": suite, "idempotencyKey": "k"}, obj{"keyPackage": b64("q")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, nil)
			e.convo(bob)
			endpoint := name
			if name == "sendMessage msgId" {
				endpoint = "sendMessage"
			}
			first := e.post(alice, endpoint, tt.first).want(t, "")
			e.post(alice, "commit", obj{"convoId": group, "commit": b64("meanwhile")}).want(t, "")
			if again := e.post(alice, endpoint, tt.first).want(t, ""); string(again.raw) != string(first.raw) {
				t.Errorf("got %s the second time, %s the first", again.raw, first.raw)
			}
			for k, v := range tt.other {
				tt.first[k] = v
			}
			e.post(alice, endpoint, tt.first).want(t, conversation.IdempotencyConflict)
		})
	}
}

// TestIdempotencyIsTheCallersOwn: keys belong to caller, endpoint and
// conversation, and the form in which bytes are sent does not matter.
func TestIdempotencyIsTheCallersOwn(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.convo(bob)
	const raw = "\xfb\xff\xbe\x01"
	send := func(did string, form any) answer {
		t.Helper()
		return e.post(did, "sendMessage", obj{"convoId": group, "epoch": 0, "ciphertext": form, "idempotencyKey": "k"}).want(t, "")
	}
	first := send(alice, blob(raw))
	if again := send(alice, base64.RawURLEncoding.EncodeToString([]byte(raw))); string(again.raw) != string(first.raw) {
		t.Errorf("another form of the same bytes gave %s, not %s", again.raw, first.raw)
	}
	if other := send(bob, blob("else")); other.num("seq") != 2 {
		t.Errorf("another caller's key gave %s", other.raw)
	}
	if a := e.post(alice, "commit", obj{"convoId": group, "commit": b64("c"), "idempotencyKey": "k"}).want(t, ""); a.num("newEpoch") != 1 {
		t.Errorf("another endpoint's key gave %s", a.raw)
	}
}

func TestIdempotencyWhileTheFirstRuns(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.convo(bob)
	answers := make([]answer, 8)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			answers[i] = e.post(alice, "sendMessage", obj{"convoId": group, "epoch": 0, "ciphertext": b64("m"), "msgId": "k"})
		})
	}
	wg.Wait()
	for _, a := range answers {
		if a.want(t, ""); string(a.raw) != string(answers[0].raw) {
			t.Errorf("got %s and %s", a.raw, answers[0].raw)
		}
	}
	if a := e.get(bob, "getMessages", "convoId", group).want(t, ""); a.num("lastSeq") != 1 {
		t.Errorf("stored more than once: %s", a.raw)
	}
}

func TestRequestsCarryIdKeyAndDigest(t *testing.T) {
	t.Parallel()
	var got []*conversation.Request
	e := newEnv(t, func(c *Config) {
		c.Delivery = fakeDelivery{do: func(_ context.Context, r *conversation.Request) (conversation.Result, error) {
			got = append(got, r)
			return conversation.Result{ID: r.ID}, nil
		}}
	})
	body := obj{"convoId": "ABCD", "epoch": 3, "ciphertext": b64("m"), "msgId": "id"}
	e.post(alice, "sendMessage", body).want(t, "")
	body["idempotencyKey"] = "key"
	e.post(alice, "sendMessage", body).want(t, "")
	e.post(alice, "commit", obj{"convoId": "not-hex_", "commit": b64("m")}).want(t, "")

	send := conversation.Send{Ciphertext: []byte("m"), Epoch: 3, ClientID: "id"}
	for i, want := range []struct {
		convo, key string
		digest     string
	}{
		{"abcd", "id", string(conversation.DigestOf(send))},
		{"abcd", "key", string(conversation.DigestOf(send))},
		{"not-hex_", "", ""},
	} {
		r := got[i]
		if r.Convo != want.convo || r.Key != want.key || string(r.Digest) != want.digest || r.Caller != alice || r.Retry {
			t.Errorf("request %d: %+v", i, r)
		}
		if id, err := uuid.Parse(r.ID); err != nil || id.Version() != 7 {
			t.Errorf("request %d has id %q", i, r.ID)
		}
	}
	if got[0].ID == got[1].ID {
		t.Error("two requests have one id")
	}
}

func TestEpochMismatchCarriesWhatWasMissed(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.convo(bob)
	for i := range 3 {
		e.post(alice, "commit", obj{"convoId": group, "commit": b64(fmt.Sprint("commit ", i+1))}).want(t, "")
		e.send(alice, int64(i+1), "between").want(t, "")
	}
	for name, a := range map[string]answer{
		"sendMessage": e.send(bob, 1, "x"),
		"commit":      e.post(bob, "commit", obj{"convoId": group, "commit": b64("x"), "expectedEpoch": 1}),
		"addMembers":  e.post(bob, "addMembers", obj{"convoId": group, "didList": []string{carol}, "expectedEpoch": 1}),
		"leaveConvo":  e.post(bob, "leaveConvo", obj{"convoId": group, "expectedEpoch": 1}),
	} {
		a.want(t, conversation.EpochMismatch)
		want := e.get(bob, "getCommits", "convoId", group, "fromEpoch", "2").want(t, "")
		if a.num("currentEpoch") != 3 || fmt.Sprint(a.body["commits"]) != fmt.Sprint(want.body["commits"]) || len(a.list("commits")) != 2 {
			t.Errorf("%s: got %s", name, a.raw)
		}
		if _, there := a.body["more"]; there {
			t.Errorf("%s: says there is more", name)
		}
	}
	for _, ahead := range []int64{4, math.MaxInt64} {
		a := e.send(bob, ahead, "x").want(t, conversation.EpochMismatch)
		if commits, ok := a.body["commits"].([]any); a.num("currentEpoch") != 3 || !ok || len(commits) != 0 {
			t.Errorf("a client at %d hears %s", ahead, a.raw)
		}
	}
}

// overtaken lets others act between a refusal and what is made of it.
type overtaken struct {
	Delivery
	by func()
}

func (o *overtaken) Do(ctx context.Context, r *conversation.Request) (conversation.Result, error) {
	res, err := o.Delivery.Do(ctx, r)
	if by := o.by; err != nil && by != nil {
		o.by = nil
		by()
	}
	return res, err
}

// What comes between the refusal and its answer is of another instant: the caller
// may have left by then, and no single moment has that epoch and that member.
func TestEpochMismatchTellsOfOneInstant(t *testing.T) {
	t.Parallel()
	var o overtaken
	e := newEnv(t, func(c *Config) { o.Delivery = c.Delivery; c.Delivery = &o })
	e.convo(bob)
	e.post(alice, "commit", obj{"convoId": group, "commit": b64("one")}).want(t, "")
	o.by = func() { e.post(bob, "leaveConvo", obj{"convoId": group, "commit": b64("two")}).want(t, "") }
	a := e.send(bob, 0, "x").want(t, conversation.EpochMismatch)
	if a.num("currentEpoch") != 1 || len(a.list("commits")) != 1 || a.body["more"] != nil {
		t.Errorf("got %s", a.raw)
	}
	e.send(bob, 0, "x").want(t, conversation.NotMember)
}

func TestEpochMismatchOfMLSCommits(t *testing.T) {
	t.Parallel()
	r := loadRecording(t, "small")
	e := newEnv(t, everybodyRemoves)
	r.Steps = r.Steps[:5] // up to epoch 2
	for _, p := range r.People {
		for _, k := range p.KeyPackages {
			e.post(p.DID, "publishKeyPackage", obj{"keyPackage": k.Data, "cipherSuite": r.CipherSuite}).want(t, "")
		}
	}
	play(t, e, r)
	stale := r.Steps[1] // made at epoch 0
	a := e.post(stale.By, "commit", obj{"convoId": r.GroupID, "commit": stale.Commit}).want(t, conversation.EpochMismatch)
	if a.num("currentEpoch") != 2 || len(a.list("commits")) != 2 || unblob(t, a.list("commits")[1]["commitData"]) != unb64(t, r.Steps[4].Commit) {
		t.Errorf("got %.300s", a.raw)
	}
	// What the bytes say against expectedEpoch is a matter of form, and comes first.
	e.post(stale.By, "commit", obj{"convoId": r.GroupID, "commit": stale.Commit, "expectedEpoch": 2}).want(t, conversation.InvalidCommit)
	e.post(stale.By, "commit", obj{"convoId": r.GroupID, "commit": b64("opaque")}).want(t, conversation.InvalidCommit)
	e.post(stale.By, "sendMessage", obj{"convoId": r.GroupID, "epoch": 2, "ciphertext": stale.Commit}).want(t, conversation.InvalidCommit)
	// A member may leave without a commit; the epoch stays.
	if a := e.post(dave, "leaveConvo", obj{"convoId": r.GroupID}).want(t, ""); a.num("newEpoch") != 2 {
		t.Errorf("leaving without a commit: %s", a.raw)
	}
}

func TestEpochMismatchIsBounded(t *testing.T) {
	t.Parallel()
	behind := &conversation.Error{Code: conversation.EpochMismatch, Message: "x", Expected: 1, Current: 9}
	commit := func(size int) persistence.Message {
		return persistence.Message{Kind: conversation.KindCommit, Epoch: 2, Ciphertext: make([]byte, size), CreatedAt: time.Now()}
	}
	for name, tt := range map[string]struct {
		page    persistence.CommitsPage
		err     error
		commits int
		more    bool
	}{
		"some of many":       {persistence.CommitsPage{Commits: []persistence.Message{commit(9), commit(9)}, More: true}, nil, 2, true},
		"the first too long": {persistence.CommitsPage{Commits: []persistence.Message{commit(conversation.MaxMissedBytes + 1)}}, nil, 0, true},
		"all":                {persistence.CommitsPage{Commits: []persistence.Message{commit(9)}}, nil, 1, false},
		"cannot be read":     {persistence.CommitsPage{}, errors.New("x"), 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked persistence.CommitsQuery
			e := newEnv(t, func(c *Config) {
				c.Delivery = refusing(behind)
				c.Store = fakeStore{Store: c.Store, commits: func(q persistence.CommitsQuery) (persistence.CommitsPage, error) {
					asked = q
					return tt.page, tt.err
				}}
			})
			a := e.send(alice, 1, "x").want(t, conversation.EpochMismatch)
			more, _ := a.body["more"].(bool)
			if len(a.list("commits")) != tt.commits || more != tt.more || a.num("currentEpoch") != behind.Current {
				t.Errorf("got %.300s", a.raw)
			}
			want := persistence.CommitsQuery{Convo: group, Caller: alice, From: 2, To: &behind.Current, Limit: 100, MaxBytes: 4 << 20}
			if !reflect.DeepEqual(asked, want) {
				t.Errorf("asked %+v, want %+v", asked, want)
			}
		})
	}
}

// TestOutcomes: a change whose outcome nobody knows is said to be that; a
// question is only to be asked again.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	lost := fmt.Errorf("commit: %w", persistence.ErrOutcomeUnknown)
	down := fmt.Errorf("connect: %w", persistence.ErrUnavailable)
	for _, tt := range []struct {
		err              error
		change, question conversation.Code
	}{
		{lost, conversation.OutcomeUnknown, conversation.Unavailable},
		{down, conversation.Unavailable, conversation.Unavailable},
		{context.DeadlineExceeded, conversation.OutcomeUnknown, conversation.Unavailable},
	} {
		e := newEnv(t, func(c *Config) {
			fail := func() error { return tt.err }
			c.Delivery = refusing(tt.err)
			c.Store = fakeStore{Store: c.Store, create: fail, publish: fail, reset: fail, messages: func(persistence.MessagesQuery) (persistence.MessagesPage, error) {
				return persistence.MessagesPage{Unread: true}, nil
			}}
		})
		e.send(alice, 0, "x").want(t, tt.change)
		e.post(alice, "createConvo", obj{"groupId": group, "cipherSuite": suite}).want(t, tt.change)
		e.post(alice, "publishKeyPackage", obj{"keyPackage": b64("k"), "cipherSuite": suite}).want(t, tt.change)
		e.get(alice, "getEpoch", "convoId", group).want(t, tt.question)
		e.get(alice, "getMessages", "convoId", group).want(t, tt.question) // marking as read failed
	}
}
