//go:build broken

package broken_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"catbird/actor"
	"catbird/cluster"
	"catbird/conversation"
	"catbird/delivery"
	"catbird/internal/history"
	"catbird/internal/memstore"
	"catbird/persistence"
	"catbird/persistence/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "did:plc:alice"
	bob   = "did:plc:bob"
)

var (
	actors   = delivery.Flags{ActorSystem: true, RolloutPercent: 100}
	noActors = delivery.Flags{RolloutPercent: 100}
	discard  = slog.New(slog.DiscardHandler)
)

// backing is a database with one conversation of alice and bob.
type backing struct {
	store
	convo string
	log   func(t testing.TB) []history.Row // all rows
}

func inMemory(testing.TB) backing {
	s := memstore.New()
	b := backing{store: s, convo: newConvo()}
	s.Seed(b.convo, alice, bob)
	b.log = func(testing.TB) []history.Row {
		var out []history.Row
		for _, r := range s.Log(b.convo) {
			out = append(out, history.Row{ID: r.ID, Kind: r.Kind, Sender: r.Sender, Epoch: r.Epoch, Seq: r.Seq, Payload: string(r.Ciphertext)})
		}
		return out
	}
	return b
}

// onPostgres returns what makes a conversation in the database at url.
func onPostgres(url string) func(testing.TB) backing {
	return func(t testing.TB) backing {
		s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Logger: discard, MaxConnections: 12})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := backing{store: s, convo: newConvo()}
		create(t, s, b.convo)
		b.log = func(t testing.TB) []history.Row {
			page, err := s.Messages(t.Context(), persistence.MessagesQuery{Convo: b.convo, Caller: alice, Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			var out []history.Row
			for _, r := range page.Messages {
				out = append(out, history.Row{ID: r.ID, Kind: r.Kind, Sender: r.Sender, Epoch: r.Epoch, Seq: r.Seq, Payload: string(r.Ciphertext)})
			}
			return out
		}
		return b
	}
}

func create(t testing.TB, s *postgres.Store, convo string) {
	t.Helper()
	r := &conversation.Request{ID: newID(), Convo: convo, Caller: alice}
	c := conversation.Creation{Creator: alice, Initial: []string{bob}, CipherSuite: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"}
	_, u, err := c.Create(conversation.Env{Now: time.Now().UTC().Truncate(time.Microsecond), Policy: conversation.DefaultPolicy()}, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Create(t.Context(), persistence.CreateRequest{Request: r, Creation: c, Unit: u}); err != nil {
		t.Fatal(err)
	}
}

func newConvo() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// world is some nodes on one database, that know nothing of each other, and what
// their clients see.
type world struct {
	t     testing.TB
	db    backing
	gate  *gate
	rec   *history.Recorder
	nodes []*node
}

func newWorld(t testing.TB, db backing) *world {
	w := &world{t: t, db: db, gate: &gate{store: db.store, next: map[string][]*fate{}}}
	var now atomic.Int64 // what comes before what is all that matters
	w.rec = history.NewRecorder(history.RecorderConfig{Clock: func() time.Duration { return time.Duration(now.Add(1)) }})
	w.rec.Start(history.Convo{ID: db.convo, Creator: alice, Members: []string{alice, bob}})
	return w
}

// node is one server.
type node struct {
	w    *world
	name string
	svc  *delivery.Service
	reg  *actor.Registry

	life   atomic.Pointer[life]
	keeper *cluster.Keeper // nil: the test says when a life begins and lapses
}

// life is a session that lapses when the test says so.
type life struct {
	id     string
	lapsed atomic.Bool
}

func (l *life) ID() string             { return l.id }
func (l *life) Trusted(time.Time) bool { return !l.lapsed.Load() }

// Current is the node's session, see actor.Sessions.
func (n *node) Current() actor.Session {
	if n.keeper == nil {
		return n.life.Load()
	}
	if s := n.keeper.Current(); s != nil {
		return s
	}
	return nil
}

func (n *node) session() string {
	if s := n.Current(); s != nil {
		return s.ID()
	}
	return ""
}

// node starts a node whose sessions the test begins and ends.
func (w *world) node(name string, flags delivery.Flags) *node {
	n := &node{w: w, name: name}
	n.begin()
	n.build(flags)
	return n
}

func (n *node) build(flags delivery.Flags) {
	n.svc = delivery.New(delivery.Config{
		Store: n.w.gate, Policy: conversation.DefaultPolicy(), Flags: flags, Logger: discard, Session: n.session,
	})
	n.reg = actor.NewRegistry(actor.Config{Store: n.w.gate, Sessions: n, Logger: discard, Keep: n.svc.Keeps})
	n.svc.Use(n.reg)
	n.w.nodes = append(n.w.nodes, n)
}

// begin begins a session.
func (n *node) begin() {
	l := &life{id: newID()}
	if err := n.w.db.StartSession(n.w.t.Context(), persistence.Session{ID: l.id, Node: n.name, TTL: time.Minute}); err != nil {
		n.w.t.Fatal(err)
	}
	n.life.Store(l)
}

// end lets a node's session lapse and be ended, as others do once it stands
// still. The node itself does not know.
func (n *node) end() {
	l := n.life.Load()
	l.lapsed.Store(true)
	if err := n.w.db.EndSession(n.w.t.Context(), l.id); err != nil {
		n.w.t.Fatal(err)
	}
}

// stop stops all nodes, and waits until what was on its way has landed.
func (w *world) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, n := range w.nodes {
		if err := n.reg.Stop(ctx); err != nil {
			w.t.Errorf("stopping %s: %v", n.name, err)
		}
		if n.keeper != nil {
			if err := n.keeper.Stop(ctx); err != nil {
				w.t.Errorf("stopping %s: %v", n.name, err)
			}
		}
	}
	w.gate.running.Wait()
}

// epoch asks a node for the epoch.
func (n *node) epoch(caller string) {
	p := n.w.invoke(n, caller, history.GetEpoch, history.Input{})
	e, err := n.svc.Epoch(n.w.t.Context(), n.w.db.convo, caller)
	p.Return(output(conversation.Result{Epoch: e}, err))
	n.w.look()
}

// do makes a change, for as long as ctx lasts.
func (n *node) do(ctx context.Context, caller string, c conversation.Command) {
	kind, in := asked(c)
	p := n.w.invoke(n, caller, kind, in)
	res, err := n.svc.Do(ctx, &conversation.Request{ID: newID(), Convo: n.w.db.convo, Caller: caller, Command: c, Digest: conversation.DigestOf(c)})
	p.Return(output(res, err))
	n.w.look()
}

// start makes a change in the background, until it is answered or given up.
func (n *node) start(caller string, c conversation.Command) (giveUp func(), answered <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.do(ctx, caller, c)
	}()
	return func() { cancel(); <-done }, done
}

