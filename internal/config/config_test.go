package config

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load does what a program does: parse, complete, validate.
func load(t *testing.T, args ...string) (Config, error) {
	t.Helper()
	if err := ForgetEmpty(); err != nil {
		return Config{}, err
	}
	var c Config
	k, err := kong.New(&c, kong.Exit(func(int) {}))
	if err != nil {
		t.Fatalf("the declaration does not parse: %v", err)
	}
	if _, err := k.Parse(args); err != nil {
		return c, err
	}
	if err := c.Complete(); err != nil {
		return c, err
	}
	return c, c.Check()
}

// The variables, their defaults included, are a contract with operators.
func TestVariables(t *testing.T) {
	want := map[string]string{
		"SERVER_HOST": "0.0.0.0", "SERVER_PORT": "8080", "INTERNAL_HOST": "", "INTERNAL_PORT": "8081",
		"DATABASE_URL": "", "DATABASE_MAX_CONNECTIONS": "20", "DATA_DIR": "./data", "REDIS_URL": "",
		"ENABLE_ACTOR_SYSTEM": "false", "ACTOR_ROLLOUT_PERCENT": "100", "ACTOR_IDLE_TIMEOUT": "1h",
		"ACTOR_MAX": "100000", "ACTOR_MAILBOX_SIZE": "1024", "NODE_NAME": "", "GOSSIP_HOST": "0.0.0.0",
		"GOSSIP_PORT": "7946", "GOSSIP_ADVERTISE": "", "GOSSIP_JOIN": "", "GOSSIP_KEY": "",
		"CLUSTER_LABEL": "catbird", "CLUSTER_SECRET": "", "LEASE_TTL": "5s", "HANDOFF_CONCURRENCY": "2", "MAX_MEMBERS": "1000",
		"REMOVE_POLICY": "creator", "MESSAGE_RETENTION": "720h", "COMMIT_RETENTION": "0s",
		"DRAIN_DELAY": "0s", "DRAIN_TIMEOUT": "30s", "JWT_SECRET": "", "SERVICE_DID": "", "ENFORCE_LXM": "false",
		"ENFORCE_JTI": "true", "JTI_TTL_SECONDS": "120", "LOG_LEVEL": "info", "LOG_FORMAT": "json",
		"MAX_CONNECTIONS": "10000", "MAX_IN_FLIGHT": "2048", "REQUEST_TIMEOUT": "30s",
		"RATE_LIMIT_RPS": "0", "RATE_LIMIT_BURST": "0",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "", "OTEL_SERVICE_NAME": "",
		"OTEL_TRACES_SAMPLER": "parentbased_always_on", "OTEL_TRACES_SAMPLER_ARG": "",
	}
	var c Config
	k, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range k.Model.Flags {
		if f.Name == "help" {
			continue
		}
		if len(f.Tag.Envs) != 1 {
			t.Errorf("--%s has no variable behind it", f.Name)
			continue
		}
		env := f.Tag.Envs[0]
		def, known := want[env]
		if !known {
			t.Errorf("%s is not in the contract", env)
		}
		if f.Default != def {
			t.Errorf("default of %s = %q, want %q", env, f.Default, def)
		}
		if flag := strings.ToLower(strings.ReplaceAll(env, "_", "-")); f.Name != flag {
			t.Errorf("the flag of %s is --%s, want --%s", env, f.Name, flag)
		}
		help := Help(f.Value)
		if f.Help == "" || !strings.Contains(help, "$"+env) || !strings.Contains(help, def) {
			t.Errorf("--help of %s does not tell what it is, its default and its variable: %q", env, help)
		}
		if f.Group == nil {
			t.Errorf("--%s belongs to no group of --help", f.Name)
		}
		delete(want, env)
	}
	for env := range want {
		t.Errorf("%s is missing", env)
	}
}

