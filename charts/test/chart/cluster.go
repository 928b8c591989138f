package chart

import (
	"context"
	"reflect"

	"helm.sh/helm/v4/pkg/engine"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// With returns a cluster in which `lookup` finds these objects by their names, as
// an upgrade does, and nothing else. Each is a pointer to its API type.
func With(objects ...metav1.Object) engine.ClientProvider { return cluster(objects) }

type cluster []metav1.Object

func (c cluster) GetClientFor(_, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	return &shelf{objects: c, kind: kind}, true, nil
}

// shelf are the objects of one kind, in one namespace.
type shelf struct {
	dynamic.NamespaceableResourceInterface // what is not used
	objects                                []metav1.Object
	kind, namespace                        string
}

func (s *shelf) Namespace(name string) dynamic.ResourceInterface {
	return &shelf{objects: s.objects, kind: s.kind, namespace: name}
}

func (s *shelf) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	for _, o := range s.objects {
		if kind := reflect.TypeOf(o).Elem().Name(); kind == s.kind && o.GetName() == name && o.GetNamespace() == s.namespace {
			tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
			return &unstructured.Unstructured{Object: tree}, err
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: s.kind}, name)
}
