package app_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"catbird/conversation"
	"catbird/internal/app"
	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/testenv"
)

// asError is errors.As for nil too.
func asError[T any](err error, target *T) bool { return err != nil && errors.As(err, target) }

func TestHealth(t *testing.T) {
	apptest.Databases(t, func(t *testing.T, where apptest.Change) {
		n := apptest.Start(t, where, apptest.Actors(true), func(c *config.Config) { c.Actors.RolloutPercent = 50 })
		status, _, body := apptest.Get(t, n.URL+"/health")
		var h struct {
			Status, Database, Version string
			Checks                    struct {
				Database, Redis, Cluster string
				Actors                   struct {
					Enabled        bool
					RolloutPercent int
					Max            int
				}
			}
		}
		if err := json.Unmarshal([]byte(body), &h); err != nil || status != 200 {
			t.Fatalf("/health answers %d %s", status, body)
		}
		if h.Status != "healthy" || h.Database != "connected" || h.Version == "" || h.Checks.Database != "healthy" ||
			h.Checks.Redis == "" || h.Checks.Cluster == "" || !h.Checks.Actors.Enabled || h.Checks.Actors.RolloutPercent != 50 {
			t.Errorf("/health = %s", body)
		}
		if status, _, body := apptest.Get(t, n.URL+"/health/live"); status != 200 {
			t.Errorf("/health/live answers %d %s", status, body)
		}
		var ready struct {
			Ready  bool
			Checks map[string]bool
		}
		status, _, body = apptest.Get(t, n.URL+"/health/ready")
		if err := json.Unmarshal([]byte(body), &ready); err != nil || status != 200 || !ready.Ready || !ready.Checks["database"] {
			t.Errorf("/health/ready answers %d %s", status, body)
		}
		if status, _, body := apptest.Get(t, n.URL+"/nothing/here"); status != 404 || !strings.Contains(body, "MethodNotFound") {
			t.Errorf("an unknown path answers %d %s", status, body)
		}
	})
}

// The names are a contract with dashboards and alerts; series exist before
// anything has happened.
func TestMetrics(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	c := apptest.Client(t, nil, n.URL)
	g := apptest.NewGroup(t, c, 2)
	if _, err := c.As(g.Members[0]).SendMessage(t.Context(), client.SendMessage{ConvoID: g.ID, Ciphertext: []byte{1}}); err != nil {
		t.Fatal(err)
	}
	status, _, body := apptest.Get(t, n.URL+"/metrics")
	if status != 200 {
		t.Fatalf("/metrics answers %d", status)
	}
	for _, name := range []string{
		"actor_registry_active_actors 1", "actor_message_duration_seconds_bucket{message_type=", "actor_messages_total",
		"actor_spawns_total 1", "actor_spawn_failures_total 0", "actor_stops_total{reason=", "actor_flag_changes_total 0", "actor_rollout_percent 100",
		"actor_errors_total{error_type=", "actor_mailbox_size", "db_pool_connections_active", "db_pool_connections_idle",
		"db_pool_connections_max", "db_pool_waits_total", "http_requests_total{", "http_connections_open", "node_ready 1",
		"session_renewals_total{", "housekeeping_runs_total{", "catbird_build_info{", "go_goroutines",
	} {
		if !strings.Contains(body, "\n"+name) {
			t.Errorf("metric %q is missing", name)
		}
	}
}

