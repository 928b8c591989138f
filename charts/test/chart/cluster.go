package chart

import (
	"context"

	"helm.sh/helm/v4/pkg/engine"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// With returns a cluster in which `lookup` finds one Secret, as an upgrade does,
// and nothing else.
func With(secret *corev1.Secret) engine.ClientProvider { return &cluster{secret: secret} }

type cluster struct {
	dynamic.NamespaceableResourceInterface // what is not used
	namespace                              string
	secret                                 *corev1.Secret
}

func (c *cluster) GetClientFor(_, _ string) (dynamic.NamespaceableResourceInterface, bool, error) {
	return c, true, nil
}

func (c *cluster) Namespace(name string) dynamic.ResourceInterface {
	c.namespace = name
	return c
}

func (c *cluster) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	if name != c.secret.Name || c.namespace != c.secret.Namespace {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
	}
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c.secret)
	return &unstructured.Unstructured{Object: tree}, err
}
