package chart

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// Pod returns the pod that the object is or makes, nil for none. The labels are
// those that the pod has.
func (o Object) Pod() *corev1.PodTemplateSpec {
	switch t := o.Typed.(type) {
	case *appsv1.StatefulSet:
		return &t.Spec.Template
	case *batchv1.Job:
		return &t.Spec.Template
	case *batchv1.CronJob:
		return &t.Spec.JobTemplate.Spec.Template
	case *corev1.Pod:
		return &corev1.PodTemplateSpec{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	}
	return nil
}
