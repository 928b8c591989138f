package rehearsal

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"catbird/charts/test/chart"
	"catbird/charts/test/manifests"
)

// Plan is what Kubernetes does to the nodes' pods of one rendering.
type Plan struct {
	Sets    []Set    `json:"sets"` // in the order in which they are rendered
	Budgets []Budget `json:"budgets"`
}

// Set is a StatefulSet. Times are in seconds.
type Set struct {
	Name string `json:"name"`
	// Replicas are the pods at first. An autoscaler keeps between that and
	// MaxReplicas; 0: there is none.
	Replicas    int `json:"replicas"`
	MaxReplicas int `json:"maxReplicas"`
	// Management is Parallel or OrderedReady, Update RollingUpdate or OnDelete. A
	// rolling update goes down to the ordinal Partition, and each pod must have been
	// ready for MinReadySeconds before the next one is stopped.
	Management      string `json:"management"`
	Update          string `json:"update"`
	Partition       int    `json:"partition"`
	MinReadySeconds int    `json:"minReadySeconds"`
	// Clients says whether the clients' service selects the pods.
	Clients bool `json:"clients"`
	// Settings are the variables of ConfigMaps. They are read when a container
	// starts, whichever template it is of.
	Settings map[string]string `json:"settings"`

	Template `json:"template"`
}

// Template is what pods of one revision have in common.
type Template struct {
	// Revision differs wherever two templates do, as the name of a ControllerRevision.
	Revision string   `json:"revision"`
	Image    string   `json:"image"`
	Args     []string `json:"args"`
	// A pod is stopped by a wait of PreStopSeconds, then SIGTERM; it is killed
	// TerminationGracePeriodSeconds after the beginning of that wait.
	PreStopSeconds                int `json:"preStopSeconds"`
	TerminationGracePeriodSeconds int `json:"terminationGracePeriodSeconds"`

	Startup   *Probe `json:"startupProbe"`
	Liveness  *Probe `json:"livenessProbe"`
	Readiness *Probe `json:"readinessProbe"`

	Ports map[string]int32 `json:"ports"`
	// Env are the variables that the template spells out, which win over Settings;
	// From says where the others come from: "secret NAME KEY" or "field PATH".
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

// Variables returns the variables of a container that are known.
func (s *Set) Variables() map[string]string {
	all := maps.Clone(s.Settings)
	for name := range s.From {
		delete(all, name)
	}
	maps.Copy(all, s.Env)
	return all
}

// name is what the chart's objects are called here, whatever the values say.
const name = "catbird"

// Chart returns the plan of the chart in dir, with the values of files, later ones
// above earlier ones. Secrets are those of a release that is there already: what
// the chart would make anew is the same in every plan.
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
	const namespace = "chat"
	made := &corev1.Secret{Data: map[string][]byte{"CLUSTER_SECRET": []byte("kept"), "GOSSIP_KEY": []byte("kept")}}
	made.Name, made.Namespace = name, namespace
	r, err := c.Render(chart.Merge(values, chart.Values{"fullnameOverride": name, "namespaceOverride": namespace}),
		chart.Options{Cluster: chart.With(made)})
	if err != nil {
		return nil, err
	}
	return Of(r.Objects)
}

// Write writes the plan as JSON.
func (p *Plan) Write(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(p)
}

// Of returns the plan of what was rendered under the name catbird.
func Of(objects []chart.Object) (*Plan, error) {
	p := &Plan{Budgets: []Budget{}}
	for _, o := range objects {
		if _, ok := o.Typed.(*appsv1.StatefulSet); !ok {
			continue
		}
		set, err := SetOf(objects, o.Name)
		if err != nil {
			return nil, err
		}
		p.Sets = append(p.Sets, *set)
	}
	var err error
	p.Budgets, err = budgets(objects)
	return p, err
}

