package obs

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"runtime/debug"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLevelsPerComponent(t *testing.T) {
	levels, err := ParseLevels("warn, actor=debug,router=error,actor.journal=trace")
	if err != nil {
		t.Fatal(err)
	}
	for component, want := range map[string]slog.Level{
		"": slog.LevelWarn, "cluster": slog.LevelWarn, "actor": slog.LevelDebug, "router": slog.LevelError,
		"actor.journal": LevelTrace, "actor.journal.x": LevelTrace, "actor.other": slog.LevelDebug, "actors": slog.LevelWarn,
	} {
		if got := levels.Of(component); got != want {
			t.Errorf("level of %q = %v, want %v", component, got, want)
		}
	}
}

func TestParseLevelsRefuses(t *testing.T) {
	for _, spec := range []string{"loud", "info,warn", "=debug", "actor=", "info,,debug", "actr=debug"} {
		if _, err := ParseLevels(spec); err == nil {
			t.Errorf("%q was accepted", spec)
		}
	}
	if l, err := ParseLevels(" "); err != nil || l.Of("x") != slog.LevelInfo {
		t.Errorf("nothing set: %v, %v", l, err)
	}
}

func TestLoggerFollowsItsComponent(t *testing.T) {
	levels, err := ParseLevels("info,actor=trace")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{FormatJSON, FormatText} {
		var out bytes.Buffer
		log := NewLogger(&out, levels, format)
		actor := log.With(ComponentKey, "actor")
		ctx := context.Background()
		log.Debug("app-debug")
		log.Info("app-info")
		log.WithGroup("g").With(ComponentKey, "actor").Debug("grouped-debug")
		actor.Log(ctx, LevelTrace, "actor-trace", "seq", 7)
		actor.With(ComponentKey, "router").Debug("router-debug")
		if actor.Enabled(ctx, LevelTrace-1) || !actor.Enabled(ctx, LevelTrace) {
			t.Error("the component's level is not the limit")
		}
		got := out.String()
		for _, want := range []string{"app-info", "actor-trace", "TRACE"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is missing in %s", format, want, got)
			}
		}
		for _, not := range []string{"app-debug", "grouped-debug", "router-debug"} {
			if strings.Contains(got, not) {
				t.Errorf("%s: %q was logged", format, not)
			}
		}
	}
}

func TestJSONLines(t *testing.T) {
	var out bytes.Buffer
	NewLogger(&out, Levels{}, FormatJSON).With(ComponentKey, "app").Info("ready", "port", 1)
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("not JSON: %v: %s", err, out.String())
	}
	if line["component"] != "app" || line["level"] != "INFO" || line["msg"] != "ready" || line["port"] != 1.0 {
		t.Errorf("line = %v", line)
	}
}

func TestVersion(t *testing.T) {
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.modified", Value: modified},
		}
	}
	for _, c := range []struct {
		info debug.BuildInfo
		want string
	}{
		{debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "1.2.3"},
		{debug.BuildInfo{Main: debug.Module{Version: "v1.2.4-0.20260131120000-0123456789ab+dirty"}}, "1.2.4-0.20260131120000-0123456789ab+dirty"},
		{debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "dev"},
		{debug.BuildInfo{Settings: vcs("false")}, "dev-0123456789ab"},
		{debug.BuildInfo{Settings: vcs("true")}, "dev-0123456789ab-dirty"},
	} {
		if got := versionFrom(&c.info); got != c.want {
			t.Errorf("version = %q, want %q", got, c.want)
		}
	}
	if Version() == "" {
		t.Error("no version")
	}
}

func TestRegistryHoldsTheProcess(t *testing.T) {
	reg, err := NewRegistry("v1")
	if err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range families {
		have[f.GetName()] = true
	}
	for _, want := range []string{"catbird_build_info", "go_goroutines", "process_open_fds"} {
		if !have[want] {
			t.Errorf("%s is missing", want)
		}
	}
	// Two nodes live in one process in tests: nothing is global.
	if _, err := NewRegistry("v1"); err != nil {
		t.Errorf("a second registry: %v", err)
	}
}
