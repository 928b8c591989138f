package charttest

import (
	"os/exec"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"catbird/charts/test/chart"
	"catbird/charts/test/demands"
)

// demanded returns what the custom resources that the chart may make demand.
func demanded(t *testing.T) *demands.Demands {
	t.Helper()
	folders := map[string]string{
		"github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1": "",
		"sigs.k8s.io/gateway-api/apis/v1":                                           "",
	}
	for pkg := range folders {
		dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		folders[pkg] = strings.TrimSpace(string(dir))
	}
	d, err := demands.Read(folders)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A cluster that has the definitions of the custom resources takes the chart's.
func TestCustomResourcesAreAsDemanded(t *testing.T) {
	d, kinds := demanded(t), map[string]bool{}
	eachRelease(t, func(t *testing.T, r *chart.Release) {
		for _, o := range r.Objects {
			switch o.Typed.(type) {
			case *monitoringv1.ServiceMonitor, *monitoringv1.PodMonitor, *monitoringv1.PrometheusRule, *gatewayv1.HTTPRoute:
				kinds[o.Kind] = true
				if err := d.Check(o.Typed); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if len(kinds) != 4 {
		t.Errorf("only %v were looked at", kinds)
	}
}

// What a cluster would refuse is noticed.
func TestCustomResourcesThatAreNotAsDemanded(t *testing.T) {
	d := demanded(t)
	for text, want := range map[string]string{
		`{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {name: a}, spec: {selector: {}, endpoints: [{port: http, interval: 1 minute}]}}`:  `ServiceMonitor.spec.endpoints[0].interval: "1 minute"`,
		`{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {name: a}, spec: {selector: {}}}`:                                                 `ServiceMonitor.spec.endpoints is missing`,
		`{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {name: a}, spec: {podMetricsEndpoints: [{portNumber: 70000}]}}`:                       `portNumber: "70000"`,
		`{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {name: a}, spec: {podMetricsEndpoints: [{relabelings: [{action: erase}]}]}}`:          `relabelings[0].action: "erase"`,
		`{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: a}, spec: {groups: [{name: g, rules: [{alert: A, expr: up, for: 5 m}]}]}}`: `rules[0].for: "5 m"`,
		`{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: a}, spec: {groups: [{rules: []}]}}`:                                        `groups[0].name is missing`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {hostnames: ["Chat_x"]}}`:                                         `hostnames[0]: "Chat_x"`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {rules: [{matches: [{path: {type: Begin, value: /}}]}]}}`:         `path.type: "Begin"`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {rules: [{timeouts: {request: 1d}}]}}`:                            `timeouts.request: "1d"`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {rules: [{backendRefs: [{name: s, port: 0}]}]}}`:                  `port: "0"`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {parentRefs: [{name: ""}]}}`:                                      `parentRefs[0].name`,
	} {
		objects, err := chart.Decode([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if err := d.Check(objects[0].Typed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is refused with %v, want %s", text, err, want)
		}
	}
}
