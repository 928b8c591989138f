package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"catbird/actor"
	"catbird/cluster"
	"catbird/conversation"
	"catbird/delivery"
	"catbird/internal/memstore"
	"catbird/peer"
	"catbird/persistence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "did:plc:alice"
	bob   = "did:plc:bob"
	carol = "did:plc:carol"
	convo = "c0ffee"
	ttl   = 5 * time.Second
)

var (
	on  = delivery.Flags{ActorSystem: true, RolloutPercent: 100}
	off = delivery.Flags{RolloutPercent: 100}
)

// world is some nodes over one database.
type world struct {
	t     testing.TB
	store *memstore.Store
	nodes map[string]*node

	mu sync.Mutex
	// owner is which node the ring names; "" for none. What one node's own ring
	// says otherwise is under "node>convo".
	owner map[string]string
	// links are what becomes of questions, by "from>to".
	links map[string]link
	wg    sync.WaitGroup
}

// link is a way from one node to another.
type link uint8

const (
	up       link = iota
	down          // the question certainly does not arrive
	lost          // neither question nor answer arrives, and nobody can tell
	deafened      // the question arrives, the answer does not
	busy
)

// node is one server: keeper, actors and delivery.
type node struct {
	w       *world
	name    string
	svc     *delivery.Service
	reg     *actor.Registry
	keeper  *cluster.Keeper
	logs    *logBuffer
	leaving atomic.Bool
}

// newWorld returns a world with one conversation of alice and bob.
func newWorld(t testing.TB) *world {
	w := &world{t: t, store: memstore.New(), nodes: map[string]*node{}, owner: map[string]string{}, links: map[string]link{}}
	w.store.Seed(convo, alice, bob)
	t.Cleanup(func() {
		w.wg.Wait()
		w.store.Wait()
		if err := w.store.Check(convo); err != nil {
			t.Error(err)
		}
	})
	return w
}

// setup is how a node differs from the usual: actors on, one network.
type setup struct {
	flags     delivery.Flags
	noNetwork bool // knows of no other node
	actors    func(*actor.Config)
	service   func(*delivery.Config)
	quiet     bool
}

