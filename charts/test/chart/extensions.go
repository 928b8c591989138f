package chart

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The kinds of Kubernetes' extensions, with the fields that the chart uses and no
// others: more would have to be looked up in their definitions first.

// ServiceMonitor is monitoring.coreos.com/v1 ServiceMonitor.
type ServiceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		JobLabel  string               `json:"jobLabel,omitempty"`
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []ScrapeEndpoint     `json:"endpoints"`
	} `json:"spec"`
}

// PodMonitor is monitoring.coreos.com/v1 PodMonitor.
type PodMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		JobLabel            string               `json:"jobLabel,omitempty"`
		Selector            metav1.LabelSelector `json:"selector"`
		PodMetricsEndpoints []ScrapeEndpoint     `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

// ScrapeEndpoint is where and how to scrape.
type ScrapeEndpoint struct {
	Port              string    `json:"port"`
	Path              string    `json:"path"`
	Interval          string    `json:"interval,omitempty"`
	ScrapeTimeout     string    `json:"scrapeTimeout,omitempty"`
	Relabelings       []Relabel `json:"relabelings,omitempty"`
	MetricRelabelings []Relabel `json:"metricRelabelings,omitempty"`
}

// Relabel is one step of relabelling.
type Relabel struct {
	SourceLabels []string `json:"sourceLabels,omitempty"`
	Separator    *string  `json:"separator,omitempty"`
	TargetLabel  string   `json:"targetLabel,omitempty"`
	Regex        string   `json:"regex,omitempty"`
	Modulus      uint64   `json:"modulus,omitempty"`
	Replacement  *string  `json:"replacement,omitempty"`
	Action       string   `json:"action,omitempty"`
}

// PrometheusRule is monitoring.coreos.com/v1 PrometheusRule.
type PrometheusRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              RuleFile `json:"spec"`
}

// RuleFile is a file of rules, as Prometheus itself reads it.
type RuleFile struct {
	Groups []RuleGroup `json:"groups"`
}

// RuleGroup is evaluated as a whole.
type RuleGroup struct {
	Name     string            `json:"name"`
	Interval string            `json:"interval,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Rules    []Rule            `json:"rules"`
}

// Rule records a series or raises an alert.
type Rule struct {
	Record        string            `json:"record,omitempty"`
	Alert         string            `json:"alert,omitempty"`
	Expr          string            `json:"expr"`
	For           string            `json:"for,omitempty"`
	KeepFiringFor string            `json:"keep_firing_for,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// HTTPRoute is gateway.networking.k8s.io/v1 HTTPRoute.
type HTTPRoute struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ParentRefs []ParentRef `json:"parentRefs"`
		Hostnames  []string    `json:"hostnames,omitempty"`
		Rules      []RouteRule `json:"rules"`
	} `json:"spec"`
}

// ParentRef names a Gateway.
type ParentRef struct {
	Group       string `json:"group,omitempty"`
	Kind        string `json:"kind,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name"`
	SectionName string `json:"sectionName,omitempty"`
	Port        int32  `json:"port,omitempty"`
}

// RouteRule sends what matches to a service.
type RouteRule struct {
	Matches []struct {
		Path struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"path"`
	} `json:"matches"`
	Timeouts *struct {
		Request string `json:"request"`
	} `json:"timeouts,omitempty"`
	BackendRefs []struct {
		Name string `json:"name"`
		Port int32  `json:"port"`
	} `json:"backendRefs"`
}