func TestOperatorAPI(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	c, op := apptest.Client(t, nil, n.URL), n.Operator(t)
	g := apptest.NewGroup(t, c, 2)
	ctx := t.Context()
	if _, err := c.As(g.Members[0]).SendMessage(ctx, client.SendMessage{ConvoID: g.ID, Ciphertext: []byte{1}}); err != nil {
		t.Fatal(err)
	}
	page, err := op.Actors(ctx, 10, "")
	if err != nil || len(page.Actors) != 1 || page.Actors[0].Convo != g.ID || page.Actors[0].Seq != 1 || page.Actors[0].Fence < 1 {
		t.Errorf("actors = %+v, %v", page, err)
	}
	o, err := op.Conversation(ctx, strings.ToUpper(g.ID))
	if err != nil || o.ID != g.ID || o.Seq != 1 || len(o.Members) != 2 {
		t.Errorf("overview = %+v, %v", o, err)
	}
	off, percent := false, 30
	f, err := op.SetFlags(ctx, &off, &percent)
	if err != nil || f.ActorSystem || f.RolloutPercent != 30 {
		t.Errorf("flags = %+v, %v", f, err)
	}
	if page, err := op.Actors(ctx, 10, ""); err != nil || len(page.Actors) != 0 {
		t.Errorf("with actors off there are %+v, %v", page, err)
	}
	for _, want := range []string{"\nactor_flag_changes_total 1\n", "\nactor_rollout_percent 0\n"} {
		if _, _, body := apptest.Get(t, n.URL+"/metrics"); !strings.Contains(body, want) {
			t.Errorf("after the change of the flags the metrics say no %q", want)
		}
	}
	checkIntegrity(t, n)
}

func TestOperatorAPIAsksForTheSecret(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), func(c *config.Config) { c.Cluster.Secret = "s3cret" })
	for _, path := range []string{"/flags", "/actors", "/integrity", "/conversations/ab"} {
		if status, _, body := apptest.Get(t, "http://"+n.InternalAddr()+path); status != http.StatusUnauthorized {
			t.Errorf("%s answers a stranger with %d %s", path, status, body)
		}
	}
	if status, _, _ := apptest.Get(t, n.URL+"/flags"); status != http.StatusNotFound {
		t.Errorf("the operator API is on the clients' port: %d", status)
	}
}

