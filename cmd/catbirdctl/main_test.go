package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	_ "modernc.org/sqlite"

	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/ctl"
	"catbird/internal/testenv"
	"catbird/operator"
	"catbird/persistence"
)

// actAsTool lets this binary be the tool: shells call it, see TestShells.
const actAsTool = "CATBIRDCTL_TEST_ACTS_AS_TOOL"

func TestMain(m *testing.M) {
	if os.Getenv(actAsTool) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// tell runs the tool.
func tell(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, streams{out: &out, err: &errs}, func(int) { t.Errorf("%v ended the process", args) })
	return code, out.String(), errs.String()
}

// node starts a node with a secret and a conversation on it, and points the
// tool to it.
func node(t *testing.T, where apptest.Change) *apptest.Group {
	t.Helper()
	n := apptest.Start(t, where, apptest.Actors(true), func(c *config.Config) { c.Cluster.Secret = "s3cret" })
	t.Setenv("CATBIRD_NODE", "http://"+n.InternalAddr())
	t.Setenv("CLUSTER_SECRET", "s3cret")
	c := apptest.Client(t, nil, n.URL)
	g := apptest.NewGroup(t, c, 2)
	for range 3 {
		if _, err := c.As(g.Members[0]).SendMessage(t.Context(), client.SendMessage{ConvoID: g.ID, Ciphertext: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func TestAskingANode(t *testing.T) {
	g := node(t, apptest.SQLite(t.TempDir()))
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"actors"}, []string{g.ID, "CONVERSATION"}},
		{[]string{"actors", "--limit=0"}, []string{g.ID}},
		{[]string{"owner", g.ID}, []string{"lease         nobody", "claim         test, fence", "test holds it, as the ring says"}},
		{[]string{"convo", g.ID}, []string{g.Members[0], g.Members[1], "EPOCH"}},
		{[]string{"flags", "get"}, []string{"actor system  on", "100%"}},
		{[]string{"check"}, []string{"duplicate epochs  0"}},
		{[]string{"check", "--since=7d"}, []string{"sequence gaps     0"}},
		{[]string{"flags", "set", "--rollout-percent=40"}, []string{"actor system  on", "40%"}},
		{[]string{"flags", "set", "--actor-system=false"}, []string{"actor system  off", "40%"}},
		{[]string{"nodes"}, []string{"test *", "ready", "healthy", "39989", "same"}},
		{[]string{"ring"}, []string{"partitions  39989", "1 of 1 nodes", "100.0%"}},
		{[]string{"flags", "set", "--actor-system", "--rollout-percent=100", "--all"}, []string{"test  on            100%"}},
		{[]string{"drain", "test"}, []string{"test is leaving"}},
		{[]string{"nodes"}, []string{"leaving"}},
	} {
		code, out, stderr := tell(t, test.args...)
		if code != exitOK {
			t.Errorf("%v: exit code %d, said %s", test.args, code, stderr)
		}
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v printed no %q:\n%s", test.args, want, out)
			}
		}
	}
}

func TestJSONEverywhere(t *testing.T) {
	g := node(t, apptest.SQLite(t.TempDir()))
	for _, test := range []struct {
		args []string
		into any
	}{
		{[]string{"actors"}, new(operator.ActorsPage)},
		{[]string{"convo", g.ID}, new(persistence.Overview)},
		{[]string{"flags", "get"}, new(operator.Flags)},
		{[]string{"flags", "set", "--actor-system"}, new(operator.Flags)},
		{[]string{"check"}, new(persistence.Integrity)},
		{[]string{"flags", "set", "--actor-system", "--all"}, new([]ctl.NodeFlags)},
		{[]string{"nodes"}, new(operator.ClusterView)},
		{[]string{"ring"}, new(ctl.RingView)},
		{[]string{"owner", g.ID}, new(operator.Ownership)},
		{[]string{"drain", "test"}, new(drained)},
	} {
		code, out, stderr := tell(t, append(test.args, "--json")...)
		d := json.NewDecoder(strings.NewReader(out))
		d.DisallowUnknownFields()
		if err := d.Decode(test.into); err != nil || code != exitOK {
			t.Errorf("%v --json: exit code %d, %v, printed %s%s", test.args, code, err, out, stderr)
		}
	}
}

