package rehearsal

import (
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"catbird/charts/test/chart"
)

// Budget is a PodDisruptionBudget: how many pods of some sets may be missing, or
// must be there, for another one to be evicted.
type Budget struct {
	Name string   `json:"name"`
	Sets []string `json:"sets"` // whose pods it selects
	// Either of them, a number or a percentage such as "25%"; "": not set.
	MaxUnavailable string `json:"maxUnavailable"`
	MinAvailable   string `json:"minAvailable"`
	// UnhealthyPods is AlwaysAllow or IfHealthyBudget: whether pods that are not
	// ready may be evicted whatever the budget says.
	UnhealthyPods string `json:"unhealthyPodEvictionPolicy"`
}

// budgets returns the budgets that select pods of a set.
func budgets(objects []chart.Object) ([]Budget, error) {
	out := []Budget{}
	for _, o := range objects {
		k, ok := o.Typed.(*policyv1.PodDisruptionBudget)
		if !ok {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(k.Spec.Selector)
		if err != nil {
			return nil, err
		}
		b := Budget{
			Name: o.Name, MaxUnavailable: amount(k.Spec.MaxUnavailable), MinAvailable: amount(k.Spec.MinAvailable),
			UnhealthyPods: string(policyv1.IfHealthyBudget),
		}
		if k.Spec.UnhealthyPodEvictionPolicy != nil {
			b.UnhealthyPods = string(*k.Spec.UnhealthyPodEvictionPolicy)
		}
		for _, other := range objects {
			if set, ok := other.Typed.(*appsv1.StatefulSet); ok && selector.Matches(labels.Set(set.Spec.Template.Labels)) {
				b.Sets = append(b.Sets, other.Name)
			}
		}
		if len(b.Sets) > 0 {
			out = append(out, b)
		}
	}
	return out, nil
}

func amount(n *intstr.IntOrString) string {
	if n == nil {
		return ""
	}
	return n.String()
}

// scalerOf returns what scales the set, nil for nothing.
func scalerOf(objects []chart.Object, set string) *autoscalingv2.HorizontalPodAutoscaler {
	for _, o := range objects {
		if k, ok := o.Typed.(*autoscalingv2.HorizontalPodAutoscaler); ok && k.Spec.ScaleTargetRef.Kind == "StatefulSet" && k.Spec.ScaleTargetRef.Name == set {
			return k
		}
	}
	return nil
}

// served reports whether the clients' service selects the set's pods.
func served(objects []chart.Object, set *appsv1.StatefulSet) (bool, error) {
	for _, o := range objects {
		k, ok := o.Typed.(*corev1.Service)
		if ok && k.Labels["app.kubernetes.io/component"] == "clients" {
			if k.Spec.PublishNotReadyAddresses {
				return false, fmt.Errorf("service %s sends clients to pods that are not ready", k.Name)
			}
			return labels.SelectorFromSet(k.Spec.Selector).Matches(labels.Set(set.Spec.Template.Labels)), nil
		}
	}
	return false, errors.New("there is no service for clients")
}