// SetOf returns the set that is called name.
func SetOf(objects []chart.Object, name string) (*Set, error) {
	k, err := chart.Find[appsv1.StatefulSet](objects, name)
	if err != nil {
		return nil, err
	}
	s := &Set{
		Name: name, Replicas: 1, Management: string(k.Spec.PodManagementPolicy), Update: string(k.Spec.UpdateStrategy.Type),
		MinReadySeconds: int(k.Spec.MinReadySeconds), Settings: map[string]string{},
	}
	if rolling := k.Spec.UpdateStrategy.RollingUpdate; rolling != nil {
		s.Partition = int(*rolling.Partition)
	}
	if scaler := scalerOf(objects, name); scaler != nil {
		s.Replicas, s.MaxReplicas = int(*scaler.Spec.MinReplicas), int(scaler.Spec.MaxReplicas)
	} else if k.Spec.Replicas != nil {
		s.Replicas = int(*k.Spec.Replicas)
	}
	if s.Clients, err = served(objects, k); err != nil {
		return nil, err
	}
	c := k.Spec.Template.Spec.Containers[0]
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef == nil {
			continue
		}
		m, err := chart.Find[corev1.ConfigMap](objects, from.ConfigMapRef.Name)
		if err != nil {
			return nil, err
		}
		maps.Copy(s.Settings, m.Data)
	}
	s.Template, err = templateOf(&k.Spec.Template)
	return s, err
}

func templateOf(pod *corev1.PodTemplateSpec) (Template, error) {
	text, err := json.Marshal(pod)
	if err != nil {
		return Template{}, err
	}
	sum := sha256.Sum256(text)
	c := pod.Spec.Containers[0]
	t := Template{
		Revision: hex.EncodeToString(sum[:5]), Image: c.Image, Args: c.Args,
		TerminationGracePeriodSeconds: int(*pod.Spec.TerminationGracePeriodSeconds),
		Ports:                         map[string]int32{}, Env: map[string]string{}, From: map[string]string{},
	}
	for _, port := range c.Ports {
		t.Ports[port.Name] = port.ContainerPort
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		if c.Lifecycle.PreStop.Sleep == nil {
			return t, errors.New("the hook before a stop does something else than wait")
		}
		t.PreStopSeconds = int(c.Lifecycle.PreStop.Sleep.Seconds)
	}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if probe != nil && probe.HTTPGet == nil {
			return t, errors.New("a probe does something else than GET")
		}
		if probe != nil && probe.HTTPGet.Port.StrVal != "http" {
			return t, fmt.Errorf("a probe asks port %s, and nodes answer it on http alone", probe.HTTPGet.Port.String())
		}
	}
	t.Startup, t.Liveness, t.Readiness = t.probe(c.StartupProbe), t.probe(c.LivenessProbe), t.probe(c.ReadinessProbe)
	for _, e := range c.Env {
		switch from := e.ValueFrom; {
		case from == nil:
			t.Env[e.Name] = e.Value
		case from.SecretKeyRef != nil:
			t.From[e.Name] = fmt.Sprintf("secret %s %s", from.SecretKeyRef.Name, from.SecretKeyRef.Key)
		case from.FieldRef != nil:
			t.From[e.Name] = "field " + from.FieldRef.FieldPath
		default:
			return t, fmt.Errorf("variable %s comes from somewhere unknown", e.Name)
		}
	}
	return t, nil
}

// probe returns a probe with what Kubernetes takes where nothing is said.
func (t *Template) probe(k *corev1.Probe) *Probe {
	if k == nil {
		return nil
	}
	return &Probe{
		Path: k.HTTPGet.Path, Port: t.Ports[k.HTTPGet.Port.StrVal], InitialDelaySeconds: k.InitialDelaySeconds,
		PeriodSeconds: cmp.Or(k.PeriodSeconds, 10), TimeoutSeconds: cmp.Or(k.TimeoutSeconds, 1),
		SuccessThreshold: cmp.Or(k.SuccessThreshold, 1), FailureThreshold: cmp.Or(k.FailureThreshold, 3),
	}
}
