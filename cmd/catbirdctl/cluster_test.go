package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/ctl"
	"catbird/internal/testenv"
	"catbird/operator"
)

// seen returns the cluster as the tool shows it.
func seen(t *testing.T) (v operator.ClusterView) {
	t.Helper()
	code, out, stderr := tell(t, "nodes", "--json")
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitOK {
		t.Fatalf("nodes --json: exit code %d, %v, said %s", code, err, stderr)
	}
	return v
}

func TestACluster(t *testing.T) {
	nodes := apptest.StartCluster(t, testenv.Redis(t), apptest.Postgres(testenv.Postgres(t)), "a", "b", "c")
	bases := make([]string, len(nodes))
	for i, n := range nodes {
		bases[i] = "http://" + n.InternalAddr()
	}
	t.Setenv("CATBIRD_NODE", "http://127.0.0.1:1, "+strings.Join(bases, ","))
	t.Setenv("CLUSTER_SECRET", apptest.ClusterSecret)
	c := apptest.Client(t, nil, nodes[0].URL)
	groups := apptest.NewGroups(t, c, 8, 2)
	for _, g := range groups {
		if _, err := c.As(g.Members[0]).SendMessage(t.Context(), client.SendMessage{ConvoID: g.ID, Ciphertext: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}

	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"nodes"}, []string{"a *", "b  ", "c  ", "ready", "on 100%", "same", nodes[2].InternalAddr()}},
		{[]string{"nodes", "--node=" + bases[1]}, []string{"b *"}},
		{[]string{"nodes", "--node=http://127.0.0.1:1", "--node=" + bases[2]}, []string{"c *"}},
		{[]string{"ring"}, []string{"partitions  39989", "agreed by   3 of 3 nodes"}},
		{[]string{"owner", strings.ToUpper(groups[0].ID)}, []string{groups[0].ID, "fence 1", "holds it, as the ring says."}},
		{[]string{"flags", "set", "--all", "--rollout-percent=50"}, []string{"a     on            50%", "b     on            50%", "c     on            50%"}},
		{[]string{"flags", "get", "--node=" + bases[2]}, []string{"50%"}},
		{[]string{"flags", "set", "--all", "--rollout-percent=100"}, []string{"100%"}},
		{[]string{completeWord, "drain", ""}, []string{"a\ta node of the cluster\nb\ta node of the cluster\nc\t"}},
		{[]string{"drain", "c"}, []string{"c is leaving"}},
	} {
		code, out, stderr := tell(t, test.args...)
		if code != exitOK {
			t.Fatalf("%v: exit code %d, said %s", test.args, code, stderr)
		}
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v printed no %q:\n%s", test.args, want, out)
			}
		}
	}
	apptest.Await(t, "c to have left the ring", func() bool {
		m := seen(t).Members[2]
		return m.Name == "c" && m.State == "leaving" && m.Partitions == 0
	})
	if code, out, _ := tell(t, "ring"); code != exitOK || !strings.Contains(out, "0.0%") {
		t.Errorf("ring with a node that leaves: exit code %d, printed %s", code, out)
	}
}

// On several nodes, what is done is told, and after a failure nothing more is.
func TestFlagsOfAllStopAtTheFirstFailure(t *testing.T) {
	var set []string
	serve := func(name string, fails bool) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			set = append(set, name)
			if fails {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = w.Write([]byte(`{"error":"Unavailable","message":"no database"}`))
				return
			}
			_ = json.NewEncoder(w).Encode(operator.Flags{ActorSystem: true, RolloutPercent: 7})
		}))
		t.Cleanup(s.Close)
		return s
	}
	b, c, d := serve("b", false), serve("c", true), serve("d", false)
	address := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	a := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/flags" {
			set = append(set, "a")
			_ = json.NewEncoder(w).Encode(operator.Flags{ActorSystem: true, RolloutPercent: 7})
			return
		}
		_ = json.NewEncoder(w).Encode(operator.ClusterView{Node: "a", Members: []operator.Member{
			// As behind a tunnel: the one that is asked is not where it says.
			{Name: "a", Address: "127.0.0.1:1"}, {Name: "b", Address: address(b)}, {Name: "c", Address: address(c)}, {Name: "d", Address: address(d)},
		}})
	}))
	t.Cleanup(a.Close)

	code, out, stderr := tell(t, "flags", "set", "--all", "--rollout-percent=7", "--json", "--node="+a.URL)
	if want := "stopped at node c, with 1 more to go: Unavailable: no database"; code != exitFailure || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d, said %q, want %q", code, stderr, want)
	}
	var done []ctl.NodeFlags
	if err := json.Unmarshal([]byte(out), &done); err != nil || len(done) != 2 || done[0].Node != "a" || done[1].Node != "b" || done[1].RolloutPercent != 7 {
		t.Errorf("told of %+v (%v)", done, err)
	}
	if !slices.Equal(set, []string{"a", "b", "c"}) {
		t.Errorf("set on %v", set)
	}
}