func TestDefaultIsValid(t *testing.T) {
	t.Setenv("ACTOR_MAX", "7") // not read by Default
	c := Default()
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatalf("the defaults are refused: %v", err)
	}
	if c.Actors.Max != 100000 || bool(c.Actors.Enable) || !bool(c.Auth.EnforceJTI) || c.Cluster.LeaseTTL != 5*time.Second {
		t.Errorf("not the defaults: %+v", c)
	}
	if c.Cluster.NodeName == "" || c.Server.InternalHost != "0.0.0.0" {
		t.Errorf("not completed: node %q, internal host %q", c.Cluster.NodeName, c.Server.InternalHost)
	}
}

func TestValuesFromVariablesAndFlags(t *testing.T) {
	t.Setenv("ENABLE_ACTOR_SYSTEM", "1")
	t.Setenv("ENFORCE_JTI", "0")
	t.Setenv("ACTOR_MAX", "5")
	t.Setenv("MESSAGE_RETENTION", "0")
	t.Setenv("SERVER_HOST", "") // not set, as templates write it
	t.Setenv("GOSSIP_JOIN", "a:1, b.example:7946")
	t.Setenv("REDIS_URL", "redis://localhost/0")
	t.Setenv("DATABASE_URL", "postgresql://localhost/catbird")
	t.Setenv("CLUSTER_SECRET", "s")
	c, err := load(t, "--actor-max=6", "--enforce-lxm", "--remove-policy=member", "--rate-limit-rps=2.5")
	if err != nil {
		t.Fatal(err)
	}
	if !bool(c.Actors.Enable) || bool(c.Auth.EnforceJTI) || !bool(c.Auth.EnforceLXM) {
		t.Errorf("switches: %v %v %v", c.Actors.Enable, c.Auth.EnforceJTI, c.Auth.EnforceLXM)
	}
	if c.Actors.Max != 6 || c.Server.Host != "0.0.0.0" || c.Limits.RateBurst != 5 {
		t.Errorf("max %d, host %q, burst %d", c.Actors.Max, c.Server.Host, c.Limits.RateBurst)
	}
	if got := fmt.Sprint(c.Cluster.GossipJoin); got != "[a:1 b.example:7946]" {
		t.Errorf("join = %s", got)
	}
	p := c.ConversationPolicy()
	if !p.AnyMemberRemoves || p.Retention != 0 || p.MaxMembers != 1000 {
		t.Errorf("policy = %+v", p)
	}
	if c.Embedded() || !c.Clustered() {
		t.Errorf("embedded %v, clustered %v", c.Embedded(), c.Clustered())
	}
}

func TestBadValuesNameTheirVariable(t *testing.T) {
	const key31 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
	for env, values := range map[string][]string{
		"ENABLE_ACTOR_SYSTEM":      {"yes", "TRUE", "on", "2", "", " true"},
		"ENFORCE_LXM":              {"no"},
		"ENFORCE_JTI":              {"True"},
		"SERVER_PORT":              {"http", "-1", "65536"},
		"INTERNAL_PORT":            {"8080", "99999"},
		"SERVER_HOST":              {"a b", "http://x", "x:80"},
		"DATABASE_URL":             {"mysql://u:hunter2@h/d", "host=x password=hunter2", "postgres:/hunter2"},
		"DATABASE_MAX_CONNECTIONS": {"0", "2", "many"},
		"REDIS_URL":                {"http://:hunter2@h"},
		"ACTOR_ROLLOUT_PERCENT":    {"-1", "101", "half"},
		"ACTOR_IDLE_TIMEOUT":       {"60", "0s", "-1h"},
		"ACTOR_MAX":                {"0"},
		"ACTOR_MAILBOX_SIZE":       {"0", "1e3"},
		"NODE_NAME":                {"a b", strings.Repeat("n", 64)},
		"CLUSTER_LABEL":            {"ü"},
		"GOSSIP_PORT":              {"70000"},
		"GOSSIP_HOST":              {"x/y"},
		"GOSSIP_KEY":               {"short", key31},
		"HANDOFF_CONCURRENCY":      {"0", "65", "all"},
		"LEASE_TTL":                {"100ms", "1h", "5"},
		"MAX_MEMBERS":              {"0"},
		"REMOVE_POLICY":            {"anyone", "Member"},
		"MESSAGE_RETENTION":        {"-1h", "30d", "1ms"},
		"COMMIT_RETENTION":         {"-1h"},
		"DRAIN_DELAY":              {"-1s", "x"},
		"DRAIN_TIMEOUT":            {"0s"},
		"SERVICE_DID":              {"example.com"},
		"JTI_TTL_SECONDS":          {"0", "2m"},
		"MAX_CONNECTIONS":          {"0"},
		"MAX_IN_FLIGHT":            {"0"},
		"REQUEST_TIMEOUT":          {"0s"},
		"RATE_LIMIT_RPS":           {"-1", "NaN"},
		"RATE_LIMIT_BURST":         {"-1"},
		"LOG_LEVEL":                {"loud", "info,debug", "info,=debug", "actor=x"},
		"LOG_FORMAT":               {"xml"},

		"OTEL_EXPORTER_OTLP_ENDPOINT":        {"collector:4318", "grpc://u:hunter2@h", "http://", "http://h:port"},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": {"/v1/traces"},
	} {
		for _, v := range values {
			t.Run(env+"="+v, func(t *testing.T) {
				if env == "REDIS_URL" {
					t.Setenv("CLUSTER_SECRET", "s")
				}
				t.Setenv(env, v)
				_, err := load(t)
				if err == nil {
					t.Fatal("accepted")
				}
				if !strings.Contains(err.Error(), env) {
					t.Errorf("the error does not name the variable: %v", err)
				}
				if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("the error has several lines or tells a password: %q", err)
				}
			})
		}
	}
}

