package exposed

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Given are the labels that no node exposes: Prometheus adds them to whatever it
// scrapes. job and instance are there everywhere, the others where the targets
// come from a ServiceMonitor or PodMonitor.
var Given = []string{"job", "instance", "namespace", "pod", "service", "container", "endpoint"}

// Metrics are what a node exposes, by the metric's name.
type Metrics struct {
	metrics map[string]metric
	// recorded are the labels of the series that rules make.
	recorded map[string]labelSet
}

type metric struct {
	kind string // counter, gauge, histogram or summary
	// values are those that a label is known to have, by the label; nil: any.
	values map[string][]string
}

// Read reads a list: a metric a line, its type, and each label with the values
// that it has, or * where they are not known beforehand.
func Read(text string) (*Metrics, error) {
	m := &Metrics{metrics: map[string]metric{}, recorded: map[string]labelSet{}}
	for l := range strings.Lines(text) {
		words := strings.Fields(l)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if len(words) < 2 || !slices.Contains([]string{"counter", "gauge", "histogram", "summary"}, words[1]) {
			return nil, fmt.Errorf("not a metric: %q", l)
		}
		d := metric{kind: words[1], values: map[string][]string{}}
		for _, w := range words[2:] {
			label, values, ok := strings.Cut(w, "=")
			if !ok {
				return nil, fmt.Errorf("not a label: %q in %q", w, l)
			}
			d.values[label] = strings.Split(values, ",")
			if values == "*" {
				d.values[label] = nil
			}
		}
		m.metrics[words[0]] = d
	}
	if len(m.metrics) < 100 {
		return nil, fmt.Errorf("only %d metrics", len(m.metrics))
	}
	return m, nil
}

// series returns what a series of that name is: its type, counter or gauge, and
// its own labels. Prometheus knows no histogram by its bare name.
func (m *Metrics) series(name string) (metric, error) {
	if d, ok := m.metrics[name]; ok {
		switch d.kind {
		case "histogram":
			return metric{}, fmt.Errorf("%s is a histogram: ask for _bucket, _sum or _count", name)
		case "summary":
			d.kind = "gauge"
		}
		return d, nil
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, cut := strings.CutSuffix(name, suffix)
		d, ok := m.metrics[base]
		if !cut || !ok || d.kind != "histogram" && (d.kind != "summary" || suffix == "_bucket") {
			continue
		}
		values := maps.Clone(d.values)
		delete(values, "quantile")
		if suffix != "_bucket" {
			delete(values, "le")
		}
		return metric{kind: "counter", values: values}, nil
	}
	return metric{}, fmt.Errorf("no node exposes %s", name)
}

// labelSet are the names of labels that a result has, without that of the metric.
type labelSet []string

func setOf(names ...string) labelSet {
	out := slices.Clone(names)
	slices.Sort(out)
	return slices.Compact(out)
}

func (s labelSet) has(name string) bool { return slices.Contains(s, name) }

func (s labelSet) with(names ...string) labelSet { return setOf(append(slices.Clone(s), names...)...) }

func (s labelSet) without(names ...string) labelSet {
	return slices.DeleteFunc(slices.Clone(s), func(name string) bool { return slices.Contains(names, name) })
}