// node starts a node.
func (w *world) node(name string, s setup) *node {
	w.t.Helper()
	n := &node{w: w, name: name, logs: &logBuffer{}}
	logger := slog.New(slog.NewTextHandler(n.logs, nil))
	if s.quiet {
		logger = slog.New(slog.DiscardHandler)
	}
	n.keeper = cluster.NewKeeper(cluster.KeeperConfig{Store: w.store, Node: name, Address: name, TTL: ttl, Logger: logger})
	cfg := delivery.Config{
		Store: w.store, Policy: conversation.DefaultPolicy(), Flags: s.flags, Logger: logger, Renewed: n.keeper.RenewedSince,
		Trusted: func() bool {
			s := n.keeper.Current()
			return s != nil && s.Trusted(time.Now())
		},
		Session: func() string {
			if s := n.keeper.Current(); s != nil {
				return s.ID()
			}
			return ""
		},
	}
	if !s.noNetwork {
		cfg.Cluster, cfg.Peers = n, n
	}
	if s.service != nil {
		s.service(&cfg)
	}
	n.svc = delivery.New(cfg)
	acfg := actor.Config{Store: w.store, Sessions: sessions{n.keeper}, Logger: logger, Keep: n.svc.Keeps}
	if s.actors != nil {
		s.actors(&acfg)
	}
	n.reg = actor.NewRegistry(acfg)
	n.svc.Use(n.reg)
	n.keeper.OnWanted(n.svc.Let)
	if err := n.keeper.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(n.stop)
	if err := n.keeper.Established(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[name] = n
	return n
}

func (n *node) stop() {
	n.w.store.SetFaults(nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.reg.Stop(ctx); err != nil {
		n.w.t.Errorf("stopping actors of %s: %v", n.name, err)
	}
	if err := n.keeper.Stop(ctx); err != nil {
		n.w.t.Errorf("stopping keeper of %s: %v", n.name, err)
	}
}

// sessions gives actors the keeper's session.
type sessions struct{ k *cluster.Keeper }

func (s sessions) Current() actor.Session {
	if one := s.k.Current(); one != nil {
		return one
	}
	return nil
}

func (w *world) setOwner(convo, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owner[convo] = name
}

func (w *world) link(from, to string, l link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links[from+">"+to] = l
}

// Owner is what the ring says, see delivery.Cluster.
func (n *node) Owner(convo string) (persistence.Holder, bool, bool) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	owner, differs := n.w.owner[n.name+">"+convo]
	if !differs {
		owner = n.w.owner[convo]
	}
	switch owner {
	case "":
		return persistence.Holder{}, true, true
	case nobody:
		return persistence.Holder{}, false, false
	}
	return persistence.Holder{Node: owner, Address: owner}, owner == n.name, true
}

// nobody is an owner that serves by no actor.
const nobody = "nobody"

// Leaving says whether the node leaves.
func (n *node) Leaving() bool { return n.leaving.Load() }

// Deny does nothing: there are no leases here.
func (n *node) Deny(string, string) {}

// Ask asks another node over the world's links.
func (n *node) Ask(ctx context.Context, address string, q peer.Question) (peer.Answer, error) {
	n.w.mu.Lock()
	l, target := n.w.links[n.name+">"+address], n.w.nodes[address]
	n.w.mu.Unlock()
	switch {
	case target == nil || l == down:
		return peer.Answer{}, peer.ErrUnreachable
	case l == busy:
		return peer.Answer{}, peer.ErrBusy
	case l == lost:
		return peer.Answer{}, peer.ErrLost
	}
	if q.Change != nil {
		r := *q.Change
		q.Change = &r
	}
	answer := make(chan peer.Answer, 1)
	n.w.wg.Go(func() { answer <- target.svc.Serve(wire{ctx}, q) })
	select {
	case a := <-answer:
		if l == deafened {
			return peer.Answer{}, peer.ErrLost
		}
		return a, nil
	case <-ctx.Done():
		return peer.Answer{}, errors.Join(peer.ErrLost, ctx.Err())
	}
}

// wire is what of a context crosses the network: its end.
type wire struct{ context.Context }

func (wire) Value(any) any { return nil }

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func request(convo, caller string, c conversation.Command) *conversation.Request {
	return &conversation.Request{ID: newID(), Convo: convo, Caller: caller, Command: c, Digest: conversation.DigestOf(c)}
}

func send(epoch int64) conversation.Send {
	return conversation.Send{Epoch: epoch, Ciphertext: []byte("text")}
}

func add(did string) conversation.AddMembers { return conversation.AddMembers{DIDs: []string{did}} }

func commit() conversation.Commit { return conversation.Commit{Commit: []byte("opaque")} }

// do makes a change that must succeed within ten seconds.
func (n *node) do(r *conversation.Request) conversation.Result {
	n.w.t.Helper()
	res, err := n.try(r)
	if err != nil {
		n.w.t.Fatalf("%s on %s: %v", r.Command.Op(), n.name, err)
	}
	n.w.once(r)
	return res
}

func (n *node) try(r *conversation.Request) (conversation.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return n.svc.Do(ctx, r)
}

// once demands that a change is stored exactly once.
func (w *world) once(r *conversation.Request) {
	w.t.Helper()
	if c := w.store.Count(r.Convo, r.ID); c != 1 {
		w.t.Errorf("%s was stored %d times", r.Command.Op(), c)
	}
}

func (w *world) never(r *conversation.Request) {
	w.t.Helper()
	if c := w.store.Count(r.Convo, r.ID); c != 0 {
		w.t.Errorf("%s was stored %d times", r.Command.Op(), c)
	}
}

// holder returns the name of the node whose claim the database names.
func (w *world) holder(convo string) string {
	session, _ := w.store.Holder(convo)
	for name, n := range w.nodes {
		if s := n.keeper.Current(); s != nil && s.ID() == session {
			return name
		}
	}
	return session
}

func refused(t testing.TB, err error, code conversation.Code) {
	t.Helper()
	if conversation.CodeOf(err) != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

// pass lets time pass, and what is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// kill lets a node's renewals and its network fail, as if it had died.
func (w *world) kill(n *node) {
	session := n.keeper.Current().ID()
	w.store.SetFaults(func(c memstore.Call) memstore.Fault {
		if c.Session == session && c.Op != memstore.EndStalled && c.Op != memstore.Want { // those come from others
			return memstore.Fault{Fate: memstore.RequestLost}
		}
		return memstore.Fault{}
	})
	for name := range w.nodes {
		w.link(name, n.name, down)
	}
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func convoID(n int) string { return fmt.Sprintf("%032x", n*0x9E3779B9) }
