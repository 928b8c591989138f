package charttest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"catbird/charts/test/chart"
)

// outside are Secrets, ConfigMaps and the like that a release expects to be there.
var outside = map[string]bool{
	"Secret catbird-database": true, "Secret catbird-redis": true, "Secret catbird-cluster": true,
	"Secret mine": true, "Secret people": true, "Secret traces": true, "Secret registry": true,
	"Secret tls": true, "Secret chat-example-com": true,
	"ServiceAccount default": true, "ServiceAccount mine": true,
}

// What an object names is there: a Service that selects no pod, a port that has no
// name and a Secret that is called something else are all accepted by Kubernetes,
// and work for nobody.
func TestObjectsFindEachOther(t *testing.T) {
	eachRelease(t, func(t *testing.T, r *chart.Release) { checkReferences(t, r.Objects) })
}

func checkReferences(t *testing.T, objects []chart.Object) {
	t.Helper()
	for _, problem := range problems(t, objects) {
		t.Error(problem)
	}
}

// problems says what leads nowhere.
func problems(t *testing.T, objects []chart.Object) []string {
	t.Helper()
	w := &world{t: t, objects: objects, there: maps.Clone(outside)}
	for _, o := range objects {
		if w.at = o.ID(); w.there[o.ID()] {
			w.fail("is there twice, or called like one from outside")
		}
		w.there[o.ID()] = true
	}
	for _, o := range objects {
		w.at = o.ID()
		w.check(o)
	}
	return w.found
}

// Each of these is a slip in an object that is right otherwise.
func TestWhatLeadsNowhereIsFound(t *testing.T) {
	var text strings.Builder
	for _, o := range render(t, matrix["everything"]).Objects {
		text.WriteString("---\n" + string(o.Text) + "\n")
	}
	for _, slip := range []struct{ old, now, says string }{
		{"secretName: tls\n", "secretName: tsl\n", "names Secret tsl"},
		{"        - image: busybox\n", "        - image: busybox\n          env: [{name: A, valueFrom: {secretKeyRef: {name: nowhere, key: k}}}]\n", "names Secret nowhere"},
		{"        - image: busybox\n", "        - image: busybox\n          volumeMounts: [{name: nothing, mountPath: /x}]\n", "mounts nothing, which is no volume"},
		{"        - image: envoy\n", "        - image: envoy\n          env: [{name: B, valueFrom: {configMapKeyRef: {name: nocm, key: k}}}]\n", "names ConfigMap nocm"},
		{"        - image: envoy\n", "        - image: envoy\n          envFrom: [{secretRef: {name: nowhere}}]\n", "names Secret nowhere"},
		{"key: CLUSTER_SECRET\n", "key: CLUSTER_SECRETS\n", "has no key CLUSTER_SECRETS"},
		{"targetPort: internal\n", "targetPort: http\n", "port internal leads to http"},
		{"port: 8081\n", "port: 9999\n", "port internal is 9999"},
		{"publishNotReadyAddresses: true\n", "publishNotReadyAddresses: false\n", "hides pods that are not ready"},
		{"  type: LoadBalancer\n", "  type: LoadBalancer\n  publishNotReadyAddresses: true\n", "sends clients to pods that are not ready"},
		{"port: gossip-udp\n", "port: gossip\n", "no port gossip of UDP"},
		{"serviceAccountName: chat\n", "serviceAccountName: chit\n", "names ServiceAccount chit"},
	} {
		if !strings.Contains(text.String(), slip.old) {
			t.Errorf("nothing says %q", slip.old)
			continue
		}
		objects, err := chart.Decode([]byte(strings.ReplaceAll(text.String(), slip.old, slip.now)))
		if err != nil {
			t.Errorf("%q: %v", slip.now, err)
			continue
		}
		if got := strings.Join(problems(t, objects), "\n"); !strings.Contains(got, slip.says) {
			t.Errorf("%q: found %q, want %q", slip.now, got, slip.says)
		}
	}
}

