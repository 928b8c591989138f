package testenv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres returns the URL of a database that is empty and that this test has
// to itself; it is dropped in the test's cleanup. Register cleanups that use the
// database after the call, so that they run before.
func Postgres(t testing.TB) string {
	t.Helper()
	return newDatabase(t, "")
}

// CopyPostgres returns the URL of a database that this test has to itself and
// that is a copy of the one at url, one of [Postgres] to which nobody is
// connected. It is the quick way to many databases with the same tables.
func CopyPostgres(t testing.TB, url string) string {
	t.Helper()
	return newDatabase(t, " TEMPLATE "+databaseOf(url))
}

func newDatabase(t testing.TB, options string) string {
	t.Helper()
	base := os.Getenv("TEST_DATABASE_URL")
	if base == "" {
		s, err := sharedPostgres()
		if err != nil {
			t.Fatalf("this test needs PostgreSQL: %v", err)
		}
		base = s.URL()
	}
	name := fmt.Sprintf("catbird_test_%x", rand.Uint64())
	if err := admin(base, "CREATE DATABASE "+name+options); err != nil {
		t.Fatalf("this test needs PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := admin(base, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return withDatabase(base, name)
}

// sharedPostgres is the one server of this process. It is never closed: it ends
// with the process.
var sharedPostgres = sync.OnceValues(StartPostgres)

// admin runs one statement on a connection of its own.
func admin(base, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

func databaseOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Path[1:]
}

func withDatabase(base, name string) string {
	u, err := url.Parse(base)
	if err != nil { // pgx has just parsed it
		return base
	}
	u.Path = "/" + name
	return u.String()
}

// StartPostgres starts a PostgreSQL server of the caller's own on a free port
// of the loopback, with a new cluster in a temporary directory, and waits until
// it answers. The caller closes it.
func StartPostgres() (*Server, error) { return StartPostgresWith() }

// StartPostgresWith is StartPostgres with settings, "name=value" each.
func StartPostgresWith(settings ...string) (*Server, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	a, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := workdir("postgres", a)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "catbird", "-A", "trust",
		"-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	a.apply(initdb)
	initdb.Dir = dir
	if out, err := initdb.CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("initdb: %w\n%s", err, tail(string(out), 2000))
	}
	host, port, err := freeAddress()
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	s := &Server{
		name: "PostgreSQL", dir: dir, account: a,
		url: fmt.Sprintf("postgresql://catbird@%s:%s/postgres?sslmode=disable", host, port),
		program: []string{
			filepath.Join(bin, "postgres"), "-D", data,
			"-c", "listen_addresses=" + host, "-c", "port=" + port, "-c", "unix_socket_directories=",
			"-c", "max_connections=300", "-c", "max_wal_size=2GB",
		},
		stopBy: "INT", // the fast shutdown: it does not wait for clients
		killBy: syscall.SIGQUIT,
		ready:  answersPostgres,
	}
	for _, setting := range settings {
		s.program = append(s.program, "-c", setting)
	}
	if err := s.Start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func answersPostgres(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// findPostgres returns the directory that holds initdb and postgres.
func findPostgres() (string, error) {
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
	} {
		found, _ := filepath.Glob(pattern)
		slices.Reverse(found) // the newest first
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		if executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("set TEST_DATABASE_URL, or install the server (apt-get install postgresql)")
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
