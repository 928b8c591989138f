package charttest

import (
	"context"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// prometheus evaluates rules with Prometheus' own engine, over series in memory.
// Its packages for rules and storage bring the client libraries of all clouds
// with them.
type prometheus struct {
	engine *promql.Engine
	series map[uint64]*series
	// made is what each rule came to the last time, by the rule's place.
	made map[[2]int]map[uint64]*series
	// since is when what is pending or firing began to be true, the same way.
	since map[[2]int]map[uint64]time.Duration
}

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

func newPrometheus(t *testing.T) *prometheus {
	t.Helper()
	p := &prometheus{series: map[uint64]*series{}, made: map[[2]int]map[uint64]*series{}, since: map[[2]int]map[uint64]time.Duration{}}
	p.engine = promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})})
	t.Cleanup(func() {
		if err := p.engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// load adds a series, written as in promtool's tests.
func (p *prometheus) load(t *testing.T, text string, interval time.Duration) {
	t.Helper()
	l, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(text)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for i, v := range values {
		if !v.Omitted {
			p.add(l, time.Duration(i)*interval, v.Value)
		}
	}
}

func (p *prometheus) add(l labels.Labels, at time.Duration, v float64) (uint64, *series) {
	key := l.Hash()
	s := p.series[key]
	if s == nil {
		s = &series{labels: l}
		p.series[key] = s
	}
	s.samples = append(s.samples, number{at.Milliseconds(), v})
	return key, s
}

func (p *prometheus) ask(t *testing.T, expr string, at time.Duration) promql.Vector {
	t.Helper()
	q, err := p.engine.NewInstantQuery(t.Context(), p, nil, expr, time.UnixMilli(at.Milliseconds()))
	if err != nil {
		t.Fatalf("%v in %s", err, expr)
	}
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%v in %s", err, expr)
	}
	return slices.Clone(v)
}

func (p *prometheus) evaluate(t *testing.T, file monitoringv1.PrometheusRuleSpec, at time.Duration) {
	t.Helper()
	for i, g := range file.Groups {
		for j, r := range g.Rules {
			rule := [2]int{i, j}
			found := p.ask(t, r.Expr.String(), at)
			if r.Alert != "" {
				p.since[rule] = alerts(t, r, found, p.since[rule], at)
			}
			made := map[uint64]*series{}
			for _, f := range found {
				l := labels.NewBuilder(f.Metric)
				if r.Record != "" {
					l.Set(model.MetricNameLabel, r.Record)
				}
				for name, v := range r.Labels {
					l.Set(name, v)
				}
				key, s := p.add(l.Labels(), at, f.F)
				made[key] = s
			}
			for key, s := range p.made[rule] {
				if made[key] == nil { // what is no longer so ends at once
					s.samples = append(s.samples, number{at.Milliseconds(), math.Float64frombits(value.StaleNaN)})
				}
			}
			p.made[rule] = made
		}
	}
}

// alerts turns what an alert's expression found into samples of ALERTS. since is
// when what was found the last time began to be true, and so is what it returns.
func alerts(t *testing.T, r monitoringv1.Rule, found promql.Vector, since map[uint64]time.Duration, at time.Duration) map[uint64]time.Duration {
	t.Helper()
	if r.KeepFiringFor != nil {
		t.Fatalf("%s: keep_firing_for is not known here", r.Alert)
	}
	wait := model.Duration(0)
	if r.For != nil {
		var err error
		if wait, err = model.ParseDuration(string(*r.For)); err != nil {
			t.Fatal(err)
		}
	}
	active := map[uint64]time.Duration{}
	for i, f := range found {
		began, ok := since[f.Metric.Hash()]
		if !ok {
			began = at
		}
		active[f.Metric.Hash()] = began
		state := "pending"
		if at-began >= time.Duration(wait) {
			state = "firing"
		}
		l := labels.NewBuilder(f.Metric).Set(model.MetricNameLabel, "ALERTS").Set("alertname", r.Alert).Set("alertstate", state)
		found[i] = promql.Sample{Metric: l.Labels(), F: 1}
	}
	return active
}

// Querier makes prometheus a storage.Queryable.
func (p *prometheus) Querier(from, to int64) (storage.Querier, error) {
	return querier{p, from, to}, nil
}

type querier struct {
	*prometheus
	from, to int64
}

func (q querier) Select(_ context.Context, _ bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	from, to := q.from, q.to
	if hints != nil {
		from, to = hints.Start, hints.End
	}
	set := &found{}
	for _, s := range q.series {
		if slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			continue
		}
		at := func(t int64) int {
			i, _ := slices.BinarySearchFunc(s.samples, t, func(s chunks.Sample, t int64) int { return int(s.T() - t) })
			return i
		}
		if samples := s.samples[at(from):at(to+1)]; len(samples) > 0 {
			set.series = append(set.series, storage.NewListSeries(s.labels, samples))
		}
	}
	slices.SortFunc(set.series, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return set
}

func (q querier) LabelValues(_ context.Context, name string, _ *storage.LabelHints, _ ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	all := map[string]bool{}
	for _, s := range q.series {
		all[s.labels.Get(name)] = true
	}
	return slices.Sorted(maps.Keys(all)), nil, nil
}

func (q querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (q querier) Close() error { return nil }

// found is what a Select found.
type found struct {
	series []storage.Series
	at     int
}

func (f *found) Next() bool                        { f.at++; return f.at <= len(f.series) }
func (f *found) At() storage.Series                { return f.series[f.at-1] }
func (f *found) Err() error                        { return nil }
func (f *found) Warnings() annotations.Annotations { return nil }

// number is a sample.
type number struct {
	t int64
	v float64
}

func (n number) T() int64                      { return n.t }
func (n number) ST() int64                     { return 0 }
func (n number) F() float64                    { return n.v }
func (n number) H() *histogram.Histogram       { return nil }
func (n number) FH() *histogram.FloatHistogram { return nil }
func (n number) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (n number) Copy() chunks.Sample           { return n }
