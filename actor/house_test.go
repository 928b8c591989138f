package actor

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

	"catbird/conversation"
	"catbird/internal/memstore"
	"catbird/persistence"
)

const (
	alice = "did:plc:alice"
	bob   = "did:plc:bob"
	carol = "did:plc:carol"
	convo = "c0ffee"
)

// fakeSession is trusted until told otherwise.
type fakeSession struct {
	id      string
	lapsed  atomic.Bool
	panicky atomic.Bool
}

func (s *fakeSession) ID() string { return s.id }

func (s *fakeSession) Trusted(time.Time) bool {
	if s.panicky.Load() {
		panic("the session panics")
	}
	return !s.lapsed.Load()
}

type fakeSessions struct{ p atomic.Pointer[fakeSession] }

func (s *fakeSessions) Current() Session {
	if one := s.p.Load(); one != nil {
		return one
	}
	return nil
}

// house is a registry over a store, as one node has it.
type house struct {
	t        testing.TB
	store    *memstore.Store
	sessions fakeSessions
	reg      *Registry
	logs     *logBuffer
}

// newHouse returns a registry with a session and a conversation of alice and
// bob. It is stopped in the end, and everything is held to its invariants.
func newHouse(t testing.TB, change func(*Config)) *house {
	t.Helper()
	h := newHouseOn(t, memstore.New(), change)
	h.store.Seed(convo, alice, bob)
	t.Cleanup(func() {
		h.store.Wait()
		if err := h.store.Check(convo); err != nil {
			t.Error(err)
		}
	})
	return h
}

func newHouseOn(t testing.TB, store *memstore.Store, change func(*Config)) *house {
	t.Helper()
	h := &house{t: t, store: store, logs: &logBuffer{}}
	h.newSession()
	cfg := Config{
		Store: h.store, Sessions: &h.sessions,
		Logger: slog.New(slog.NewTextHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&cfg)
	}
	h.reg = NewRegistry(cfg)
	t.Cleanup(func() {
		h.store.SetFaults(nil)
		h.stop()
		h.store.Wait()
	})
	return h
}

func (h *house) stop() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.reg.Stop(ctx); err != nil {
		h.t.Errorf("stopping: %v", err)
	}
}

// newSession begins a session, as the keeper does after the last one was lost.
func (h *house) newSession() *fakeSession {
	h.t.Helper()
	s := &fakeSession{id: uuid.NewString()}
	err := h.store.StartSession(context.Background(), persistence.Session{ID: s.id, Node: "here", TTL: 5 * time.Second})
	if err != nil {
		h.t.Fatal(err)
	}
	h.sessions.p.Store(s)
	return s
}

// elsewhere claims a conversation for another node.
func (h *house) elsewhere(convo string) (session string, c persistence.Claimed) {
	h.t.Helper()
	session = uuid.NewString()
	err := h.store.StartSession(context.Background(), persistence.Session{ID: session, Node: "there", TTL: 5 * time.Second})
	if err != nil {
		h.t.Fatal(err)
	}
	got, err := h.store.Claim(context.Background(), session, []string{convo})
	if err != nil {
		h.t.Fatal(err)
	}
	return session, got[0]
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func request(convo, caller string, c conversation.Command) *conversation.Request {
	return &conversation.Request{ID: newID(), Convo: convo, Caller: caller, Command: c, Digest: conversation.DigestOf(c)}
}

func keyed(convo, caller, key string, c conversation.Command) *conversation.Request {
	r := request(convo, caller, c)
	r.Key = key
	return r
}

func send(epoch int64, text string) conversation.Send {
	return conversation.Send{Epoch: epoch, Ciphertext: []byte(text)}
}

func add(dids ...string) conversation.AddMembers { return conversation.AddMembers{DIDs: dids} }

func commit() conversation.Commit { return conversation.Commit{Commit: []byte("opaque")} }

// do makes a change that must succeed.
func (h *house) do(r *conversation.Request) conversation.Result {
	h.t.Helper()
	res, err := h.reg.Do(context.Background(), r)
	if err != nil {
		h.t.Fatalf("%s: %v", r.Command.Op(), err)
	}
	return res
}

// call is a request that runs beside the test.
type call struct {
	req  *conversation.Request
	res  conversation.Result
	err  error
	done atomic.Bool
	wait chan struct{}
}

// start begins requests one after another, so that they wait in this order. It
// is for synctest bubbles.
func (h *house) start(rs ...*conversation.Request) []*call {
	return h.startWith(context.Background(), rs...)
}

func (h *house) startWith(ctx context.Context, rs ...*conversation.Request) []*call {
	calls := make([]*call, len(rs))
	for i, r := range rs {
		c := &call{req: r, wait: make(chan struct{})}
		calls[i] = c
		go func() {
			c.res, c.err = h.reg.Do(ctx, r)
			c.done.Store(true)
			close(c.wait)
		}()
		synctest.Wait()
	}
	return calls
}

// sends are n messages of alice's at an epoch.
func sends(n int, epoch int64) []*conversation.Request {
	out := make([]*conversation.Request, n)
	for i := range out {
		out[i] = request(convo, alice, send(epoch, fmt.Sprint("message ", i)))
	}
	return out
}

// all waits for calls, which must succeed.
func (h *house) all(calls []*call) {
	h.t.Helper()
	for i, c := range calls {
		<-c.wait
		if c.err != nil {
			h.t.Errorf("request %d, %s: %v", i, c.req.Command.Op(), c.err)
		}
	}
}

// once demands that the changes of calls are stored exactly once each.
func (h *house) once(calls []*call) {
	h.t.Helper()
	for i, c := range calls {
		if n := h.store.Count(c.req.Convo, c.req.ID); n != 1 {
			h.t.Errorf("request %d, %s: stored %d times", i, c.req.Command.Op(), n)
		}
	}
}

func (h *house) never(calls []*call) {
	h.t.Helper()
	for i, c := range calls {
		if n := h.store.Count(c.req.Convo, c.req.ID); n != 0 {
			h.t.Errorf("request %d, %s: stored %d times", i, c.req.Command.Op(), n)
		}
	}
}

func env() conversation.Env {
	return conversation.Env{Now: time.Now().UTC(), Policy: conversation.DefaultPolicy()}
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

// held holds up the next append until the returned function is called.
func (h *house) held() (release func()) {
	hold := make(chan struct{})
	h.store.Fail(memstore.Append, memstore.Fault{Hold: hold})
	return func() { close(hold) }
}

// epoch reads alice's view of the epoch from memory, -1 where memory cannot tell.
func (h *house) epoch() int64 {
	e, member, ok := h.reg.Epoch(convo, alice)
	if !ok {
		return -1
	}
	if !member {
		h.t.Error("alice is no member")
	}
	return e
}

// claimed reports whether the database says that this house's session has the
// conversation.
func (h *house) claimed(convo string) bool {
	session, _ := h.store.Holder(convo)
	return session == h.sessions.p.Load().id
}

var errTest = errors.New("a fault of the test's own")

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
