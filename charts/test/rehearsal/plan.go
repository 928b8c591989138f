package rehearsal

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"catbird/charts/test/chart"
	"catbird/charts/test/manifests"
)

// Plan is what Kubernetes does to the pods of one set, in seconds and in the order
// of the pods' ordinals.
type Plan struct {
	Name     string `json:"name"`
	Replicas int    `json:"replicas"`
	// Update is RollingUpdate or OnDelete. Order are the ordinals that an update
	// replaces, one after another: each must have been ready for MinReadySeconds
	// before the next one is stopped.
	Update          string `json:"update"`
	Order           []int  `json:"order"`
	MinReadySeconds int    `json:"minReadySeconds"`
	// A pod is stopped by a wait of PreStopSeconds, then SIGTERM; it is killed
	// TerminationGracePeriodSeconds after the beginning of that wait.
	PreStopSeconds                int `json:"preStopSeconds"`
	TerminationGracePeriodSeconds int `json:"terminationGracePeriodSeconds"`

	Startup   *Probe `json:"startupProbe"`
	Liveness  *Probe `json:"livenessProbe"`
	Readiness *Probe `json:"readinessProbe"`

	Args  []string         `json:"args"`
	Ports map[string]int32 `json:"ports"`
	// Env are the variables that are known; From says where the others come
	// from: "secret NAME KEY" or "field PATH".
	Env  map[string]string `json:"env"`
	From map[string]string `json:"envFrom"`
}

// Probe asks by GET. A status from 200 to 399 is success.
type Probe struct {
	Path                string `json:"path"`
	Port                int32  `json:"port"`
	InitialDelaySeconds int32  `json:"initialDelaySeconds"`
	PeriodSeconds       int32  `json:"periodSeconds"`
	TimeoutSeconds      int32  `json:"timeoutSeconds"`
	SuccessThreshold    int32  `json:"successThreshold"`
	FailureThreshold    int32  `json:"failureThreshold"`
}

// Chart returns the plan of the nodes of the chart in dir, with the values of
// files, later ones above earlier ones.
func Chart(dir string, files ...string) (*Plan, error) {
	values := chart.Values{}
	for _, file := range files {
		more, err := manifests.ReadValues(file)
		if err != nil {
			return nil, err
		}
		values = chart.Merge(values, more)
	}
	c, err := chart.Open(dir)
	if err != nil {
		return nil, err
	}
	// A name of ours, whatever the values call the objects of the release.
	const name = "catbird"
	r, err := c.Render(chart.Merge(values, chart.Values{"fullnameOverride": name}), chart.Options{})
	if err != nil {
		return nil, err
	}
	return Of(r.Objects, name)
}

// Write writes the plan as JSON.
func (p *Plan) Write(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(p)
}

// Of returns the plan of the set that is called name.
func Of(objects []chart.Object, name string) (*Plan, error) {
	set, err := chart.Find[appsv1.StatefulSet](objects, name)
	if err != nil {
		return nil, err
	}
	pod := set.Spec.Template.Spec
	c := pod.Containers[0]
	p := &Plan{
		Name: name, Replicas: 1, Update: string(set.Spec.UpdateStrategy.Type), MinReadySeconds: int(set.Spec.MinReadySeconds),
		TerminationGracePeriodSeconds: int(*pod.TerminationGracePeriodSeconds),
		Args:                          c.Args, Ports: map[string]int32{}, Env: map[string]string{}, From: map[string]string{},
	}
	if set.Spec.Replicas != nil {
		p.Replicas = int(*set.Spec.Replicas)
	}
	if rolling := set.Spec.UpdateStrategy.RollingUpdate; rolling != nil {
		p.Order = order(p.Replicas, int(*rolling.Partition))
	}
	for _, port := range c.Ports {
		p.Ports[port.Name] = port.ContainerPort
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		p.PreStopSeconds = int(c.Lifecycle.PreStop.Sleep.Seconds)
	}
	p.Startup, p.Liveness, p.Readiness = p.probe(c.StartupProbe), p.probe(c.LivenessProbe), p.probe(c.ReadinessProbe)
	return p, p.environment(objects, &c)
}

// order returns the ordinals from the highest one down to the partition.
func order(replicas, partition int) []int {
	out := []int{}
	for i := partition; i < replicas; i++ {
		out = append(out, i)
	}
	slices.Reverse(out)
	return out
}

func (p *Plan) probe(k *corev1.Probe) *Probe {
	if k == nil {
		return nil
	}
	return &Probe{
		Path: k.HTTPGet.Path, Port: p.Ports[k.HTTPGet.Port.StrVal],
		InitialDelaySeconds: k.InitialDelaySeconds, PeriodSeconds: k.PeriodSeconds, TimeoutSeconds: k.TimeoutSeconds,
		SuccessThreshold: max(1, k.SuccessThreshold), FailureThreshold: k.FailureThreshold,
	}
}

// environment collects the variables as a kubelet does: those of ConfigMaps first,
// then those that are written out.
func (p *Plan) environment(objects []chart.Object, c *corev1.Container) error {
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef == nil {
			continue
		}
		m, err := chart.Find[corev1.ConfigMap](objects, from.ConfigMapRef.Name)
		if err != nil {
			return err
		}
		for name, value := range m.Data {
			p.Env[name] = value
		}
	}
	for _, e := range c.Env {
		delete(p.Env, e.Name)
		switch from := e.ValueFrom; {
		case from == nil:
			p.Env[e.Name] = e.Value
		case from.SecretKeyRef != nil:
			p.From[e.Name] = fmt.Sprintf("secret %s %s", from.SecretKeyRef.Name, from.SecretKeyRef.Key)
		case from.FieldRef != nil:
			p.From[e.Name] = "field " + from.FieldRef.FieldPath
		default:
			return fmt.Errorf("variable %s comes from somewhere unknown", e.Name)
		}
	}
	return nil
}