func TestImpossibleCombinations(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string
		want string
	}{
		{"redis without secret", map[string]string{"REDIS_URL": "redis://h"}, "CLUSTER_SECRET"},
		{"join without secret", map[string]string{"GOSSIP_JOIN": "h:1"}, "CLUSTER_SECRET"},
		{"join without redis", map[string]string{"GOSSIP_JOIN": "h:1", "CLUSTER_SECRET": "s"}, "GOSSIP_JOIN"},
		{"join on the embedded database", map[string]string{
			"GOSSIP_JOIN": "h:1", "CLUSTER_SECRET": "s", "REDIS_URL": "redis://h",
		}, "GOSSIP_JOIN"},
		{"join without port", map[string]string{
			"GOSSIP_JOIN": "h", "CLUSTER_SECRET": "s", "REDIS_URL": "redis://h", "DATABASE_URL": "postgres://h/d",
		}, "GOSSIP_JOIN"},
		{"one port for both", map[string]string{"SERVER_PORT": "9000", "INTERNAL_PORT": "9000"}, "INTERNAL_PORT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			if _, err := load(t); err == nil || !strings.HasPrefix(err.Error(), c.want+":") {
				t.Errorf("err = %v, want one of %s", err, c.want)
			}
		})
	}
}

func TestNodesOfOneProcessShareTheEmbeddedDatabase(t *testing.T) {
	c := Default()
	c.Cluster.GossipJoin, c.Cluster.RedisURL, c.Cluster.Secret = []string{"h:1"}, "redis://h", "s"
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	if err := c.CheckShared(); err != nil {
		t.Error(err)
	}
	if c.Check() == nil {
		t.Error("several processes may open the embedded database")
	}
	c.Server.Port = -1
	if c.CheckShared() == nil {
		t.Error("a bad port is accepted")
	}
}

func TestGossipKeys(t *testing.T) {
	c := Cluster{GossipKey: "AAAAAAAAAAAAAAAAAAAAAA==, AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="}
	keys, err := c.GossipKeys()
	if err != nil || len(keys) != 2 || len(keys[0]) != 16 || len(keys[1]) != 32 {
		t.Errorf("keys = %x, %v", keys, err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c := Default()
	c.Auth.JWTSecret, c.Database.URL, c.Cluster.Secret = "hunter2", "postgres://u:hunter2@h/d", "hunter2"
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("config", "config", c, "secret", c.Cluster.Secret)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		fmt.Fprintf(&out, format, c)
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Errorf("a secret was printed: %s", out.String())
	}
	if c.Auth.JWTSecret.Reveal() != "hunter2" {
		t.Error("Reveal does not return the value")
	}
}
