package charttest

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"catbird/charts/test/chart"
)

// metric is a row of the table in docs/observability.md, which a test beside the
// server holds to what nodes expose.
type metric struct {
	kind   string
	labels []string
}

var row = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\| ([a-z_, ]*)\\|")

func described(t *testing.T) map[string]metric {
	t.Helper()
	out := map[string]metric{}
	for _, m := range row.FindAllStringSubmatch(read(t, repository+"/docs/observability.md"), -1) {
		d := metric{kind: m[2]}
		for label := range strings.SplitSeq(m[3], ",") {
			if label = strings.TrimSpace(label); label != "" {
				d.labels = append(d.labels, label)
			}
		}
		out[m[1]] = d
	}
	if len(out) < 50 {
		t.Fatalf("only %d metrics are described", len(out))
	}
	return out
}

// given are labels that Prometheus gives to whatever it scrapes in a cluster.
var given = []string{"job", "namespace", "instance", "pod", "service", "container", "endpoint"}

// queries checks expressions against what nodes expose.
type queries struct {
	described map[string]metric
	recorded  map[string]bool
	parser    parser.Parser
}

func newQueries(t *testing.T) *queries {
	t.Helper()
	q := &queries{described: described(t), recorded: map[string]bool{}, parser: parser.NewParser(parser.Options{})}
	for _, g := range rules(t).Groups {
		for _, r := range g.Rules {
			q.recorded[r.Record] = true
		}
	}
	return q
}

func rules(t *testing.T) chart.RuleFile {
	t.Helper()
	var file chart.RuleFile
	if err := yaml.UnmarshalStrict([]byte(read(t, chart.Dir+"/files/rules.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) == 0 {
		t.Fatal("there are no rules")
	}
	return file
}

// check parses an expression, and looks for every metric and label that it names.
func (q *queries) check(t *testing.T, where, expr string) {
	t.Helper()
	parsed, err := q.parser.ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v in %s", where, err, expr)
		return
	}
	series := 0
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			series++
			q.selector(t, where, v)
		}
		return nil
	})
	if series == 0 {
		t.Errorf("%s asks for nothing: %s", where, expr)
	}
}

func (q *queries) selector(t *testing.T, where string, v *parser.VectorSelector) {
	t.Helper()
	if strings.HasPrefix(v.Name, "go_") || strings.HasPrefix(v.Name, "process_") || v.Name == "up" || q.recorded[v.Name] {
		return
	}
	labels, ok := q.labels(v.Name)
	if !ok {
		t.Errorf("%s: no node exposes %q", where, v.Name)
		return
	}
	for _, m := range v.LabelMatchers {
		if m.Name != "__name__" && !slices.Contains(labels, m.Name) && !slices.Contains(given, m.Name) {
			t.Errorf("%s: %s has no label %s", where, v.Name, m.Name)
		}
	}
}

// labels returns those of a series, of a histogram's too.
func (q *queries) labels(series string) ([]string, bool) {
	if d, ok := q.described[series]; ok && d.kind != "histogram" {
		return d.labels, true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, cut := strings.CutSuffix(series, suffix)
		if d := q.described[base]; cut && d.kind == "histogram" {
			return append(slices.Clone(d.labels), "le"), true
		}
	}
	return nil, false
}

func TestAlertsAskForWhatIsThere(t *testing.T) {
	q := newQueries(t)
	for _, g := range rules(t).Groups {
		for _, r := range g.Rules {
			q.check(t, g.Name+": "+r.Alert+r.Record, r.Expr)
		}
	}
}

// A PrometheusRule says word for word what the file says, braces included.
func TestRulesAreCarriedAsTheyAre(t *testing.T) {
	made := find[chart.PrometheusRule](t, render(t, `prometheusRule: {enabled: true, labels: {release: p}}`).Objects, "catbird")
	want, got := asJSON(t, rules(t)), asJSON(t, made.Spec)
	if want != got {
		t.Errorf("the rules are\n%s\nand not\n%s", got, want)
	}
	if !strings.Contains(got, "{{ $") {
		t.Error("no rule has a template of Prometheus': this tests nothing")
	}
	if made.Labels["release"] != "p" {
		t.Error("Prometheus would not find it")
	}
}

// An alert leads whoever it wakes to where their people read the runbooks.
func TestAlertsLeadToTheRunbooks(t *testing.T) {
	made := find[chart.PrometheusRule](t, render(t, `prometheusRule: {enabled: true, runbooks: "https://wiki.example.org/catbird"}`).Objects, "catbird")
	for _, g := range made.Spec.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			if got, want := r.Annotations["runbook_url"], "https://wiki.example.org/catbird#"+strings.ToLower(r.Alert); got != want {
				t.Errorf("%s leads to %s, want %s", r.Alert, got, want)
			}
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// panel is as much of a panel of Grafana as is looked at.
type panel struct {
	Title   string `json:"title"`
	Targets []struct {
		Expr string `json:"expr"`
	} `json:"targets"`
	Panels []panel `json:"panels"`
}

// intervals are the variables that stand where PromQL has a duration.
var intervals = regexp.MustCompile(`\$__(rate_interval|interval|range)|\$\{__(rate_interval|interval|range)\}`)

func TestDashboardAsksForWhatIsThere(t *testing.T) {
	q := newQueries(t)
	var dashboard struct {
		Panels     []panel `json:"panels"`
		Templating struct {
			List []struct {
				Name       string `json:"name"`
				Definition string `json:"definition"`
			} `json:"list"`
		} `json:"templating"`
	}
	text := read(t, chart.Dir+"/files/dashboard.json")
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		t.Fatal(err)
	}
	asked := 0
	var look func([]panel)
	look = func(panels []panel) {
		for _, p := range panels {
			for _, target := range p.Targets {
				asked++
				q.check(t, p.Title, intervals.ReplaceAllString(target.Expr, "5m"))
			}
			look(p.Panels)
		}
	}
	look(dashboard.Panels)
	if asked < 20 {
		t.Errorf("the dashboard asks %d questions", asked)
	}
	for _, v := range dashboard.Templating.List {
		if inner, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			at := strings.LastIndex(inner, ",")
			q.check(t, "variable "+v.Name, inner[:at])
		}
	}
	made := find[corev1.ConfigMap](t, render(t, `dashboard: {enabled: true}`).Objects, "catbird-dashboard")
	if strings.TrimSpace(made.Data["catbird.json"]) != strings.TrimSpace(text) || made.Labels["grafana_dashboard"] != "1" {
		t.Error("the ConfigMap does not carry the dashboard as it is")
	}
}

// The rules go by a job that is called after Catbird, whatever the release is.
func TestScrapedAsTheRulesExpect(t *testing.T) {
	for _, text := range []string{"{nameOverride: chat, serviceMonitor: {enabled: true}}", "{nameOverride: chat, podMonitor: {enabled: true}}"} {
		label, carries := "", false
		objects := render(t, text).Objects
		for _, o := range objects {
			switch m := o.Typed.(type) {
			case *chart.ServiceMonitor:
				label = m.Spec.JobLabel
			case *chart.PodMonitor:
				label = m.Spec.JobLabel
			}
		}
		for _, o := range objects {
			if pod := o.Pod(); pod != nil && pod.Labels["app.kubernetes.io/component"] == "node" {
				carries = pod.Labels[label] == "catbird"
			}
		}
		if !carries || find[corev1.Service](t, objects, "catbird-chat-nodes").Labels[label] != "catbird" && strings.Contains(text, "service") {
			t.Errorf("%s: the job would not be called catbird (label %s)", text, label)
		}
	}
}
