package charttest

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"catbird/charts/test/chart"
	"catbird/charts/test/manifests"
	"catbird/charts/test/readme"
	"catbird/charts/test/rehearsal"
)

const stale = "run `make chart`"

func TestReadmeListsTheValues(t *testing.T) {
	all, err := readme.Values([]byte(read(t, chart.Dir+"/values.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, chart.Dir+"/README.md")
	want, err := readme.Insert(text, readme.Table(all))
	if err != nil {
		t.Fatal(err)
	}
	if text != want {
		t.Errorf("the README's table is not what values.yaml says: %s", stale)
	}
	if len(all) < 100 {
		t.Errorf("only %d values are listed", len(all))
	}
}

func TestValuesWithoutACommentAreFound(t *testing.T) {
	_, err := readme.Values([]byte("# Said.\na: 1\nb: {c: 2}\nd:\n  # Said.\n  e: 1\n  f: 2\n"))
	if err == nil || !strings.Contains(err.Error(), "b has no comment") || !strings.Contains(err.Error(), "d.f has no comment") {
		t.Errorf("finds %v", err)
	}
}

func TestManifestsAreGenerated(t *testing.T) {
	want, err := manifests.Generate(open(t), plainDir)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range want {
		if there, err := os.ReadFile(filepath.Join(plainDir, name)); err != nil || string(there) != text {
			t.Errorf("k8s/%s is not what the chart gives (%v): %s", name, err, stale)
		}
	}
	byHand := []string{"README.md"}
	for _, layer := range append([]manifests.Layer{manifests.Base}, manifests.Overlays...) {
		byHand = append(byHand, layer.Values)
	}
	err = filepath.WalkDir(plainDir, func(p string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(plainDir, p)
		_, made := want[name]
		if err == nil && !d.IsDir() && !made && !slices.Contains(byHand, name) {
			t.Errorf("k8s/%s is made by nobody: %s", name, stale)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What kustomize builds of a folder is what the chart renders with its values.
func TestKustomizeBuildsWhatTheChartRenders(t *testing.T) {
	for _, layer := range append([]manifests.Layer{manifests.Base}, manifests.Overlays...) {
		t.Run(filepath.Base(layer.Dir), func(t *testing.T) {
			built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(plainDir, layer.Dir))
			if err != nil {
				t.Fatal(err)
			}
			text, err := built.AsYaml()
			if err != nil {
				t.Fatal(err)
			}
			got, err := chart.Decode(text)
			if err != nil {
				t.Fatal(err)
			}
			want, err := manifests.Expected(open(t), plainDir, layer)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, want, got)
			checkReferences(t, got)
		})
	}
}

// What internal/rehearsal goes through is what the chart says.
func TestRehearsedPlansAreTheCharts(t *testing.T) {
	const dir = "../../internal/rehearsal/testdata"
	kept, err := rehearsal.Keep()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range kept {
		if there, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(there) != want {
			t.Errorf("the plan %s that is rehearsed is not the chart's (%v): %s", name, err, stale)
		}
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range there {
		if _, ok := kept[file.Name()]; !ok {
			t.Errorf("the plan %s is made by nobody: %s", file.Name(), stale)
		}
	}
}

func compare(t *testing.T, want, got []chart.Object) {
	t.Helper()
	built := map[string]string{}
	for _, o := range got {
		built[o.ID()] = normal(t, o)
	}
	for _, o := range want {
		if text := normal(t, o); built[o.ID()] != text {
			t.Errorf("%s is built as\n%s\nand rendered as\n%s", o.ID(), built[o.ID()], text)
		}
		delete(built, o.ID())
	}
	for id := range built {
		t.Errorf("%s is built and not rendered", id)
	}
}

// normal returns an object as text, its variables and constraints in the order of
// their names: kustomize puts what a patch adds first.
func normal(t *testing.T, o chart.Object) string {
	t.Helper()
	if pod := o.Pod(); pod != nil {
		slices.SortFunc(pod.Spec.TopologySpreadConstraints, func(a, b corev1.TopologySpreadConstraint) int {
			return strings.Compare(a.TopologyKey, b.TopologyKey)
		})
		for i := range pod.Spec.Containers {
			slices.SortFunc(pod.Spec.Containers[i].Env, func(a, b corev1.EnvVar) int { return strings.Compare(a.Name, b.Name) })
		}
	}
	return asJSON(t, o.Typed)
}
