package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"catbird/conversation"
	"catbird/persistence"
)

func TestTranslate(t *testing.T) {
	pg := func(code string) error { return fmt.Errorf("sent: %w", &pgconn.PgError{Code: code, Severity: "ERROR"}) }
	refusal := conversation.Refuse(conversation.NotMember, "no")
	fault := errors.New("fault")
	for name, c := range map[string]struct {
		err           error
		lost          bool
		read, changed error // what it becomes; fault: neither of the two known
	}{
		"a refusal":                    {refusal, false, refusal, refusal},
		"a holder":                     {&persistence.HeldError{}, false, &persistence.HeldError{}, &persistence.HeldError{}},
		"an over session":              {persistence.ErrSessionOver, false, persistence.ErrSessionOver, persistence.ErrSessionOver},
		"a syntax error":               {pg("42601"), false, fault, fault},
		"a broken rule":                {pg("23505"), false, fault, fault},
		"a lock that took too long":    {pg("55P03"), false, persistence.ErrUnavailable, persistence.ErrUnavailable},
		"a statement that did":         {pg("57014"), false, persistence.ErrUnavailable, persistence.ErrUnavailable},
		"a transaction that idled":     {pg("25P03"), true, persistence.ErrUnavailable, persistence.ErrUnavailable},
		"a deadlock, again and again":  {pg("40P01"), false, persistence.ErrUnavailable, persistence.ErrUnavailable},
		"a full disk":                  {pg("53100"), false, persistence.ErrUnavailable, persistence.ErrUnavailable},
		"a server that only reads now": {pg("25006"), false, persistence.ErrUnavailable, persistence.ErrUnavailable},
		"a server that goes down":      {pg("57P01"), true, persistence.ErrUnavailable, persistence.ErrOutcomeUnknown},
		"a server that has crashed":    {pg("57P02"), true, persistence.ErrUnavailable, persistence.ErrOutcomeUnknown},
		"a lost connection":            {net.ErrClosed, true, persistence.ErrUnavailable, persistence.ErrOutcomeUnknown},
		"a caller out of time":         {context.DeadlineExceeded, true, persistence.ErrUnavailable, persistence.ErrOutcomeUnknown},
		"an answer nobody understands": {fault, false, fault, persistence.ErrOutcomeUnknown},
	} {
		for e, want := range map[effect]error{reads: c.read, changes: c.changed} {
			got := translate("doing", e, c.lost, c.err)
			var held *persistence.HeldError
			ok := errors.Is(got, want)
			switch want {
			case fault:
				ok = !errors.Is(got, persistence.ErrUnavailable) && !errors.Is(got, persistence.ErrOutcomeUnknown)
			case persistence.ErrUnavailable:
				ok = ok && !errors.Is(got, persistence.ErrOutcomeUnknown)
			case persistence.ErrOutcomeUnknown:
				ok = ok && !errors.Is(got, persistence.ErrUnavailable)
			default:
				ok = ok || errors.As(got, &held)
			}
			if !ok {
				t.Errorf("%s, effect %d: got %v, want %v", name, e, got, want)
			}
		}
	}
	if translate("doing", changes, true, nil) != nil {
		t.Error("no error became one")
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		for range gateFailures {
			if err := g.enter(); err != nil {
				t.Fatalf("closed after fewer than %d failures: %v", gateFailures, err)
			}
			g.failed()
		}
		if err := g.enter(); !errors.Is(err, persistence.ErrUnavailable) {
			t.Fatalf("open after %d failures: %v", gateFailures, err)
		}
		time.Sleep(gatePause)
		synctest.Wait()
		if err := g.enter(); err != nil {
			t.Fatalf("nobody may try: %v", err)
		}
		if err := g.enter(); err == nil {
			t.Fatal("two may try at once")
		}
		g.passed()
		if err := g.enter(); err != nil {
			t.Fatalf("closed after a success: %v", err)
		}
		var none *gate
		none.failed()
		none.passed()
		if err := none.enter(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestQuiet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pair := func() (client, server net.Conn) {
		t.Helper()
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err = l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close(); server.Close() })
		return client, server
	}
	client, _ := pair()
	if !quiet(client) {
		t.Error("an idle connection is not quiet")
	}
	for name, farewell := range map[string]func(net.Conn){
		"closed": func(c net.Conn) { c.Close() },
		"spoke":  func(c net.Conn) { c.Write([]byte{1}) },
	} {
		client, server := pair()
		farewell(server)
		for deadline := time.Now().Add(10 * time.Second); quiet(client); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the connection is quiet", name)
			}
		}
	}
	client, _ = pair()
	client.Close()
	if quiet(client) {
		t.Error("a connection that we closed is quiet")
	}
}

// A text of SQL with a name that nobody fills in is found when it is built.
func TestFillDemandsEveryName(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	fill("SELECT {what}", "where", "x")
}
