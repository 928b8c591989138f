package charttest

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"catbird/charts/test/chart"
)

// Every pod of ours meets the Pod Security Standard "restricted", runs with a
// read-only root, asks the API for nothing, and says what it needs.
func TestPodsAreRestricted(t *testing.T) {
	eachRelease(t, func(t *testing.T, r *chart.Release) {
		for _, o := range r.Objects {
			if pod := o.Pod(); pod != nil {
				checkPod(t, o.ID(), &pod.Spec)
				checkContainer(t, o.ID(), &pod.Spec.Containers[0])
			}
		}
	})
}

func checkPod(t *testing.T, at string, p *corev1.PodSpec) {
	t.Helper()
	s := p.SecurityContext
	switch {
	case s == nil || !isTrue(s.RunAsNonRoot) || s.RunAsUser == nil || *s.RunAsUser == 0:
		t.Errorf("%s may run as root", at)
	case s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Errorf("%s has no seccomp profile", at)
	}
	if p.HostNetwork || p.HostPID || p.HostIPC {
		t.Errorf("%s shares the machine's namespaces", at)
	}
	if !isFalse(p.AutomountServiceAccountToken) {
		t.Errorf("%s mounts a token", at)
	}
	if !isFalse(p.EnableServiceLinks) {
		t.Errorf("%s gets variables for every Service of the namespace", at)
	}
	for _, v := range p.Volumes {
		if v.HostPath != nil {
			t.Errorf("%s mounts the machine's %s", at, v.HostPath.Path)
		}
	}
}

func checkContainer(t *testing.T, at string, c *corev1.Container) {
	t.Helper()
	s := c.SecurityContext
	if s == nil || !isFalse(s.AllowPrivilegeEscalation) || !isTrue(s.ReadOnlyRootFilesystem) ||
		s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
		t.Errorf("%s: %+v is not restricted", at, s)
	}
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

// Three ports are open, the internal one and gossip to nobody but the nodes, the
// daily check and the chart's tests, unless somebody else is named.
func TestNetworkPolicyLetsInWhatIsNeeded(t *testing.T) {
	policy := find[networkingv1.NetworkPolicy](t, render(t, "").Objects, "catbird")
	open := map[string]int{}
	for _, rule := range policy.Spec.Ingress {
		for _, p := range rule.Ports {
			open[p.Port.StrVal+"/"+string(*p.Protocol)] = len(rule.From)
		}
		for _, from := range rule.From {
			if from.PodSelector == nil || from.NamespaceSelector != nil || from.PodSelector.MatchLabels["app.kubernetes.io/instance"] != "catbird" {
				t.Errorf("lets in %+v", from)
			}
		}
	}
	want := map[string]int{"http/TCP": 0, "internal/TCP": 3, "gossip-tcp/TCP": 1, "gossip-udp/UDP": 1}
	for port, from := range want {
		if n, ok := open[port]; !ok || n != from {
			t.Errorf("%s is open to %d (%v), want %d", port, n, ok, from)
		}
	}
	if len(open) != len(want) || !slices.Equal(policy.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}) {
		t.Errorf("open are %v, policy %v", open, policy.Spec.PolicyTypes)
	}
	named := find[networkingv1.NetworkPolicy](t, render(t, `{networkPolicy: {clients: [{namespaceSelector: {}}], internal: [{namespaceSelector: {}}]}}`).Objects, "catbird")
	if n := len(named.Spec.Ingress[0].From); n != 2 {
		t.Errorf("with one that is named, %d may reach the clients' port, want it and the chart's tests", n)
	}
	if n := len(named.Spec.Ingress[1].From); n != 4 {
		t.Errorf("with one that is named, %d may reach the internal port, want 4", n)
	}
}