func TestFailures(t *testing.T) {
	node(t, apptest.SQLite(t.TempDir()))
	for _, test := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"actors", "--node=http://127.0.0.1:1"}, "at http://127.0.0.1:1 cannot be reached: connection refused", exitUnreachable},
		{[]string{"nodes", "--node=http://127.0.0.1:1,http://127.0.0.1:2"}, "no node answers: the node at http://127.0.0.1:1 cannot be reached", exitUnreachable},
		{[]string{"drain", "test", "--node=http://127.0.0.1:1"}, "cannot be reached", exitUnreachable},
		{[]string{"watch", "--node=http://127.0.0.1:1"}, "cannot be reached", exitUnreachable},
		{[]string{"flags", "set", "--actor-system", "--all", "--node=http://127.0.0.1:1"}, "cannot be reached", exitUnreachable},
		{[]string{"actors", "--node=nonsense"}, "http://host:8081", exitFailure},
		{[]string{"actors", "--secret=wrong"}, "AuthenticationRequired", exitFailure},
		{[]string{"watch", "--secret=wrong"}, "AuthenticationRequired", exitFailure},
		{[]string{"watch", "--every=1ms"}, "--every", exitFailure},
		{[]string{"convo", "abcd"}, "ConvoNotFound", exitFailure},
		{[]string{"owner", "abcd"}, "ConvoNotFound", exitFailure},
		{[]string{"drain", "nobody"}, `there is no node "nobody", only test`, exitFailure},
		{[]string{"drain"}, "node-name", exitFailure},
		{[]string{"flags", "set"}, "nothing to set", exitFailure},
		{[]string{"flags", "set", "--actor-system=yes"}, "true, 1, false or 0", exitFailure},
		{[]string{"flags", "set", "--rollout-percent=101"}, "rolloutPercent", exitFailure},
		{[]string{"flags", "set", "--rollout-percent=101", "--all"}, "stopped at node test, with 0 more to go", exitFailure},
		{[]string{"check", "--since=yesterday"}, "--since", exitFailure},
		{[]string{"check", "--database=" + t.TempDir()}, "no database", exitFailure},
		{[]string{"check", "--database=mysql://u:hunter2@h/d"}, "DATABASE_URL", exitFailure},
		{[]string{"check", "--database=postgresql://u:hunter2@127.0.0.1:1/d"}, "", exitFailure},
		{[]string{"completion", "tcsh"}, "bash", exitFailure},
		{[]string{"nonsense"}, "nonsense", exitFailure},
		{nil, "expected one of", exitFailure},
	} {
		code, _, stderr := tell(t, test.args...)
		if code != test.code || !strings.Contains(stderr, test.want) || !strings.Contains(stderr, "catbirdctl: error:") {
			t.Errorf("%v: exit code %d, said %q; want %d and %q", test.args, code, stderr, test.code, test.want)
		}
		if strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "hunter2") {
			t.Errorf("%v said more than one line, or a password: %q", test.args, stderr)
		}
	}
}

// A node that takes connections and says nothing is given up in time.
func TestNodeThatHangs(t *testing.T) {
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hangs.Close()
	defer close(release)
	code, _, stderr := tell(t, "nodes", "--node="+hangs.URL, "--timeout=50ms")
	if code != exitUnreachable || !strings.Contains(stderr, "no answer in time") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

func TestCheckOfADatabase(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		g := stopped(t, apptest.SQLite(dir))
		checkTwice(t, dir, g, func() {
			db, err := sql.Open("sqlite", filepath.Join(dir, "catbird.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec("DELETE FROM messages WHERE seq = 2"); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("postgres", func(t *testing.T) {
		url := testenv.Postgres(t)
		if code, _, stderr := tell(t, "check", "--database="+url); code != exitFailure || !strings.Contains(stderr, "no server has used it") {
			t.Errorf("check of an empty database: exit code %d, said %s", code, stderr)
		}
		g := stopped(t, apptest.Postgres(url))
		checkTwice(t, url, g, func() { execPostgres(t, url, "DELETE FROM messages WHERE seq = 2") })
	})
}

// stopped leaves a database behind as a node does that has stopped.
func stopped(t *testing.T, where apptest.Change) (g *apptest.Group) {
	t.Helper()
	t.Run("node", func(t *testing.T) { g = node(t, where) })
	if g == nil {
		t.FailNow()
	}
	return g
}

// checkTwice checks a database that is whole, damages it, and checks it again.
func checkTwice(t *testing.T, database string, g *apptest.Group, damage func()) {
	t.Helper()
	t.Setenv("DATABASE_URL", database)
	if code, out, stderr := tell(t, "check"); code != exitOK {
		t.Errorf("check: exit code %d, printed %s%s", code, out, stderr)
	}
	if code, out, stderr := tell(t, "convo", g.ID, "--database="+database); code != exitOK || !strings.Contains(out, g.Members[1]) {
		t.Errorf("convo: exit code %d, printed %s%s", code, out, stderr)
	}
	damage()
	code, out, stderr := tell(t, "check", "--since=48h")
	if code != exitFound || !strings.Contains(out, "sequence gaps     1") || !strings.Contains(out, g.ID) {
		t.Errorf("check of damaged data: exit code %d, printed %s%s", code, out, stderr)
	}
	code, out, _ = tell(t, "check", "--json")
	var found persistence.Integrity
	if err := json.Unmarshal([]byte(out), &found); err != nil || code != exitFound || found.SequenceGaps.Count != 1 {
		t.Errorf("check --json of damaged data: exit code %d, %v, printed %s", code, err, out)
	}
}
