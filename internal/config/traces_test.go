package config

import (
	"strings"
	"testing"
)

func TestWhereTracesGo(t *testing.T) {
	for _, c := range []struct{ endpoint, traces, want string }{
		{"", "", ""},
		{"http://collector:4318", "", "http://collector:4318/v1/traces"},
		{"https://collector/otlp/", "", "https://collector/otlp/v1/traces"},
		{"http://collector:4318", "http://other/here", "http://other/here"},
		{"", "http://other/here", "http://other/here"},
	} {
		if got := (Traces{Endpoint: c.endpoint, TracesEndpoint: c.traces}).URL(); got != c.want {
			t.Errorf("%q and %q lead to %q, want %q", c.endpoint, c.traces, got, c.want)
		}
	}
}

func TestSamplerIsCheckedWhereThereAreTraces(t *testing.T) {
	for env, v := range map[string]string{"OTEL_TRACES_SAMPLER": "jaeger_remote", "OTEL_TRACES_SAMPLER_ARG": "2"} {
		t.Run(env, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_SAMPLER", "traceidratio")
			t.Setenv(env, v)
			if _, err := load(t); err != nil {
				t.Errorf("refused although there are no traces: %v", err)
			}
			if _, err := load(t, "--otel-exporter-otlp-endpoint=http://h:4318"); err == nil || !strings.HasPrefix(err.Error(), env+":") {
				t.Errorf("err = %v, want one of %s", err, env)
			}
		})
	}
}
