package apptest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"catbird/internal/app"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/ctl"
	"catbird/internal/obs"
	"catbird/internal/testenv"
)

// Secret signs the tokens of test nodes.
const Secret = "a secret for tests that is long enough"

// Patience is how long a test waits for what must come at all.
const Patience = 60 * time.Second

// Change changes a node's settings before it is built.
type Change func(*config.Config)

// Databases runs f on each database that nodes can have. where leads a node to
// a database of the test's own; several nodes of one test share it.
func Databases(t *testing.T, f func(t *testing.T, where Change)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, SQLite(t.TempDir())) })
	t.Run("postgres", func(t *testing.T) { f(t, Postgres(testenv.Postgres(t))) })
}

// SQLite leads a node to the embedded database in dir.
func SQLite(dir string) Change {
	return func(c *config.Config) { c.Database.DataDir = dir }
}

// Postgres leads a node to url.
func Postgres(url string) Change {
	return func(c *config.Config) { c.Database.URL, c.Database.MaxConnections = config.Secret(url), 8 }
}

// Actors turns actors on, or off.
func Actors(on bool) Change {
	return func(c *config.Config) { c.Actors.Enable = config.Switch(on) }
}

// Config returns the settings of a test node: free ports of the loopback, quick
// sessions, changed by each of change in turn.
func Config(change ...Change) config.Config {
	c := config.Default()
	c.Server.Host, c.Server.Port, c.Server.InternalPort = "127.0.0.1", 0, 0
	c.Cluster.NodeName, c.Cluster.LeaseTTL = "test", 2*time.Second
	c.Auth.JWTSecret = Secret
	c.Limits.RequestTimeout = 15 * time.Second
	c.Drain.Timeout = 20 * time.Second
	for _, f := range change {
		f(&c)
	}
	return c
}

// Node is a node in this process.
type Node struct {
	*app.App
	URL    string // of the clients' port
	secret string // of its cluster
}

// Start starts a node, waits until it is ready, and stops it in the test's
// cleanup, which fails the test if the node does not stop in order.
func Start(t testing.TB, change ...Change) *Node {
	t.Helper()
	return StartLogging(t, Logger(t), change...)
}

// StartLogging is Start for a node that logs to log.
func StartLogging(t testing.TB, log *slog.Logger, change ...Change) *Node {
	t.Helper()
	n := startUnready(t, log, change...)
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	select {
	case <-n.Ready():
	case <-ctx.Done():
		t.Fatalf("the node was not ready within %v", Patience)
	}
	return n
}

// StartUnready is Start without the wait.
func StartUnready(t testing.TB, change ...Change) *Node {
	t.Helper()
	return startUnready(t, Logger(t), change...)
}

func startUnready(t testing.TB, log *slog.Logger, change ...Change) *Node {
	t.Helper()
	cfg := Config(change...)
	a, err := app.New(t.Context(), app.Options{Config: cfg, Logger: log})
	if err != nil {
		t.Fatalf("building a node: %v", err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatalf("starting a node: %v", err)
	}
	t.Cleanup(func() {
		if err := a.Stop(context.Background()); err != nil {
			t.Errorf("stopping the node: %v", err)
		}
	})
	return &Node{App: a, URL: "http://" + a.Addr(), secret: cfg.Cluster.Secret.Reveal()}
}

// Logger writes warnings to the test's log.
func Logger(t testing.TB) *slog.Logger {
	levels, err := obs.ParseLevels("warn")
	if err != nil {
		t.Fatal(err)
	}
	return obs.NewLogger(t.Output(), levels, obs.FormatText)
}

// Client returns a client of nodes that asks each time once: what a node says
// is what the test hears. Its connections end with the test.
func Client(t testing.TB, change func(*client.Config), urls ...string) *client.Client {
	t.Helper()
	cfg := client.Config{BaseURLs: urls, Token: client.HS256([]byte(Secret), ""), Attempts: 1}
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Operator returns a client of the node's operator API.
func (n *Node) Operator(t testing.TB) *ctl.Client {
	t.Helper()
	// No connection is left open: a node that stops would wait for it.
	transport := &http.Transport{DisableKeepAlives: true}
	c, err := ctl.NewClient("http://"+n.InternalAddr(), n.secret, &http.Client{Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Get asks for a URL on a connection of its own and returns status and body; 0
// when no answer came.
func Get(t testing.TB, url string) (status int, header http.Header, body string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}
	c := http.Client{Transport: transport, Timeout: 10 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err.Error()
	}
	return resp.StatusCode, resp.Header, string(b)
}

// Await asks cond again and again until it is true, and fails the test when that
// takes too long; what says what was waited for.
func Await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(Patience)
	defer limit.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("waited %v in vain for %s", Patience, what)
		}
	}
}

// RetryAfter returns the Retry-After of h in seconds, 0 for none that makes
// sense.
func RetryAfter(h http.Header) int {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return n
}