// world is what a release makes.
type world struct {
	t       *testing.T
	objects []chart.Object
	there   map[string]bool
	at      string
	found   []string
}

func (w *world) fail(format string, args ...any) {
	w.found = append(w.found, fmt.Sprintf("%s: %s", w.at, fmt.Sprintf(format, args...)))
}

func (w *world) needs(kind, name string) {
	w.t.Helper()
	if !w.there[kind+" "+name] {
		w.fail("names %s %s, which is not there", kind, name)
	}
}

func (w *world) check(o chart.Object) {
	w.t.Helper()
	if pod := o.Pod(); pod != nil {
		w.pod(pod)
	}
	switch typed := o.Typed.(type) {
	case *appsv1.StatefulSet:
		w.set(typed)
	case *corev1.Service:
		w.service(typed)
	case *policyv1.PodDisruptionBudget:
		w.selects(typed.Spec.Selector, "node")
	case *networkingv1.NetworkPolicy:
		w.policy(typed)
	case *autoscalingv2.HorizontalPodAutoscaler:
		w.needs(typed.Spec.ScaleTargetRef.Kind, typed.Spec.ScaleTargetRef.Name)
	case *networkingv1.Ingress:
		for _, tls := range typed.Spec.TLS {
			w.needs("Secret", tls.SecretName)
		}
		for _, rule := range typed.Spec.Rules {
			for _, p := range rule.HTTP.Paths {
				w.servicePort(p.Backend.Service.Name, p.Backend.Service.Port.Name, p.Backend.Service.Port.Number)
			}
		}
	case *gatewayv1.HTTPRoute:
		for _, rule := range typed.Spec.Rules {
			for _, b := range rule.BackendRefs {
				w.servicePort(string(b.Name), "", *b.Port)
			}
		}
	case *monitoringv1.ServiceMonitor:
		w.scrape(typed)
	case *monitoringv1.PodMonitor:
		for _, pod := range w.selects(&typed.Spec.Selector, "node") {
			for _, e := range typed.Spec.PodMetricsEndpoints {
				w.portOf(pod, intstr.FromString(*e.Port), corev1.ProtocolTCP)
			}
		}
	}
}

// pod checks what a pod takes from elsewhere.
func (w *world) pod(pod *corev1.PodTemplateSpec) {
	w.t.Helper()
	w.needs("ServiceAccount", pod.Spec.ServiceAccountName)
	for _, s := range pod.Spec.ImagePullSecrets {
		w.needs("Secret", s.Name)
	}
	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
		if v.Secret != nil {
			w.needs("Secret", v.Secret.SecretName)
		}
		if v.ConfigMap != nil {
			w.needs("ConfigMap", v.ConfigMap.Name)
		}
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, from := range c.EnvFrom {
			if from.ConfigMapRef != nil {
				w.needs("ConfigMap", from.ConfigMapRef.Name)
			}
			if from.SecretRef != nil {
				w.needs("Secret", from.SecretRef.Name)
			}
		}
		seen := map[string]bool{}
		for _, e := range c.Env {
			if seen[e.Name] {
				w.fail("sets %s twice", e.Name)
			}
			seen[e.Name] = true
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				w.key(e.ValueFrom.SecretKeyRef)
			}
			if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
				w.needs("ConfigMap", e.ValueFrom.ConfigMapKeyRef.Name)
			}
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] && m.Name != "data" {
				w.fail("mounts %s, which is no volume", m.Name)
			}
		}
	}
}

// key checks that a Secret that the release makes has the key.
func (w *world) key(ref *corev1.SecretKeySelector) {
	w.t.Helper()
	w.needs("Secret", ref.Name)
	made, err := chart.Find[corev1.Secret](w.objects, ref.Name)
	if err == nil && len(made.Data[ref.Key]) == 0 {
		w.fail("Secret %s has no key %s", ref.Name, ref.Key)
	}
}

