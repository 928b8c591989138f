package app_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/obs/obstest"
	"catbird/internal/testenv"
)

const observability = "../../docs/observability.md"

// described returns what the document says of every metric, by its section:
// "counter op, status".
func described(t *testing.T) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile(observability)
	if err != nil {
		t.Fatal(err)
	}
	out, section, inside := map[string]map[string]string{}, "", false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			inside = title == "Metrics"
		}
		if title, ok := strings.CutPrefix(line, "### "); ok {
			section = title
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		name, ok := strings.CutPrefix(strings.TrimSpace(cells[0]), "`")
		if !inside || !ok || !strings.HasPrefix(line, "|") {
			continue
		}
		if len(cells) != 4 || strings.TrimSpace(cells[3]) == "" {
			t.Fatalf("not a row of four cells: %s", line)
		}
		name = strings.TrimSuffix(name, "`")
		if out[section] == nil {
			out[section] = map[string]string{}
		}
		if out[section][name] != "" {
			t.Errorf("%s is described twice", name)
		}
		out[section][name] = strings.TrimSpace(strings.TrimSpace(cells[1]) + " " + sorted(strings.Split(cells[2], ",")))
	}
	return out
}

func sorted(labels []string) string {
	for i := range labels {
		labels[i] = strings.TrimSpace(labels[i])
	}
	slices.Sort(labels)
	return strings.Join(labels, ", ")
}

// scraped returns what a node exposes.
func scraped(t *testing.T, n *apptest.Node) map[string]*dto.MetricFamily {
	t.Helper()
	status, _, body := apptest.Get(t, n.URL+"/metrics")
	if status != 200 {
		t.Fatalf("/metrics answers %d: %s", status, body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// exposed returns the metrics of a node that are its own, in the same form.
func exposed(t *testing.T, n *apptest.Node) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, f := range scraped(t, n) {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		out[name] = strings.TrimSpace(strings.ToLower(f.GetType().String()) + " " + sorted(labelsOf(f)))
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
	}
	return out
}

func labelsOf(f *dto.MetricFamily) []string {
	var out []string
	for _, l := range f.GetMetric()[0].GetLabel() {
		out = append(out, l.GetName())
	}
	return out
}

// compare reports what is described and not exposed, and the other way round.
func compare(t *testing.T, exposed map[string]string, described ...map[string]string) {
	t.Helper()
	want := map[string]string{}
	for _, d := range described {
		maps.Copy(want, d)
	}
	for name, what := range exposed {
		switch d := want[name]; {
		case d == "":
			t.Errorf("%s, a %s, is not in %s", name, what, observability)
		case d != what:
			t.Errorf("%s is a %s, and described as a %s", name, what, d)
		}
	}
	for name := range want {
		if exposed[name] == "" {
			t.Errorf("%s is described, and no such node exposes it", name)
		}
	}
}

// Operators build dashboards and alerts on what the document says: it names what
// a node exposes, all of it and nothing else.
func TestEveryMetricIsDescribed(t *testing.T) {
	sections := described(t)
	var always []map[string]string
	for name, s := range sections {
		if !strings.HasPrefix(name, "Only ") {
			always = append(always, s)
		}
	}
	clustered, traced := sections["Only in a cluster"], sections["Only with traces"]
	if min(len(always), len(clustered), len(traced)) == 0 {
		t.Fatalf("sections are missing: %v", slices.Collect(maps.Keys(sections)))
	}
	t.Run("alone", func(t *testing.T) {
		n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
		compare(t, exposed(t, n), always...)
	})
	t.Run("clustered", func(t *testing.T) {
		where, traces := apptest.Postgres(testenv.Postgres(t)), tracesTo(obstest.Start(t))
		nodes := apptest.StartCluster(t, testenv.Redis(t), func(c *config.Config) { where(c); traces(c) }, "a", "b")
		c := apptest.Client(t, nil, nodes[0].URL)
		g := ownedBy(t, nodes[0], c, "b") // figures of another node are there once it was asked
		if _, err := c.As(g.Members[0]).SendMessage(t.Context(), client.SendMessage{ConvoID: g.ID, Ciphertext: []byte{1}}); err != nil {
			t.Fatal(err)
		}
		compare(t, exposed(t, nodes[0]), append(always, clustered, traced)...)
		recorded(t, scraped(t, nodes[0]))
	})
}
