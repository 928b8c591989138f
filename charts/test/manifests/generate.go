package manifests

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"catbird/charts/test/chart"
)

// Header begins every file that is generated.
const Header = "# Generated from charts/catbird by `make chart`: change the values, not this file.\n"

// Layer is a folder of manifests and the values behind it, both from the folder
// of all manifests.
type Layer struct{ Dir, Values string }

// Base is what all overlays start from.
var Base = Layer{"base", "base/values.yaml"}

// Overlays change the base.
var Overlays = []Layer{
	{"overlays/dev", "overlays/dev/values.yaml"},
	{"overlays/production", "../charts/catbird/values-production.yaml"},
	{"overlays/canary", "overlays/canary/values.yaml"},
}

// Generate returns the manifests by their paths in root, which holds the layers'
// values.
func Generate(c *chart.Chart, root string) (map[string]string, error) {
	base, err := Expected(c, root, Base)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	if err := writeLayer(out, Base.Dir, nil, base, nil); err != nil {
		return nil, err
	}
	for _, overlay := range Overlays {
		wanted, err := Expected(c, root, overlay)
		if err != nil {
			return nil, err
		}
		if err := writeOverlay(out, overlay.Dir, base, wanted); err != nil {
			return nil, fmt.Errorf("%s: %w", overlay.Dir, err)
		}
	}
	return out, nil
}

// Expected returns what a layer is to give: what the chart renders with the
// base's values and the layer's, without hooks, and without what says that Helm
// made it.
func Expected(c *chart.Chart, root string, l Layer) ([]chart.Object, error) {
	values := chart.Values{}
	for _, file := range slices.Compact([]string{Base.Values, l.Values}) {
		more, err := ReadValues(filepath.Join(root, file))
		if err != nil {
			return nil, err
		}
		values = chart.Merge(values, more)
	}
	r, err := c.Render(values, chart.Options{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.Dir, err)
	}
	var out []chart.Object
	for _, o := range r.Objects {
		if o.Hook() != "" {
			continue
		}
		plain, err := plain(o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.ID(), err)
		}
		out = append(out, plain)
	}
	return out, nil
}

// ReadValues reads a file of values.
func ReadValues(file string) (chart.Values, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	var values chart.Values
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return values, nil
}

// plain takes away what is Helm's, and the namespace, which kubectl is told.
func plain(o chart.Object) (chart.Object, error) {
	var tree map[string]any
	if err := yaml.Unmarshal(o.Text, &tree); err != nil {
		return o, err
	}
	if meta, ok := tree["metadata"].(map[string]any); ok {
		delete(meta, "namespace")
	}
	dropLabels(tree)
	text, err := yaml.Marshal(tree)
	if err != nil {
		return o, err
	}
	objects, err := chart.Decode(text)
	if err != nil {
		return o, err
	}
	return objects[0], nil
}

// dropLabels goes through all labels of a tree, the pods' too.
func dropLabels(v any) {
	switch v := v.(type) {
	case map[string]any:
		if labels, ok := v["labels"].(map[string]any); ok {
			delete(labels, "helm.sh/chart")
			delete(labels, "app.kubernetes.io/managed-by")
		}
		for _, value := range v {
			dropLabels(value)
		}
	case []any:
		for _, value := range v {
			dropLabels(value)
		}
	}
}

// writeOverlay writes what turns base into wanted.
func writeOverlay(out map[string]string, dir string, base, wanted []chart.Object) error {
	before, after := byID(base), byID(wanted)
	var added []chart.Object
	patches := map[string]string{}
	for _, o := range wanted {
		old, ok := before[o.ID()]
		if !ok {
			added = append(added, o)
			continue
		}
		text, err := patch(old, o)
		if err != nil {
			return fmt.Errorf("%s: %w", o.ID(), err)
		}
		if text != "" {
			patches[fileName(o)] = text
		}
	}
	for _, o := range base {
		if _, ok := after[o.ID()]; !ok {
			patches[fileName(o)] = fmt.Sprintf("$patch: delete\napiVersion: %s\nkind: %s\nmetadata:\n  name: %s\n", o.APIVersion, o.Kind, o.Name)
		}
	}
	return writeLayer(out, dir, []string{"../../base"}, added, patches)
}

// writeLayer writes objects and patches, and the kustomization that lists them.
func writeLayer(out map[string]string, dir string, resources []string, objects []chart.Object, patches map[string]string) error {
	for _, o := range objects {
		name := fileName(o)
		if _, there := out[path.Join(dir, name)]; there {
			return fmt.Errorf("two objects would be written to %s", name)
		}
		out[path.Join(dir, name)] = Header + string(o.Text)
		resources = append(resources, name)
	}
	k := map[string]any{"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources}
	var list []any
	for _, name := range slices.Sorted(maps.Keys(patches)) {
		file := "patch-" + name
		out[path.Join(dir, file)] = Header + patches[name]
		list = append(list, map[string]any{"path": file})
	}
	if len(list) > 0 {
		k["patches"] = list
	}
	text, err := yaml.Marshal(k)
	if err != nil {
		return err
	}
	out[path.Join(dir, "kustomization.yaml")] = Header + string(text)
	return nil
}

func fileName(o chart.Object) string {
	return strings.ToLower(o.Kind) + "-" + o.Name + ".yaml"
}

func byID(objects []chart.Object) map[string]chart.Object {
	out := map[string]chart.Object{}
	for _, o := range objects {
		out[o.ID()] = o
	}
	return out
}
