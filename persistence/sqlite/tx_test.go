package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"catbird/persistence"
)

func openForTest(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func startSession(c *conn, id string) error {
	_, err := c.exec(`INSERT INTO catbird_sessions (id, node, address, ttl_ms, started_at) VALUES (?1, 'n', '', 1, 0)`, id)
	return err
}

func sessions(t *testing.T, s *Store) int {
	t.Helper()
	all, err := s.LiveSessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// exhaust lets the database grow no further.
func exhaust(c *conn, limit bool) error {
	var pages int64
	if err := c.row("PRAGMA page_count").scan(&pages); err != nil {
		return err
	}
	if !limit {
		pages = 1 << 30
	}
	return c.sc.QueryRowContext(background, fmt.Sprintf("PRAGMA max_page_count = %d", pages)).Scan(&pages)
}

func TestFullDiskIsUnavailableAndStoresNothing(t *testing.T) {
	t.Parallel()
	s := openForTest(t)
	limit := func(on bool) {
		c, err := s.writers.take(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		defer s.writers.give(c)
		if err := exhaust(c, on); err != nil {
			t.Fatal(err)
		}
	}
	large := persistence.Session{ID: "large", Node: strings.Repeat("x", 1<<20)}
	limit(true)
	if err := s.StartSession(t.Context(), large); !errors.Is(err, persistence.ErrUnavailable) {
		t.Fatalf("on a full disk: got error %v, want unavailable", err)
	}
	if n := sessions(t, s); n != 0 {
		t.Fatalf("%d sessions, want 0", n)
	}
	limit(false)
	if err := s.StartSession(t.Context(), large); err != nil {
		t.Fatalf("with space again: %v", err)
	}
}

// A commit that fails may have reached the disk: the caller is told that
// nobody knows, and the next transaction begins afresh.
func TestFailedCommitIsOutcomeUnknown(t *testing.T) {
	t.Parallel()
	s := openForTest(t)
	err := s.write(t.Context(), "break", func(c *conn) error {
		if _, err := c.exec("PRAGMA defer_foreign_keys = 1"); err != nil {
			return err
		}
		if err := startSession(c, "lost"); err != nil {
			return err
		}
		_, err := c.exec(`INSERT INTO members (convo_id, member_did, user_did, joined_at) VALUES ('nowhere', 'm', 'm', 0)`)
		return err
	})
	if !errors.Is(err, persistence.ErrOutcomeUnknown) || errors.Is(err, persistence.ErrUnavailable) {
		t.Fatalf("got error %v, want outcome unknown", err)
	}
	if err := s.StartSession(t.Context(), persistence.Session{ID: "next"}); err != nil {
		t.Fatalf("the next transaction: %v", err)
	}
	if n := sessions(t, s); n != 1 {
		t.Fatalf("%d sessions, want 1", n)
	}
}

func TestPanicRollsBack(t *testing.T) {
	t.Parallel()
	s := openForTest(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Fatal("the panic was swallowed")
			}
		}()
		_ = s.write(t.Context(), "panic", func(c *conn) error {
			if err := startSession(c, "lost"); err != nil {
				t.Error(err)
			}
			panic("in a transaction")
		})
	}()
	if n := sessions(t, s); n != 0 {
		t.Fatalf("%d sessions, want 0", n)
	}
	if err := s.StartSession(t.Context(), persistence.Session{ID: "next"}); err != nil {
		t.Fatalf("the next transaction: %v", err)
	}
}

// Who gives up in the midst of a transaction gets nothing stored.
func TestCanceledBeforeCommitStoresNothing(t *testing.T) {
	t.Parallel()
	s := openForTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.write(ctx, "cancel", func(c *conn) error {
		defer cancel()
		return startSession(c, "lost")
	})
	if !errors.Is(err, persistence.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got error %v, want unavailable for a canceled context", err)
	}
	if n := sessions(t, s); n != 0 {
		t.Fatalf("%d sessions, want 0", n)
	}
}

func TestReadersCannotWrite(t *testing.T) {
	t.Parallel()
	s := openForTest(t)
	err := s.query(t.Context(), "write", func(c *conn) error { return startSession(c, "x") })
	if !errors.Is(err, persistence.ErrUnavailable) {
		t.Fatalf("got error %v, want a refusal", err)
	}
}

// Renewals go before writes that have waited longer.
func TestRenewalsGoFirst(t *testing.T) {
	t.Parallel()
	s := openForTest(t)
	if err := s.StartSession(t.Context(), persistence.Session{ID: "mine"}); err != nil {
		t.Fatal(err)
	}
	held, err := s.writers.take(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	order := make(chan string, 2)
	go func() {
		if err := s.Want(t.Context(), "mine", "c"); err != nil {
			t.Error(err)
		}
		order <- "write"
	}()
	waiting(t, s.writers, 1)
	go func() {
		if err := s.RenewSession(t.Context(), "mine"); err != nil {
			t.Error(err)
		}
		order <- "renewal"
	}()
	waiting(t, s.writers, 2)
	s.writers.give(held)
	if first := <-order; first != "renewal" {
		t.Errorf("the %s went first", first)
	}
	<-order
}

// waiting waits until so many have asked in vain.
func waiting(t *testing.T, p *pool, n int64) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for ; p.stats().Waits < n; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want %d", p.stats().Waits, n)
		}
	}
}
