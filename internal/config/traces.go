package config

import (
	"fmt"
	"net/url"

	"catbird/internal/obs"
)

// Traces is where traces go, by the names that OpenTelemetry gives its
// variables. Those that are not here, such as OTEL_EXPORTER_OTLP_HEADERS, its
// SDK reads by itself.
type Traces struct {
	Endpoint       string `name:"otel-exporter-otlp-endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" help:"http://… or https://… of a collector that takes traces by OTLP over HTTP, as a rule on port 4318; none: no traces."`
	TracesEndpoint string `name:"otel-exporter-otlp-traces-endpoint" env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" help:"The same with its path; none: OTEL_EXPORTER_OTLP_ENDPOINT and /v1/traces."`
	ServiceName    string `name:"otel-service-name" env:"OTEL_SERVICE_NAME" help:"What this service is called in traces; none: catbird."`
	Sampler        string `name:"otel-traces-sampler" env:"OTEL_TRACES_SAMPLER" default:"parentbased_always_on" help:"What is traced: always_on, always_off or traceidratio; with parentbased_ before it, only where the client has not decided."`
	SamplerArg     string `name:"otel-traces-sampler-arg" env:"OTEL_TRACES_SAMPLER_ARG" help:"Ratio of a traceidratio, 0 to 1; none: 1."`
}

// URL returns where traces are sent, "" for nowhere.
func (t Traces) URL() string {
	if t.TracesEndpoint != "" {
		return t.TracesEndpoint
	}
	if t.Endpoint == "" {
		return ""
	}
	u, err := url.JoinPath(t.Endpoint, "v1", "traces")
	if err != nil {
		return t.Endpoint // Check refuses it
	}
	return u
}

// validateTraces leaves alone what is not used: others read these variables too.
func (c *Config) validateTraces() error {
	t := c.Traces
	if t.URL() == "" {
		return nil
	}
	if _, err := obs.ParseSampler(t.Sampler, t.SamplerArg); err != nil {
		return err
	}
	return first(
		httpURL("OTEL_EXPORTER_OTLP_ENDPOINT", t.Endpoint),
		httpURL("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", t.TracesEndpoint),
	)
}

// httpURL checks a URL without repeating it: it may hold a password.
func httpURL(name, v string) error {
	if v == "" {
		return nil
	}
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%s: must be http://… or https://…", name)
	}
	return nil
}