func (w *world) invoke(n *node, caller string, kind history.Kind, in history.Input) *history.Pending {
	return w.rec.Invoke(history.Op{Node: n.name, Convo: w.db.convo, Caller: caller, Kind: kind, Input: in})
}

func asked(c conversation.Command) (history.Kind, history.Input) {
	switch c := c.(type) {
	case conversation.Send:
		return history.SendMessage, history.Input{Epoch: &c.Epoch, Payload: string(c.Ciphertext)}
	case conversation.Commit:
		return history.Commit, history.Input{Payload: string(c.Commit)}
	case conversation.AddMembers:
		return history.AddMembers, history.Input{DIDs: c.DIDs, Payload: string(c.Commit)}
	case conversation.Leave:
		return history.LeaveConvo, history.Input{DIDs: []string{c.Target}, Payload: string(c.Commit)}
	}
	panic("no such command")
}

func output(res conversation.Result, err error) history.Output {
	var refusal *conversation.Error
	switch {
	case err == nil:
		return history.Output{Outcome: history.Succeeded, Epoch: res.Epoch, Seq: res.Seq}
	case errors.As(err, &refusal):
		return history.Refusal(refusal.Code, refusal.Current)
	}
	return history.Lost()
}

// look notes which nodes would answer from memory right now.
func (w *world) look() {
	for _, n := range w.nodes {
		before := w.rec.Now()
		page, _ := n.reg.List(1, "")
		after := w.rec.Now()
		for _, i := range page {
			if i.Trusted {
				w.rec.Serving(history.Tenure{Convo: i.Convo, Node: n.name, Fence: i.Fence, From: after, To: before})
			}
		}
	}
}

// verdict holds what clients saw to what is promised.
func (w *world) verdict() history.Report {
	rows := w.db.log(w.t)
	p := w.rec.Invoke(history.Op{Convo: w.db.convo, Kind: history.ReadLog, Node: "database"})
	p.Return(history.Output{Outcome: history.Succeeded, Seq: int64(len(rows)), Rows: rows})
	if err := w.rec.Close(); err != nil {
		w.t.Fatal(err)
	}
	r, err := history.Check(context.WithoutCancel(w.t.Context()), w.rec.History(), history.CheckConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}
