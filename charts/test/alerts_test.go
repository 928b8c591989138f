package charttest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// situations is a file of promtool's unit tests, as far as ours goes: what is not
// known here is refused, so that nothing is read over.
type situations struct {
	RuleFiles []string       `json:"rule_files"`
	Every     model.Duration `json:"evaluation_interval"`
	Tests     []situation    `json:"tests"`
}

type situation struct {
	Name     string         `json:"name"`
	Interval model.Duration `json:"interval"`
	Series   []struct {
		Series string `json:"series"`
		Values string `json:"values"`
	} `json:"input_series"`
	Queries []struct {
		Expr    string         `json:"expr"`
		At      model.Duration `json:"eval_time"`
		Samples []sample       `json:"exp_samples"`
	} `json:"promql_expr_test"`
}

type sample struct {
	Labels string  `json:"labels"`
	Value  float64 `json:"value"`
}

// Each alert fires in the situations that it is for, and in no other.
func TestAlertsFireWhenTheyShould(t *testing.T) {
	var file situations
	if err := yaml.UnmarshalStrict([]byte(read(t, repository+"/deploy/alerts/rules_test.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	if want := []string{"../../charts/catbird/files/rules.yaml"}; !slices.Equal(file.RuleFiles, want) {
		t.Fatalf("it is about %q", file.RuleFiles)
	}
	known := queries(t)
	var fired strings.Builder
	for _, s := range file.Tests {
		for _, in := range s.Series {
			l, err := parser.NewParser(parser.Options{}).ParseMetric(in.Series)
			if err == nil {
				err = known.Series(l)
			}
			if err != nil {
				t.Errorf("%s: %s: %v", s.Name, in.Series, err)
			}
		}
		for _, q := range s.Queries {
			for _, e := range q.Samples {
				fired.WriteString(e.Labels)
			}
		}
		t.Run(s.Name, func(t *testing.T) { s.run(t, time.Duration(file.Every)) })
	}
	for _, g := range rules(t).Groups {
		for _, r := range g.Rules {
			if r.Alert != "" && !strings.Contains(fired.String(), fmt.Sprintf("alertname=%q", r.Alert)) {
				t.Errorf("no situation makes %s fire", r.Alert)
			}
		}
	}
}

// run evaluates all rules over the situation's series as Prometheus would, and
// asks its questions.
func (s situation) run(t *testing.T, every time.Duration) {
	p := newPrometheus(t)
	for _, in := range s.Series {
		p.load(t, in.Series+" "+in.Values, time.Duration(s.Interval))
	}
	end := time.Duration(0)
	for _, q := range s.Queries {
		end = max(end, time.Duration(q.At))
	}
	if end == 0 {
		t.Fatal("it asks nothing")
	}
	file := rules(t)
	for at := time.Duration(0); at <= end; at += every {
		p.evaluate(t, file, at)
		for _, q := range s.Queries {
			if time.Duration(q.At) != at {
				continue
			}
			if got, want := told(p.ask(t, q.Expr, at)), expected(t, q.Samples); !slices.Equal(got, want) {
				t.Errorf("%s after %s:\n got %s\nwant %s", q.Expr, at, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
			}
		}
	}
}

func told(got promql.Vector) []string {
	var out []string
	for _, s := range got {
		out = append(out, fmt.Sprintf("%s %g", s.Metric, s.F))
	}
	slices.Sort(out)
	return out
}

func expected(t *testing.T, want []sample) []string {
	t.Helper()
	var out []string
	for _, s := range want {
		l, err := parser.NewParser(parser.Options{}).ParseMetric(s.Labels)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %g", l, s.Value))
	}
	slices.Sort(out)
	return out
}