// Draining takes the node out of the load balancer and moves clients on, and
// fails nobody.
func TestDrainWithoutStop(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	c := apptest.Client(t, nil, n.URL)
	g := apptest.NewGroup(t, c, 2)
	if d, err := n.Operator(t).Drain(t.Context()); err != nil || !d.Draining {
		t.Fatalf("drain = %+v, %v", d, err)
	}
	for path, want := range map[string]int{"/health/ready": 503, "/health": 200, "/xrpc/" + client.Prefix + "getConvos": 401} {
		conn := dialNode(t, n)
		write(t, conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want || !resp.Close {
			t.Errorf("%s answers %d and keeps the connection %v, want %d and that it ends", path, resp.StatusCode, !resp.Close, want)
		}
		resp.Body.Close()
	}
	if status, _, _ := apptest.Get(t, n.URL+"/health/live"); status != 200 {
		t.Errorf("/health/live answers %d", status)
	}
	books := apptest.NewLedger()
	for range 5 {
		if _, err := books.Send(t.Context(), c, g, g.Members[0], 0); err != nil {
			t.Errorf("a leaving node does not serve: %v", err)
		}
	}
	books.Verify(t, c, g)
	if n.State() != app.Leaving {
		t.Errorf("the node is %v", n.State())
	}
}

// Everything acknowledged before or during a stop is stored, and everything that
// was asked gets its answer.
func TestStopUnderLoad(t *testing.T) {
	for _, v := range variants[:2] {
		t.Run(v.name, func(t *testing.T) {
			apptest.Databases(t, func(t *testing.T, where apptest.Change) {
				n := apptest.Start(t, where, v.change)
				c := apptest.Client(t, nil, n.URL)
				groups := apptest.NewGroups(t, c, 8, 3)
				load := apptest.StartLoad(t, c, groups, apptest.LoadConfig{Workers: 16, CommitShare: 10, AddShare: 5})
				load.AwaitMore(t, 200)
				if err := n.Stop(t.Context()); err != nil {
					t.Errorf("stopping: %v", err)
				}
				load.Stop()
				again := apptest.Start(t, where, v.change)
				load.Only(t, "unreachable", conversation.Draining)
				load.Verify(t, apptest.Client(t, nil, again.URL), groups...)
				checkIntegrity(t, again)
			})
		})
	}
}

func TestFlagsChangeUnderLoad(t *testing.T) {
	apptest.Databases(t, func(t *testing.T, where apptest.Change) {
		n := apptest.Start(t, where, apptest.Actors(false))
		c := apptest.Client(t, nil, n.URL)
		groups := apptest.NewGroups(t, c, 6, 3)
		load := apptest.StartLoad(t, c, groups, apptest.LoadConfig{Workers: 16, CommitShare: 10, AddShare: 2})
		op := n.Operator(t)
		for i := range 12 {
			on, percent := i%2 == 0, []int{100, 40, 100}[i%3]
			if _, err := op.SetFlags(t.Context(), &on, &percent); err != nil {
				t.Errorf("setting flags: %v", err)
			}
			load.AwaitMore(t, 40)
		}
		load.Stop()
		load.Only(t)
		load.Verify(t, c, groups...)
		checkIntegrity(t, n)
	})
}

// Two servers that know nothing of each other may work on one database, each
// with its flag as it likes.
func TestTwoServersOnOneDatabase(t *testing.T) {
	for _, flags := range [][2]bool{{true, true}, {true, false}, {false, false}} {
		t.Run(map[bool]string{true: "on", false: "off"}[flags[0]]+" and "+map[bool]string{true: "on", false: "off"}[flags[1]], func(t *testing.T) {
			where := apptest.Postgres(testenv.Postgres(t))
			named := func(name string) apptest.Change {
				return func(c *config.Config) { c.Cluster.NodeName = name }
			}
			a := apptest.Start(t, where, apptest.Actors(flags[0]), named("a"))
			b := apptest.Start(t, where, apptest.Actors(flags[1]), named("b"))
			c := apptest.Client(t, nil, a.URL, b.URL)
			groups := apptest.NewGroups(t, c, 4, 3)
			load := apptest.StartLoad(t, c, groups, apptest.LoadConfig{Workers: 8, CommitShare: 10, AddShare: 2})
			load.AwaitMore(t, 400)
			load.Stop()
			load.Only(t)
			load.Verify(t, apptest.Client(t, nil, b.URL), groups...)
			checkIntegrity(t, a)
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]apptest.Change{
		"DATA_DIR":      func(c *config.Config) { c.Database.DataDir = "/proc/nowhere" },
		"DATABASE_URL":  func(c *config.Config) { c.Database.URL = "postgresql://h:port/x" },
		"INTERNAL_PORT": func(c *config.Config) { c.Server.Port, c.Server.InternalPort = 1234, 1234 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := apptest.Config(apptest.SQLite(t.TempDir()), change)
			a, err := app.New(t.Context(), app.Options{Config: cfg, Logger: apptest.Logger(t)})
			if err == nil {
				t.Error(errors.Join(errors.New("a node was built"), a.Stop(t.Context())))
			} else if !strings.Contains(err.Error(), name) {
				t.Errorf("the error does not name %s: %v", name, err)
			}
		})
	}
}

// What a failed start has opened is closed again: the next one succeeds.
func TestStartFailsAsAWhole(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := apptest.Config(apptest.SQLite(dir), func(c *config.Config) {
		c.Server.Port = taken.Addr().(*net.TCPAddr).Port
	})
	a, err := app.New(t.Context(), app.Options{Config: cfg, Logger: apptest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "SERVER_PORT") {
		t.Errorf("err = %v, want one that names SERVER_PORT", err)
	}
	if a.State() != app.Gone {
		t.Errorf("the node is %v", a.State())
	}
	apptest.Start(t, apptest.SQLite(dir))
}

func TestRunEndsWithItsContext(t *testing.T) {
	a, err := app.New(t.Context(), app.Options{Config: apptest.Config(apptest.SQLite(t.TempDir())), Logger: apptest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- a.Run(ctx) }()
	select {
	case <-a.Ready():
	case err := <-ran:
		t.Fatalf("the node ended by itself: %v", err)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Errorf("Run returned %v", err)
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Errorf("a second stop: %v", err)
	}
}

func TestStopWithoutStart(t *testing.T) {
	dir := t.TempDir()
	a, err := app.New(t.Context(), app.Options{Config: apptest.Config(apptest.SQLite(dir)), Logger: apptest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Errorf("stopping: %v", err)
	}
	apptest.Start(t, apptest.SQLite(dir)) // its lock is free
}
