package charttest

import (
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/prometheus-adapter/pkg/config"
	"sigs.k8s.io/yaml"

	"catbird/charts/test/exposed"
)

// adapterRules returns the rules that are offered for prometheus-adapter.
func adapterRules(t *testing.T) []config.DiscoveryRule {
	t.Helper()
	var file struct {
		Rules struct {
			Custom []config.DiscoveryRule `json:"custom"`
		} `json:"rules"`
	}
	if err := yaml.UnmarshalStrict([]byte(read(t, repository+"/deploy/prometheus/adapter-values.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	return file.Rules.Custom
}

// The autoscaler is given every metric of pods that the chart makes it ask for, by
// a series that nodes expose, for each pod of its namespace that it asks about.
func TestAdapterKnowsWhatTheAutoscalerAsksFor(t *testing.T) {
	scaler := find[autoscalingv2.HorizontalPodAutoscaler](t, render(t, matrix["autoscaled"]).Objects, "catbird")
	asked := map[string]bool{}
	for _, m := range scaler.Spec.Metrics {
		if m.Pods != nil {
			asked[m.Pods.Metric.Name] = true
		}
	}
	known, offered := queries(t), adapterRules(t)
	if len(asked) == 0 || len(asked) != len(offered) {
		t.Errorf("the autoscaler asks for %v, and there are %d rules", asked, len(offered))
	}
	for _, rule := range offered {
		if _, err := known.Check(rule.SeriesQuery); err != nil {
			t.Error(err)
		}
		series, err := parser.NewParser(parser.Options{}).ParseMetricSelector(rule.SeriesQuery)
		if err != nil {
			t.Fatal(err)
		}
		name := series[slices.IndexFunc(series, named(model.MetricNameLabel))].Value
		if !asked[name] || rule.Name.Matches+rule.Name.As != "" {
			t.Errorf("the autoscaler does not ask for %s", name)
		}
		of := map[string]string{} // labels by the kind of object that they name
		for label, r := range rule.Resources.Overrides {
			of[strings.TrimSuffix(r.Resource, "s")] = label
			if !slices.Contains(exposed.Given, label) || !slices.ContainsFunc(series, named(label)) {
				t.Errorf("%s need not have the label %s", name, label)
			}
		}
		query := adapterQuery(t, rule.MetricsQuery, name, of["pod"], of["namespace"]+`="chat",`+of["pod"]+`=~"catbird-0|catbird-1"`)
		if result, err := known.Check(query); err != nil || !slices.Equal(result, []string{of["pod"]}) {
			t.Errorf("it has %v: %v", result, err)
		}
		p := newPrometheus(t)
		for _, s := range []string{
			`{namespace="chat", pod="catbird-0", job="catbird"} 7x5`, `{namespace="chat", pod="catbird-0", job="more"} 7x5`,
			`{namespace="chat", pod="catbird-1", job="catbird"} 8x5`, `{namespace="chat", pod="other"} 100x5`, `{namespace="else", pod="catbird-1"} 100x5`,
		} {
			p.load(t, name+s, time.Minute)
		}
		if got, want := strings.Join(told(p.ask(t, query, time.Minute)), "; "), `{pod="catbird-0"} 7; {pod="catbird-1"} 8`; got != want {
			t.Errorf("%s answers %s, want %s", query, got, want)
		}
	}
}

func named(label string) func(*labels.Matcher) bool {
	return func(m *labels.Matcher) bool { return m.Name == label }
}

// adapterQuery fills in a query as the adapter does.
func adapterQuery(t *testing.T, text, series, by, matchers string) string {
	t.Helper()
	parsed, err := template.New("").Delims("<<", ">>").Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := parsed.Execute(&out, struct{ Series, LabelMatchers, GroupBy string }{series, matchers, by}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
