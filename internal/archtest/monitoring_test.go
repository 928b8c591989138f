package archtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const (
	rulesFile     = "charts/catbird/files/rules.yaml"
	ruleTests     = "deploy/alerts/rules_test.yaml"
	dashboardFile = "charts/catbird/files/dashboard.json"
	runbooksFile  = "docs/runbooks.md"
)

// read returns a file of this module as text.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// exposedFile lists what nodes expose. internal/app holds it, and
// docs/observability.md, to a running node; charts/test holds every query to it,
// with all labels.
const exposedFile = "internal/app/testdata/exposed.txt"

// metrics returns what nodes expose, each with its type.
func metrics(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(read(t, exposedFile)) {
		if words := strings.Fields(line); words[0] != "#" {
			out[words[0]] = words[1]
		}
	}
	if len(out) < 100 {
		t.Fatalf("only %d metrics are exposed", len(out))
	}
	return out
}

// selector is how queries of ours name a metric: always with a selector.
var selector = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{`)

// metricOf returns the metric that a series belongs to, "" if it is none that is
// exposed.
func metricOf(exposed map[string]string, series string) string {
	if kind := exposed[series]; kind != "" && kind != "histogram" {
		return series
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(series, suffix); ok && exposed[base] == "histogram" {
			return base
		}
	}
	return ""
}

type rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rules(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal([]byte(read(t, rulesFile)), &file); err != nil {
		t.Fatal(err)
	}
	var out []rule
	for _, g := range file.Groups {
		out = append(out, g.Rules...)
	}
	if len(out) < 20 {
		t.Fatalf("only %d rules", len(out))
	}
	return out
}

func TestRulesUseMetricsThatExist(t *testing.T) {
	exposed, computed := metrics(t), map[string]bool{}
	for _, r := range rules(t) {
		computed[r.Record] = true
	}
	for _, r := range rules(t) {
		for _, m := range selector.FindAllStringSubmatch(r.Expr, -1) {
			if metricOf(exposed, m[1]) == "" && m[1] != "up" {
				t.Errorf("%s%s: no metric is called %s", r.Alert, r.Record, m[1])
			}
		}
		for _, name := range recorded.FindAllString(r.Expr, -1) {
			if !computed[name] {
				t.Errorf("%s: nothing records %s", r.Alert, name)
			}
		}
	}
}

// Whoever an alert wakes finds what to do, and every alert was tried out.
func TestAlertsHaveRunbooksAndTests(t *testing.T) {
	runbooks, tests := read(t, runbooksFile), read(t, ruleTests)
	anchors := anchorsOf(runbooks)
	alerts := map[string]bool{}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		alerts[r.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s has severity %q", r.Alert, r.Labels["severity"])
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s has no summary or no description", r.Alert)
		}
		anchor := strings.ToLower(r.Alert)
		if got := r.Annotations["runbook_url"]; got != runbooksFile+"#"+anchor || !anchors[anchor] {
			t.Errorf("%s leads to %q; is there a section in %s?", r.Alert, got, runbooksFile)
		}
		if !strings.Contains(tests, `alertname="`+r.Alert+`"`) {
			t.Errorf("%s does not fire in %s", r.Alert, ruleTests)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^## (Catbird\w+)$`).FindAllStringSubmatch(runbooks, -1) {
		if !alerts[m[1]] {
			t.Errorf("%s has a section on %s, which is no alert", runbooksFile, m[1])
		}
	}
}

// Whoever is woken finds the same things in every section, with commands for both
// ways of running nodes.
func TestRunbooksCanBeFollowed(t *testing.T) {
	for section := range strings.SplitSeq(read(t, runbooksFile), "\n## ") {
		alert, text, _ := strings.Cut(section, "\n")
		if !strings.HasPrefix(alert, "Catbird") {
			continue
		}
		for _, part := range []string{"Clients feel", "First", "Fix", "Undo", "Wake"} {
			if strings.Count(text, "\n- **"+part+"** ") != 1 {
				t.Errorf("%s: there is not one line that begins with %q", alert, part)
			}
		}
		if look := regexp.MustCompile(`(?s)\n- \*\*First\*\*.*?\n-`).FindString(text); !strings.Contains(look, "`") {
			t.Errorf("%s does not say how to look: %s", alert, look)
		}
		if strings.Contains(text, "`journalctl -u catbird-server") && !strings.Contains(text, "`kubectl logs") {
			t.Errorf("%s says how to read the log on a machine, and not on Kubernetes", alert)
		}
	}
}

// Each part of a node has its section on the dashboard.
func TestDashboardHasASectionForEachPart(t *testing.T) {
	var board struct {
		Panels []struct{ Type, Title string } `json:"panels"`
	}
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &board); err != nil {
		t.Fatal(err)
	}
	panels, row := map[string]int{}, ""
	for _, p := range board.Panels {
		if p.Type == "row" {
			row = p.Title
		}
		panels[row]++
	}
	for _, part := range []string{
		"Is it well?", "HTTP by endpoint", "Cluster", "Ring and ownership", "Leases", "Hand-off", "Actors, mailboxes, batches", "Forwarding", "Database", "Process",
	} {
		if panels[part] < 4 {
			t.Errorf("the section %q has %d panels", part, max(0, panels[part]-1))
		}
	}
}

// The dashboard asks for metrics that exist, and for all that are Catbird's own.
func TestDashboardShowsEveryMetric(t *testing.T) {
	var board any
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &board); err != nil {
		t.Fatal(err)
	}
	exposed, shown := metrics(t), map[string]bool{}
	for _, expr := range values(board, "expr") {
		for _, m := range selector.FindAllStringSubmatch(expr, -1) {
			metric := metricOf(exposed, m[1])
			if metric == "" {
				t.Errorf("the dashboard asks for %s, which does not exist, in %s", m[1], expr)
			}
			shown[metric] = true
		}
		if !strings.Contains(expr, `instance=~"$instance"`) {
			t.Errorf("a query does not heed the dashboard's variables: %s", expr)
		}
	}
	for metric := range exposed {
		if own := !strings.HasPrefix(metric, "go_") && !strings.HasPrefix(metric, "process_"); own && !shown[metric] {
			t.Errorf("the dashboard does not show %s", metric)
		}
	}
}

// values returns the texts that are called key anywhere in a JSON value.
func values(v any, key string) (out []string) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			if s, ok := inner.(string); ok && k == key {
				out = append(out, s)
			}
			out = append(out, values(inner, key)...)
		}
	case []any:
		for _, inner := range v {
			out = append(out, values(inner, key)...)
		}
	}
	return out
}
