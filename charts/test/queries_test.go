package charttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"catbird/charts/test/chart"
	"catbird/charts/test/exposed"
)

// queries returns what nodes expose and rules record.
func queries(t *testing.T) *exposed.Metrics {
	t.Helper()
	m, err := exposed.Read(read(t, repository+"/internal/app/testdata/exposed.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := checkRules(m, rules(t)); err != nil {
		t.Fatal(err)
	}
	return m
}

// checkRules checks what rules ask for and what their alerts say, and makes known
// what they record.
func checkRules(m *exposed.Metrics, file monitoringv1.PrometheusRuleSpec) error {
	var errs []error
	for _, alerts := range []bool{false, true} {
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				if alerts != (r.Alert != "") {
					continue
				}
				if err := checkRule(m, r); err != nil {
					errs = append(errs, fmt.Errorf("%s: %s%s: %w", g.Name, r.Alert, r.Record, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func checkRule(m *exposed.Metrics, r monitoringv1.Rule) error {
	if r.Record != "" {
		return m.Record(r.Record, r.Expr.String(), r.Labels)
	}
	result, err := m.Check(r.Expr.String())
	for _, text := range slices.Concat(slices.Collect(maps.Values(r.Labels)), slices.Collect(maps.Values(r.Annotations))) {
		err = errors.Join(err, exposed.Says(text, result))
	}
	return err
}

func rules(t *testing.T) monitoringv1.PrometheusRuleSpec {
	t.Helper()
	var file monitoringv1.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict([]byte(read(t, chart.Dir+"/files/rules.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) == 0 {
		t.Fatal("there are no rules")
	}
	return file
}

func TestAlertsAskForWhatIsThere(t *testing.T) {
	queries(t)
}

// Prometheus reads the file as it is, as a rule file.
func TestRulesAreAFileOfPrometheus(t *testing.T) {
	_, errs := rulefmt.Parse([]byte(read(t, chart.Dir+"/files/rules.yaml")), false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
}

// Rules with a slip of the pen in them are not taken for good ones.
func TestRulesThatAskForWhatIsNotThere(t *testing.T) {
	text := read(t, chart.Dir+"/files/rules.yaml")
	for _, slip := range [][2]string{
		{`status=~"5.."`, `statuz=~"5.."`},
		{`status=~"5.."`, `status=~"6.."`},
		{`node_ready{job`, `node_redy{job`},
		{`sum by (namespace, job) (node_ready`, `sum by (namespace, jbo) (node_ready`},
		{`catbird:http_errors:ratio_rate1h > 14.4`, `catbird:http_errors:ratio_rate2h > 14.4`},
		{`kind="duplicate_epochs"`, `kind="duplicate_epoch"`},
		{`reason="crashed"`, `reason="crash"`},
		{`outcome=~"unreachable|lost"`, `outcome=~"unreached|lost"`},
		{`(http_request_duration_seconds_bucket{`, `(http_request_duration_seconds{`},
		{`sum by (namespace, job, le) (rate(http_request`, `sum by (namespace, job) (rate(http_request`},
		{`process_resident_memory_bytes`, `process_resident_memory`},
		{`integrity_findings{job=~".*catbird.*", kind="d`, `integrity_finding{job=~".*catbird.*", kind="d`},
		{`$labels.instance }} does not reach Redis`, `$labels.node }} does not reach Redis`},
		{`increase(session_lost_total`, `increase(session_age_seconds`},
		{`and min by (namespace, job) (actor_rollout_percent`, `and min by (namespace) (actor_rollout_percent`},
	} {
		if !strings.Contains(text, slip[0]) {
			t.Fatalf("no rule says %s", slip[0])
		}
		var file monitoringv1.PrometheusRuleSpec
		if err := yaml.UnmarshalStrict([]byte(strings.Replace(text, slip[0], slip[1], 1)), &file); err != nil {
			t.Fatal(err)
		}
		if err := checkRules(queries(t), file); err == nil {
			t.Errorf("%s instead of %s is not noticed", slip[1], slip[0])
		}
	}
}

// A PrometheusRule says word for word what the file says, braces included.
func TestRulesAreCarriedAsTheyAre(t *testing.T) {
	made := find[monitoringv1.PrometheusRule](t, render(t, `prometheusRule: {enabled: true, labels: {release: p}}`).Objects, "catbird")
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
	made := find[monitoringv1.PrometheusRule](t, render(t, `prometheusRule: {enabled: true, runbooks: "https://wiki.example.org/catbird"}`).Objects, "catbird")
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

// intervals are the variables that stand where PromQL has a duration.
var intervals = regexp.MustCompile(`\$__(rate_interval|interval|range)|\$\{__(rate_interval|interval|range)\}`)

// checkDashboard checks all that a dashboard asks for, in panels, annotations and
// variables, and what legends say, and returns how much it asks.
func checkDashboard(m *exposed.Metrics, text string) (asked int, err error) {
	var dashboard map[string]any
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		return 0, err
	}
	var errs []error
	each(dashboard, func(o map[string]any) {
		for key, legend := range map[string]string{"expr": "legendFormat", "definition": "", "query": ""} {
			query, _ := o[key].(string)
			if query == "" || o["type"] == "datasource" {
				continue
			}
			asked++
			if key == "expr" {
				result, err := m.Check(intervals.ReplaceAllString(query, "5m"))
				says, _ := o[legend].(string)
				errs = append(errs, err, exposed.Says(says, result))
			} else {
				errs = append(errs, checkVariable(m, query))
			}
		}
	})
	return asked, errors.Join(errs...)
}

// checkVariable checks label_values(series, label).
func checkVariable(m *exposed.Metrics, query string) error {
	inner, ok := strings.CutPrefix(query, "label_values(")
	at := strings.LastIndex(inner, ",")
	if !ok || at < 0 {
		return fmt.Errorf("not known here: %s", query)
	}
	result, err := m.Check(inner[:at])
	if label := strings.Trim(inner[at:], ", )"); !slices.Contains(result, label) {
		err = errors.Join(err, fmt.Errorf("no label %s in %s", label, query))
	}
	return err
}

// each calls f for every object in a JSON value.
func each(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(v)
		for _, inner := range v {
			each(inner, f)
		}
	case []any:
		for _, inner := range v {
			each(inner, f)
		}
	}
}

func TestDashboardAsksForWhatIsThere(t *testing.T) {
	text := read(t, chart.Dir+"/files/dashboard.json")
	asked, err := checkDashboard(queries(t), text)
	if err != nil {
		t.Error(err)
	}
	if asked < 100 {
		t.Errorf("the dashboard asks %d questions", asked)
	}
	made := find[corev1.ConfigMap](t, render(t, `dashboard: {enabled: true}`).Objects, "catbird-dashboard")
	if strings.TrimSpace(made.Data["catbird.json"]) != strings.TrimSpace(text) || made.Labels["grafana_dashboard"] != "1" {
		t.Error("the ConfigMap does not carry the dashboard as it is")
	}
}

// A dashboard with a slip of the pen in it is not taken for a good one.
func TestDashboardsThatAskForWhatIsNotThere(t *testing.T) {
	text := read(t, chart.Dir+"/files/dashboard.json")
	for _, slip := range [][2]string{
		{`sum by (status)`, `sum by (statuz)`},
		{`status=~\"5..\"`, `statuz=~\"5..\"`},
		{`kind=\"duplicate_epochs\"`, `kind=\"duplicates\"`},
		{`go_goroutines{`, `go_gorutines{`},
		{`process_open_fds{`, `process_fds{`},
		{`(http_request_duration_seconds_bucket{`, `(http_request_duration_seconds{`},
		{`quantile=\"1\"`, `quantile=\"0.9\"`},
		{`{{status}}`, `{{statuz}}`},
		{`label_values(node_ready, namespace)`, `label_values(node_ready, namespce)`},
		{`label_values(node_ready{namespace=~\"$namespace\"}, job)`, `label_values(node_redy{namespace=~\"$namespace\"}, job)`},
		{`(actor_flag_changes_total{`, `(actor_flags_total{`},
	} {
		if !strings.Contains(text, slip[0]) {
			t.Fatalf("the dashboard does not say %s", slip[0])
		}
		if _, err := checkDashboard(queries(t), strings.Replace(text, slip[0], slip[1], 1)); err == nil {
			t.Errorf("%s instead of %s is not noticed", slip[1], slip[0])
		}
	}
}

// asks finds queries in what people read.
var asks = regexp.MustCompile("`([^`\n]*\\{job=~[^`\n]*)`")

// What the manuals tell people to ask Prometheus has an answer.
func TestManualsAskForWhatIsThere(t *testing.T) {
	m, found := queries(t), 0
	for _, file := range []string{"runbooks", "troubleshooting", "operations", "migration", "performance", "reliability"} {
		for _, q := range asks.FindAllStringSubmatch(read(t, repository+"/docs/"+file+".md"), -1) {
			found++
			if _, err := m.Check(q[1]); err != nil {
				t.Errorf("%s.md: %v", file, err)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d queries were found", found)
	}
}

// The rules go by a job that is called after Catbird, whatever the release is.
func TestScrapedAsTheRulesExpect(t *testing.T) {
	for _, text := range []string{"{nameOverride: chat, serviceMonitor: {enabled: true}}", "{nameOverride: chat, podMonitor: {enabled: true}}"} {
		label, carries := "", false
		objects := render(t, text).Objects
		for _, o := range objects {
			switch m := o.Typed.(type) {
			case *monitoringv1.ServiceMonitor:
				label = m.Spec.JobLabel
			case *monitoringv1.PodMonitor:
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
