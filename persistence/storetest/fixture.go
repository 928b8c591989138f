package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"github.com/google/uuid"

	"catbird/conversation"
	"catbird/persistence"
)

// tb is what the fixture needs of a test, one of package rapid included.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// fixture is one test's view of a store: DIDs and conversations of its own, and
// the few steps that most tests consist of. A step that fails ends the test.
type fixture struct {
	Harness
	t   tb
	ctx context.Context
	tag string
}

// patience bounds every single test; none needs more than a fraction of it.
const patience = time.Minute

func newFixture(t interface {
	tb
	Cleanup(func())
}, h Harness,
) *fixture {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return &fixture{Harness: h, t: t, ctx: ctx, tag: randomHex(5)}
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// with returns the fixture failing through t: for a subtest or a goroutine.
func (f *fixture) with(t tb) *fixture {
	c := *f
	c.t = t
	return &c
}

// did returns a DID that belongs to this test alone.
func (f *fixture) did(name string) string { return "did:plc:" + f.tag + name }

func newConvoID() string { return randomHex(16) }

func newID() string {
	id, err := uuid.NewV7()
	if err != nil {
		panic("storetest: no randomness: " + err.Error())
	}
	return id.String()
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func envAt(at time.Time) conversation.Env {
	return conversation.Env{Now: at.UTC().Truncate(time.Microsecond), Policy: conversation.DefaultPolicy()}
}

func env() conversation.Env { return envAt(now()) }

// expired is an environment whose messages have expired an hour ago.
func expired() conversation.Env {
	e := envAt(now().Add(-2 * time.Hour))
	e.Policy.Retention = time.Hour
	return e
}

func ptr[T any](v T) *T { return &v }

// ok ends the test on an error.
func (f *fixture) ok(err error, doing string) {
	f.t.Helper()
	if err != nil {
		f.t.Fatalf("%s: %v", doing, err)
	}
}

// refused demands a coded refusal.
func (f *fixture) refused(err error, code conversation.Code, doing string) {
	f.t.Helper()
	if conversation.CodeOf(err) != code {
		f.t.Fatalf("%s: got error %v, want %s", doing, err, code)
	}
}

func (f *fixture) is(err, target error, doing string) {
	f.t.Helper()
	if !errors.Is(err, target) {
		f.t.Fatalf("%s: got error %v, want %v", doing, err, target)
	}
}

func equal[T comparable](f *fixture, got, want T, what string) {
	f.t.Helper()
	if got != want {
		f.t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func (f *fixture) sameBytes(got, want []byte, what string) {
	f.t.Helper()
	if !bytes.Equal(got, want) {
		f.t.Fatalf("%s: got %d bytes %.20x, want %d bytes %.20x", what, len(got), got, len(want), want)
	}
}

func (f *fixture) sameTime(got, want time.Time, what string) {
	f.t.Helper()
	if !got.Equal(want) {
		f.t.Fatalf("%s: got %s, want %s", what, got, want)
	}
}

// creation returns the request that makes a conversation of c. Its answer is
// made up: a store keeps it without looking inside.
func (f *fixture) creation(convo string, c conversation.Creation, e conversation.Env) persistence.CreateRequest {
	f.t.Helper()
	if c.CipherSuite == "" {
		c.CipherSuite = cipherSuite
	}
	r := &conversation.Request{ID: newID(), Convo: convo, Caller: c.Creator, Digest: []byte("digest of " + convo)}
	return f.creationOf(r, c, e)
}

func (f *fixture) creationOf(r *conversation.Request, c conversation.Creation, e conversation.Env) persistence.CreateRequest {
	f.t.Helper()
	_, u, err := c.Create(e, r)
	f.ok(err, "decide on a creation")
	return persistence.CreateRequest{Request: r, Creation: c, Unit: u, Response: []byte("answer " + r.ID)}
}

const cipherSuite = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"

// convo creates a conversation at epoch 0.
func (f *fixture) convo(creator string, initial ...string) string {
	f.t.Helper()
	return f.convoAt(now(), creator, initial...)
}

func (f *fixture) convoAt(at time.Time, creator string, initial ...string) string {
	f.t.Helper()
	id := newConvoID()
	_, repeated, err := f.Store.Create(f.ctx, f.creation(id, conversation.Creation{Creator: creator, Initial: initial}, envAt(at)))
	f.ok(err, "create a conversation")
	equal(f, repeated, false, "creating for the first time: repeated")
	return id
}

func (f *fixture) request(convo, caller string, c conversation.Command) *conversation.Request {
	return &conversation.Request{ID: newID(), Convo: convo, Caller: caller, Command: c, Digest: conversation.DigestOf(c)}
}

func (f *fixture) keyed(convo, caller, key string, c conversation.Command) *conversation.Request {
	r := f.request(convo, caller, c)
	r.Key = key
	return r
}

// direct changes a conversation on the direct path.
func (f *fixture) direct(convo, caller string, c conversation.Command) conversation.Result {
	f.t.Helper()
	return f.directAt(env(), convo, caller, c)
}

func (f *fixture) directAt(e conversation.Env, convo, caller string, c conversation.Command) conversation.Result {
	f.t.Helper()
	res, err := f.Store.Direct(f.ctx, "", f.request(convo, caller, c), e)
	f.ok(err, "direct "+string(c.Op()))
	return res
}

func (f *fixture) tryDirect(convo, caller string, c conversation.Command) error {
	_, err := f.Store.Direct(f.ctx, "", f.request(convo, caller, c), env())
	return err
}

// send is a small message at epoch.
func send(epoch int64, text string) conversation.Send {
	return conversation.Send{Epoch: epoch, Ciphertext: []byte(text)}
}

func add(dids ...string) conversation.AddMembers { return conversation.AddMembers{DIDs: dids} }

// session starts a session.
func (f *fixture) session() persistence.Session {
	f.t.Helper()
	id := newID()
	s := persistence.Session{ID: id, Node: "node-" + id, Address: "10.0.0.1:8081", TTL: 5 * time.Second}
	f.ok(f.Store.StartSession(f.ctx, s), "start a session")
	return s
}

// hold is a conversation that a session has claimed: the least of an actor.
type hold struct {
	f       *fixture
	convo   string
	session string
	state   conversation.State
	fence   int64
}

// claimOne claims one conversation.
func (f *fixture) claimOne(session, convo string) persistence.Claimed {
	f.t.Helper()
	got, err := f.Store.Claim(f.ctx, session, []string{convo})
	f.ok(err, "claim")
	equal(f, len(got), 1, "answers to a claim")
	equal(f, got[0].Convo, convo, "claimed conversation")
	return got[0]
}

// hold claims a conversation that nobody else holds.
func (f *fixture) hold(session, convo string) *hold {
	f.t.Helper()
	c := f.claimOne(session, convo)
	equal(f, c.Outcome, persistence.ClaimGranted, "outcome of the claim")
	return &hold{f: f, convo: convo, session: session, state: c.State, fence: c.Fence}
}

// held returns a new conversation claimed by a new session.
func (f *fixture) held(creator string, initial ...string) *hold {
	f.t.Helper()
	convo := f.convo(creator, initial...)
	return f.hold(f.session().ID, convo)
}

// unit decides requests one after another on what h knows and returns the unit
// with the state after it.
func (h *hold) unit(e conversation.Env, requests ...*conversation.Request) (*conversation.Unit, conversation.State) {
	h.f.t.Helper()
	s := h.state
	u := conversation.NewUnit(h.convo, s, h.fence)
	for _, r := range requests {
		ch, next, err := conversation.Decide(e, s, r)
		h.f.ok(err, "decide "+string(r.Command.Op()))
		u.Add(ch, next)
		s = next
	}
	return u, s
}

// append stores requests as one unit.
func (h *hold) append(requests ...*conversation.Request) *conversation.Unit {
	h.f.t.Helper()
	return h.appendAt(env(), requests...)
}

func (h *hold) appendAt(e conversation.Env, requests ...*conversation.Request) *conversation.Unit {
	h.f.t.Helper()
	u, next := h.unit(e, requests...)
	equal(h.f, h.f.appendOne(u), persistence.Appended, "outcome of the append")
	h.state = next
	return u
}

// do stores one command as one unit.
func (h *hold) do(caller string, c conversation.Command) conversation.Result {
	h.f.t.Helper()
	return resultOf(h.append(h.f.request(h.convo, caller, c)))
}

// resultOf is what the only change of a unit led to.
func resultOf(u *conversation.Unit) conversation.Result {
	return conversation.Result{ID: u.IDs[0], Epoch: u.Epoch, Seq: u.Seq, At: u.At}
}

func (f *fixture) appendOne(u *conversation.Unit) persistence.AppendOutcome {
	f.t.Helper()
	got, err := f.Store.Append(f.ctx, []*conversation.Unit{u})
	f.ok(err, "append")
	equal(f, len(got), 1, "outcomes of an append")
	return got[0]
}

func (f *fixture) messages(q persistence.MessagesQuery) persistence.MessagesPage {
	f.t.Helper()
	if q.Limit == 0 {
		q.Limit = conversation.MaxPage
	}
	p, err := f.Store.Messages(f.ctx, q)
	f.ok(err, "read messages")
	return p
}

// log returns the whole log as caller may see it.
func (f *fixture) log(convo, caller string) persistence.MessagesPage {
	f.t.Helper()
	return f.messages(persistence.MessagesQuery{Convo: convo, Caller: caller, SinceSeq: ptr[int64](0)})
}

func seqs(messages []persistence.Message) []int64 {
	out := make([]int64, 0, len(messages))
	for _, m := range messages {
		out = append(out, m.Seq)
	}
	return out
}

// upTo returns from, ..., to.
func upTo(from, to int64) []int64 {
	out := []int64{}
	for i := from; i <= to; i++ {
		out = append(out, i)
	}
	return out
}

func (f *fixture) unread(convo, did string) int64 {
	f.t.Helper()
	v, err := f.Store.Convo(f.ctx, convo, did)
	f.ok(err, "read a conversation")
	return v.Unread
}
