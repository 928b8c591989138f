package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"catbird/conversation"
	"catbird/internal/testenv"
	"catbird/persistence"
)

// session starts a session.
func session(t testing.TB, s *Store) string {
	t.Helper()
	ses := persistence.Session{ID: newID(), Node: "node", Address: "10.0.0.1:8081", TTL: 5 * time.Second}
	if err := s.StartSession(context.Background(), ses); err != nil {
		t.Fatalf("start a session: %v", err)
	}
	return ses.ID
}

// hold claims one conversation.
func hold(t testing.TB, s *Store, session, convo string) persistence.Claimed {
	t.Helper()
	got, err := s.Claim(context.Background(), session, []string{convo})
	if err != nil || got[0].Outcome != persistence.ClaimGranted {
		t.Fatalf("claim: %+v, %v", got, err)
	}
	return got[0]
}

// unitOf decides requests on what was claimed.
func unitOf(t testing.TB, c persistence.Claimed, requests ...*conversation.Request) *conversation.Unit {
	t.Helper()
	s := c.State
	u := conversation.NewUnit(c.Convo, s, c.Fence)
	for _, r := range requests {
		ch, next, err := conversation.Decide(envNow(), s, r)
		if err != nil {
			t.Fatalf("decide: %v", err)
		}
		u.Add(ch, next)
		s = next
	}
	return u
}

func text(s string) conversation.Send { return conversation.Send{Ciphertext: []byte(s)} }

// proxied returns a store that reaches its database through a network that can
// fail, with one conversation of alice's.
func proxied(t *testing.T, change ...func(*Config)) (*Store, *testenv.Proxy, *pgx.Conn) {
	t.Helper()
	url := testenv.Postgres(t)
	p, through := testenv.ProxyURL(t, url)
	s := prepare(t, through, change...)
	newConvo(t, s, "aa", "did:plc:alice", "did:plc:bob")
	return s, p, connect(t, url)
}

func TestAppendWithLostReplyIsOutcomeUnknown(t *testing.T) {
	s, proxy, _ := proxied(t)
	ses := session(t, s)
	c := hold(t, s, ses, "aa")
	u := unitOf(t, c, request("aa", "did:plc:alice", text("warm")))
	if _, err := s.Append(patience(t), []*conversation.Unit{u}); err != nil {
		t.Fatal(err)
	}
	c = hold(t, s, ses, "aa")
	r := request("aa", "did:plc:alice", text("lost"))
	proxy.LoseReply(r.ID)
	_, err := s.Append(patience(t), []*conversation.Unit{unitOf(t, c, r)})
	if !errors.Is(err, persistence.ErrOutcomeUnknown) || errors.Is(err, persistence.ErrUnavailable) {
		t.Fatalf("append: %v, want an unknown outcome", err)
	}
	// Claiming anew settles it: the id is there, or never will be.
	next := hold(t, s, ses, "aa")
	found, err := s.Lookup(patience(t), []string{"aa"}, []persistence.Ref{persistence.RefOf(r)})
	if err != nil || found[0] == nil || next.State.Seq != 2 {
		t.Fatalf("look up: %v, %v, seq %d", found, err, next.State.Seq)
	}
	out, err := s.Append(patience(t), []*conversation.Unit{unitOf(t, c, r)})
	if err != nil || out[0] != persistence.Conflict {
		t.Fatalf("the same append again: %v, %v, want a conflict", out, err)
	}
}

func TestDirectWithLostReplyIsOutcomeUnknown(t *testing.T) {
	s, proxy, _ := proxied(t)
	for i := range 3 { // statements are prepared by then
		change(t, s, "aa", "did:plc:alice", text(fmt.Sprint(i)))
	}
	// The first flight carries the id to look it up. Its lost reply is no harm:
	// nothing can have been stored.
	r := request("aa", "did:plc:alice", text("lost"))
	proxy.LoseReply(r.ID)
	_, err := s.Direct(patience(t), "", r, envNow())
	if !errors.Is(err, persistence.ErrUnavailable) || errors.Is(err, persistence.ErrOutcomeUnknown) {
		t.Fatalf("lost before the commit: %v, want unavailable", err)
	}
	change(t, s, "aa", "did:plc:alice", text("goes on"))
	// The second carries the ciphertext.
	r = request("aa", "did:plc:alice", text("needle in the second flight"))
	proxy.LoseReply("needle in the second flight")
	_, err = s.Direct(patience(t), "", r, envNow())
	if !errors.Is(err, persistence.ErrOutcomeUnknown) {
		t.Fatalf("lost at the commit: %v, want an unknown outcome", err)
	}
	r.Retry = true
	got, err := s.Direct(patience(t), "", r, envNow())
	if err != nil || got.ID != r.ID || got.Seq != 5 {
		t.Fatalf("again: %+v, %v, want the first answer", got, err)
	}
}

