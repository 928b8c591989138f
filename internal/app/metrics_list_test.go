package app_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

// list holds what a node of a cluster exposes: a metric a line, with its type,
// and each label with its values. The alerts and the dashboard are held to it,
// by tests that start no node.
const list = "testdata/exposed.txt"

var update = flag.Bool("update", false, "write "+list+" anew, by TestEveryMetricIsDescribed")

const listHead = `# What a node of a cluster exposes on Linux, with traces, once it has asked another
# node: a metric a line, its type, and its labels with the values that are there
# from the start; *: others come. Made by
#   go test ./internal/app -run TestEveryMetricIsDescribed -update
`

// openLabels are those whose values nobody knows beforehand.
var openLabels = []string{"peer", "version", "go_version"}

// recorded reports where the list is not what is exposed.
func recorded(t *testing.T, families map[string]*dto.MetricFamily) {
	t.Helper()
	want := map[string]string{}
	for name, f := range families {
		want[name] = line(f)
	}
	if *update {
		text := listHead
		for _, name := range slices.Sorted(maps.Keys(want)) {
			text += want[name] + "\n"
		}
		if err := os.WriteFile(list, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for l := range strings.Lines(string(text)) {
		if name, _, _ := strings.Cut(l, " "); name != "#" {
			got[name] = strings.TrimSuffix(l, "\n")
		}
	}
	maps.DeleteFunc(got, func(name, _ string) bool { return ofThisSystem(name) })
	maps.DeleteFunc(want, func(name, _ string) bool { return ofThisSystem(name) })
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s says\n %q\nand a node exposes\n %q\n(write it anew with -update)", list, got[name], want[name])
		}
	}
	for name := range got {
		if want[name] == "" {
			t.Errorf("%s has %s, which no node exposes", list, name)
		}
	}
}

// ofThisSystem reports whether a metric is not the same on every system, and this
// is not the one of the list.
func ofThisSystem(name string) bool {
	return runtime.GOOS != "linux" && strings.HasPrefix(name, "process_")
}

// line describes a metric.
func line(f *dto.MetricFamily) string {
	values := map[string][]string{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			values[l.GetName()] = append(values[l.GetName()], l.GetValue())
		}
		for _, b := range m.GetHistogram().GetBucket() {
			values["le"] = append(values["le"], number(b.GetUpperBound()))
		}
		for _, q := range m.GetSummary().GetQuantile() {
			values["quantile"] = append(values["quantile"], number(q.GetQuantile()))
		}
	}
	out := f.GetName() + " " + strings.ToLower(f.GetType().String())
	for _, label := range slices.Sorted(maps.Keys(values)) {
		v := values[label]
		slices.Sort(v)
		text := strings.Join(slices.Compact(v), ",")
		if slices.Contains(openLabels, label) {
			text = "*"
		}
		out += fmt.Sprintf(" %s=%s", label, text)
	}
	return out
}

// number writes a bound as Prometheus does.
func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