func (w *world) set(s *appsv1.StatefulSet) {
	w.t.Helper()
	w.needs("Service", s.Spec.ServiceName)
	if pods := w.selects(s.Spec.Selector, "node"); len(pods) != 1 {
		w.fail("selects the pods of %d sets", len(pods))
	}
	headless, err := chart.Find[corev1.Service](w.objects, s.Spec.ServiceName)
	if err == nil && (headless.Spec.ClusterIP != corev1.ClusterIPNone || !headless.Spec.PublishNotReadyAddresses) {
		w.fail("%s is not headless, or hides pods that are not ready", s.Spec.ServiceName)
	}
}

// service checks that a port leads to the pods' port of its name. Of a headless
// service the name leads straight to the pods, so that the number is theirs.
func (w *world) service(s *corev1.Service) {
	w.t.Helper()
	headless := s.Spec.ClusterIP == corev1.ClusterIPNone
	if s.Spec.PublishNotReadyAddresses && !headless {
		w.fail("sends clients to pods that are not ready")
	}
	for _, pod := range w.selects(&metav1.LabelSelector{MatchLabels: s.Spec.Selector}, "node") {
		for _, p := range s.Spec.Ports {
			if p.TargetPort.StrVal != p.Name {
				w.fail("port %s leads to %s", p.Name, p.TargetPort.String())
			}
			if number := w.portOf(pod, p.TargetPort, p.Protocol); headless && number != p.Port {
				w.fail("port %s is %d, and that of the pods %d", p.Name, p.Port, number)
			}
		}
	}
}

func (w *world) policy(p *networkingv1.NetworkPolicy) {
	w.t.Helper()
	for _, pod := range w.selects(&p.Spec.PodSelector, "node") {
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				w.portOf(pod, *port.Port, *port.Protocol)
			}
		}
	}
}

func (w *world) scrape(m *monitoringv1.ServiceMonitor) {
	w.t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
	if err != nil {
		w.t.Fatal(err)
	}
	found := 0
	for _, o := range w.objects {
		if s, ok := o.Typed.(*corev1.Service); ok && selector.Matches(labels.Set(s.Labels)) {
			found++
			for _, e := range m.Spec.Endpoints {
				w.servicePort(s.Name, e.Port, 0)
			}
		}
	}
	if found != 1 {
		w.fail("selects %d services: every node would be counted as often", found)
	}
}

// selects returns the pods that a selector finds, which are some and all of one
// component: a test's pod must not be sent clients.
func (w *world) selects(s *metav1.LabelSelector, component string) []*corev1.PodTemplateSpec {
	w.t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []*corev1.PodTemplateSpec
	for _, o := range w.objects {
		pod := o.Pod()
		if pod == nil || selector.Empty() || !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if pod.Labels["app.kubernetes.io/component"] != component {
			w.fail("selects the pods of %s", o.ID())
		}
		out = append(out, pod)
	}
	if len(out) == 0 {
		w.fail("selects no pod")
	}
	return out
}

// portOf returns the number of the pod's port that is meant, 0 for none.
func (w *world) portOf(pod *corev1.PodTemplateSpec, port intstr.IntOrString, protocol corev1.Protocol) int32 {
	w.t.Helper()
	for _, p := range pod.Spec.Containers[0].Ports {
		if p.Protocol == protocol && (p.Name == port.StrVal || p.ContainerPort == port.IntVal) {
			return p.ContainerPort
		}
	}
	w.fail("no port %s of %s", port.String(), protocol)
	return 0
}

func (w *world) servicePort(service, name string, number int32) {
	w.t.Helper()
	w.needs("Service", service)
	s, err := chart.Find[corev1.Service](w.objects, service)
	if err != nil {
		return
	}
	for _, p := range s.Spec.Ports {
		if (name != "" && p.Name == name) || (number != 0 && p.Port == number) {
			return
		}
	}
	w.fail("service %s has no port %s%d", service, name, number)
}
