package chart

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// Typed is an API object.
type Typed = metav1.Object

// types are the kinds that the chart may make.
var types = map[string]func() Typed{
	"apps/v1 StatefulSet":                     func() Typed { return &appsv1.StatefulSet{} },
	"autoscaling/v2 HorizontalPodAutoscaler":  func() Typed { return &autoscalingv2.HorizontalPodAutoscaler{} },
	"batch/v1 CronJob":                        func() Typed { return &batchv1.CronJob{} },
	"batch/v1 Job":                            func() Typed { return &batchv1.Job{} },
	"gateway.networking.k8s.io/v1 HTTPRoute":  func() Typed { return &gatewayv1.HTTPRoute{} },
	"monitoring.coreos.com/v1 PodMonitor":     func() Typed { return &monitoringv1.PodMonitor{} },
	"monitoring.coreos.com/v1 PrometheusRule": func() Typed { return &monitoringv1.PrometheusRule{} },
	"monitoring.coreos.com/v1 ServiceMonitor": func() Typed { return &monitoringv1.ServiceMonitor{} },
	"networking.k8s.io/v1 Ingress":            func() Typed { return &networkingv1.Ingress{} },
	"networking.k8s.io/v1 NetworkPolicy":      func() Typed { return &networkingv1.NetworkPolicy{} },
	"policy/v1 PodDisruptionBudget":           func() Typed { return &policyv1.PodDisruptionBudget{} },
	"v1 ConfigMap":                            func() Typed { return &corev1.ConfigMap{} },
	"v1 Pod":                                  func() Typed { return &corev1.Pod{} },
	"v1 Secret":                               func() Typed { return &corev1.Secret{} },
	"v1 Service":                              func() Typed { return &corev1.Service{} },
	"v1 ServiceAccount":                       func() Typed { return &corev1.ServiceAccount{} },
}

// Object is one object of a release or of a manifest.
type Object struct {
	APIVersion, Kind, Name string
	// Text is the object as YAML, as it was written.
	Text []byte
	// Typed is a pointer to its API type.
	Typed Typed
}

// ID tells the objects of one namespace apart.
func (o Object) ID() string { return o.Kind + " " + o.Name }

// Hook returns when Helm makes the object beside the release itself, "" for never.
func (o Object) Hook() string { return o.Typed.GetAnnotations()["helm.sh/hook"] }

// Decode reads the documents of a YAML file into their API types. A field that
// the type does not have is an error, and so is one that is there twice, a kind
// that is not expected, and an object without a name.
func Decode(text []byte) ([]Object, error) {
	var out []Object
	documents := kyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		doc, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		var some any
		if err := yaml.Unmarshal(doc, &some); err == nil && some == nil {
			continue // nothing but comments
		}
		o, err := decode(doc)
		if err != nil {
			return nil, fmt.Errorf("%w in:\n%s", err, doc)
		}
		out = append(out, o)
	}
}

func decode(doc []byte) (Object, error) {
	var head struct {
		metav1.TypeMeta `json:",inline"`
	}
	if err := yaml.Unmarshal(doc, &head); err != nil {
		return Object{}, err
	}
	known := types[head.APIVersion+" "+head.Kind]
	if known == nil {
		return Object{}, fmt.Errorf("kind %q of %q is not known here", head.Kind, head.APIVersion)
	}
	typed := known()
	if err := yaml.UnmarshalStrict(doc, typed); err != nil {
		return Object{}, err
	}
	if typed.GetName() == "" {
		return Object{}, fmt.Errorf("a %s without a name", head.Kind)
	}
	return Object{APIVersion: head.APIVersion, Kind: head.Kind, Name: typed.GetName(), Text: doc, Typed: typed}, nil
}

// Find returns the object of type T that is called name.
func Find[T any](objects []Object, name string) (*T, error) {
	for _, o := range objects {
		if typed, ok := o.Typed.(any).(*T); ok && o.Name == name {
			return typed, nil
		}
	}
	var none T
	return nil, fmt.Errorf("there is no %T called %q", none, name)
}
