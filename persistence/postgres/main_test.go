package postgres

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"catbird/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// discard keeps the logs of failures that a test provokes out of its output.
var discard = slog.New(slog.DiscardHandler)

// patience bounds a test's steps.
func patience(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// openAt opens a store on url without preparing it.
func openAt(t testing.TB, url string, change ...func(*Config)) *Store {
	t.Helper()
	cfg := Config{URL: url, Logger: discard, MaxConnections: 12}
	for _, c := range change {
		c(&cfg)
	}
	s, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// prepare opens a store on url and prepares it.
func prepare(t testing.TB, url string, change ...func(*Config)) *Store {
	t.Helper()
	s := openAt(t, url, change...)
	if err := s.Prepare(patience(t)); err != nil {
		t.Fatalf("prepare: %v", err)
	}
	return s
}

// connect returns a plain connection to url: the old server, or an operator.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(patience(t), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// run runs statements one after another.
func run(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(patience(t), sql, args...); err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
}

// value returns the one value that a query has.
func value[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(patience(t), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%.200s: %v", sql, err)
	}
	return v
}

// fresh returns a prepared store on an empty database, and a plain connection.
func fresh(t testing.TB, change ...func(*Config)) (*Store, *pgx.Conn) {
	t.Helper()
	url := testenv.Postgres(t)
	return prepare(t, url, change...), connect(t, url)
}

// explain returns the plan that a connection keeps for a statement.
func explain(t testing.TB, conn *pgx.Conn, sql string, args int) string {
	t.Helper()
	nulls := strings.TrimSuffix(strings.Repeat("NULL,", args), ",")
	results, err := conn.PgConn().Exec(patience(t), "PREPARE explained AS "+sql+"; EXPLAIN EXECUTE explained("+nulls+"); DEALLOCATE explained").ReadAll()
	if err != nil {
		t.Fatalf("explain %.60s: %v", sql, err)
	}
	var plan strings.Builder
	for _, r := range results {
		for _, row := range r.Rows {
			plan.Write(row[0])
			plan.WriteByte('\n')
		}
	}
	return plan.String()
}
