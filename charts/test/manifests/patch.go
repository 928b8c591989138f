package manifests

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"catbird/charts/test/chart"
)

// patch returns the strategic merge patch that turns before into after, "" where
// they are the same.
func patch(before, after chart.Object) (string, error) {
	old, err := yaml.YAMLToJSON(before.Text)
	if err != nil {
		return "", err
	}
	wanted, err := yaml.YAMLToJSON(after.Text)
	if err != nil {
		return "", err
	}
	if bytes.Equal(old, wanted) {
		return "", nil
	}
	diff, err := strategicpatch.CreateTwoWayMergePatch(old, wanted, before.Typed)
	if err != nil {
		return "", err
	}
	var tree map[string]any
	if err := json.Unmarshal(diff, &tree); err != nil {
		return "", err
	}
	dropOrders(tree)
	spread(tree, before.Pod(), after.Pod())
	tree["apiVersion"], tree["kind"] = after.APIVersion, after.Kind
	meta, ok := tree["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		tree["metadata"] = meta
	}
	meta["name"] = after.Name
	text, err := yaml.Marshal(tree)
	return string(text), err
}

// dropOrders takes away hints about the order of lists, which kustomize does not
// know: it keeps the order of the base and adds what is new.
func dropOrders(v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if strings.HasPrefix(key, "$setElementOrder/") {
				delete(v, key)
				continue
			}
			dropOrders(value)
		}
	case []any:
		for _, value := range v {
			dropOrders(value)
		}
	}
}

// spread corrects how constraints of spread are changed. The patch was made by
// topologyKey alone; kustomize goes by Kubernetes' schema, in which constraints of
// one key that say something else when they are not satisfied stand side by side.
func spread(tree map[string]any, before, after *corev1.PodTemplateSpec) {
	if before == nil || after == nil {
		return
	}
	old, wanted := before.Spec.TopologySpreadConstraints, after.Spec.TopologySpreadConstraints
	if reflect.DeepEqual(old, wanted) {
		return
	}
	same := func(a corev1.TopologySpreadConstraint) func(corev1.TopologySpreadConstraint) bool {
		return func(b corev1.TopologySpreadConstraint) bool {
			return a.TopologyKey == b.TopologyKey && a.WhenUnsatisfiable == b.WhenUnsatisfiable
		}
	}
	var list []any
	for _, c := range old {
		if !slices.ContainsFunc(wanted, same(c)) {
			list = append(list, map[string]any{"$patch": "delete", "topologyKey": c.TopologyKey, "whenUnsatisfiable": c.WhenUnsatisfiable})
		}
	}
	for _, c := range wanted {
		if i := slices.IndexFunc(old, same(c)); i < 0 || !reflect.DeepEqual(old[i], c) {
			list = append(list, c)
		}
	}
	pod := tree["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
	pod["topologySpreadConstraints"] = list
}