// A database that does not answer is told at once to all but one caller in a
// while, and found again by itself.
func TestOutageIsToldAtOnceAndEnds(t *testing.T) {
	s, proxy, _ := proxied(t, func(c *Config) { c.AcquireTimeout = 300 * time.Millisecond })
	ctx := patience(t)
	for name, weather := range map[string]func(){"Cut": proxy.Cut, "Stall": func() { proxy.Break(); proxy.Stall() }} {
		t.Run(name, func(t *testing.T) {
			weather()
			for range gateFailures + 1 {
				if _, err := s.Epoch(ctx, "aa", "did:plc:alice"); !errors.Is(err, persistence.ErrUnavailable) {
					t.Fatalf("epoch: %v, want unavailable", err)
				}
			}
			start := time.Now()
			quick := 0
			for range 1000 {
				if _, err := s.Direct(ctx, "", request("aa", "did:plc:alice", text("x")), envNow()); !errors.Is(err, persistence.ErrUnavailable) {
					t.Fatalf("direct: %v, want unavailable", err)
				}
				quick++
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("%d refusals took %v", quick, d)
			}
			proxy.Restore()
			for {
				err := s.Ping(ctx)
				if err == nil {
					break
				}
				if !errors.Is(err, persistence.ErrUnavailable) || ctx.Err() != nil {
					t.Fatalf("ping: %v", err)
				}
			}
			change(t, s, "aa", "did:plc:alice", text("back"))
		})
	}
}

// Connections that a restart of the server has closed are not used again, so
// that it costs no answer.
func TestRestartIsNotNoticed(t *testing.T) {
	server, err := testenv.StartPostgres()
	if err != nil {
		t.Fatalf("this test needs PostgreSQL: %v", err)
	}
	t.Cleanup(server.Close)
	s := prepare(t, server.URL())
	newConvo(t, s, "aa", "did:plc:alice")
	ses := session(t, s)
	for _, again := range []func() error{server.Restart, func() error { server.Kill(); return server.Start() }} {
		c := hold(t, s, ses, "aa")
		if err := again(); err != nil {
			t.Fatal(err)
		}
		out, err := s.Append(patience(t), []*conversation.Unit{unitOf(t, c, request("aa", "did:plc:alice", text("x")))})
		if err != nil || out[0] != persistence.Appended {
			t.Fatalf("append after a restart: %v, %v", out, err)
		}
		if _, err := s.Epoch(patience(t), "aa", "did:plc:alice"); err != nil {
			t.Fatalf("epoch after a restart: %v", err)
		}
		if err := s.RenewSession(patience(t), ses); err != nil {
			t.Fatalf("renew after a restart: %v", err)
		}
	}
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	c := persistence.Claimed{Convo: "aa", Fence: 9, State: conversation.State{Members: conversation.NewMembers("did:plc:alice")}}
	_, err = s.Append(ctx, []*conversation.Unit{unitOf(t, c, request("aa", "did:plc:alice", text("x")))})
	if !errors.Is(err, persistence.ErrOutcomeUnknown) {
		t.Errorf("append to a frozen server: %v, want an unknown outcome", err)
	}
	if err := server.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(patience(t)); err != nil {
		t.Errorf("ping of a thawed server: %v", err)
	}
}

// A session is renewed however many others wait for connections.
func TestSessionsHaveTheirOwnConnection(t *testing.T) {
	s, conn := fresh(t, func(c *Config) { c.MaxConnections, c.AcquireTimeout = minConnections, 200*time.Millisecond })
	newConvo(t, s, "aa", "did:plc:alice")
	ses := session(t, s)
	run(t, conn, "BEGIN")
	run(t, conn, "SELECT 1 FROM conversations WHERE id = 'aa' FOR UPDATE")
	ctx, cancel := context.WithCancel(patience(t))
	done := make(chan error, 8)
	for range cap(done) {
		go func() {
			_, err := s.Direct(ctx, "", request("aa", "did:plc:alice", text("x")), envNow())
			if _, aerr := s.Claim(ctx, ses, []string{"aa"}); aerr == nil {
				err = errors.New("a claim got through")
			}
			done <- err
		}()
	}
	for s.journal.p.Stat().AcquiredConns()+s.main.p.Stat().AcquiredConns() < minConnections-1 {
		if ctx.Err() != nil {
			t.Fatal("the pools never fill")
		}
	}
	if err := s.RenewSession(patience(t), ses); err != nil {
		t.Errorf("renew: %v", err)
	}
	if got, err := s.LiveSessions(patience(t)); err != nil || len(got) != 1 || got[0].Counter != 1 {
		t.Errorf("sessions: %+v, %v", got, err)
	}
	if _, err := s.Epoch(patience(t), "aa", "did:plc:alice"); !errors.Is(err, persistence.ErrUnavailable) {
		t.Errorf("a read without a connection: %v, want unavailable", err)
	}
	if got := s.Stats(); got.Waits == 0 || got.Active != minConnections-1 || got.Max != minConnections {
		t.Errorf("stats: %+v", got)
	}
	cancel()
	for range cap(done) {
		if err := <-done; err == nil {
			t.Error("a change got through")
		}
	}
	run(t, conn, "ROLLBACK")
	// A claim that was given up may still get the lock before its statement is broken off.
	if err := s.EndSession(patience(t), ses); err != nil {
		t.Fatal(err)
	}
	change(t, s, "aa", "did:plc:alice", text("the load did not close the gate"))
}

// A node that is frozen inside a direct change holds the lock for a second.
func TestFrozenTransactionLetsGo(t *testing.T) {
	s, _ := fresh(t)
	newConvo(t, s, "aa", "did:plc:alice")
	conn, err := s.main.acquire(patience(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if err := send(patience(t), conn.Conn(), func(b *pgx.Batch) { b.Queue("BEGIN"); b.Queue(lockSQL, []string{"aa"}) }); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	change(t, s, "aa", "did:plc:alice", text("x"))
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("the lock was held for %v", d)
	}
	err = send(patience(t), conn.Conn(), func(b *pgx.Batch) { b.Queue("COMMIT") })
	if err := translate("commit", changes, true, err); !errors.Is(err, persistence.ErrUnavailable) {
		t.Errorf("the frozen one: %v, want unavailable", err)
	}
}
