package main

import (
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"catbird/internal/app/apptest"
	"catbird/internal/config"
)

// unitFile runs a check every night.
const unitFile = "../../deploy/systemd/catbird-check.service"

// lines returns what a unit's file says under a name.
func lines(t *testing.T, name string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			all = append(all, value)
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s says no %s", unitFile, name)
	}
	return all
}

// The alerts on the data go by metrics of the node that was asked for a check.
// Where the settings of a node are in the environment, as in the unit and in a pod
// of the chart, the node must be asked all the same.
func TestNightlyCheckIsSeenByTheAlerts(t *testing.T) {
	for name, args := range map[string]func(host, port string) []string{
		"systemd": func(host, port string) []string {
			for _, variables := range lines(t, "UnsetEnvironment") {
				for v := range strings.FieldsSeq(variables) {
					t.Setenv(v, "") // to be put back
					if err := os.Unsetenv(v); err != nil {
						t.Fatal(err)
					}
				}
			}
			words := strings.Fields(strings.NewReplacer("${INTERNAL_HOST}", host, "${INTERNAL_PORT}", port).Replace(lines(t, "ExecStart")[0]))
			if words[0] != "/usr/local/bin/catbirdctl" {
				t.Errorf("it runs %s", words[0])
			}
			return words[1:]
		},
		"pod": func(host, port string) []string {
			t.Setenv("CATBIRD_NODE", "http://"+net.JoinHostPort(host, port))
			return []string{"check", "--database=", "--since", "48h"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true), func(c *config.Config) { c.Cluster.Secret = "s3cret" })
			apptest.NewGroup(t, apptest.Client(t, nil, n.URL), 2)
			t.Setenv("CLUSTER_SECRET", "s3cret")
			t.Setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
			host, port, err := net.SplitHostPort(n.InternalAddr())
			if err != nil {
				t.Fatal(err)
			}
			if code, _, stderr := tell(t, args(host, port)...); code != exitOK {
				t.Fatalf("exit code %d, said %s", code, stderr)
			}
			_, _, body := apptest.Get(t, n.URL+"/metrics")
			m := regexp.MustCompile(`(?m)^integrity_checked_timestamp_seconds (\S+)$`).FindStringSubmatch(body)
			if m == nil {
				t.Fatal("the node does not say when it was checked")
			}
			if at, err := strconv.ParseFloat(m[1], 64); err != nil || at == 0 {
				t.Errorf("the node was checked at %s", m[1])
			}
		})
	}
}
