package archtest

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"catbird/internal/config"
)

const (
	unitFile     = "deploy/systemd/catbird-server.service"
	settingsFile = "deploy/systemd/catbird.env"
)

// stopMargin is what systemd waits longer than a node takes to leave: the last
// spans are sent then, and the machine may be busy.
const stopMargin = 10 * time.Second

// settings returns the lines NAME=value of a file, and the names of those that
// are commented out.
func settings(t *testing.T, name string) (set map[string]string, offered []string) {
	t.Helper()
	set = map[string]string{}
	for line := range strings.Lines(read(t, name)) {
		line = strings.TrimRight(line, "\n")
		rest, commented := strings.CutPrefix(line, "#")
		key, value, ok := strings.Cut(rest, "=")
		switch {
		case !ok || strings.ContainsAny(key, " []"):
		case commented:
			offered = append(offered, key)
		default:
			set[key] = value
		}
	}
	return set, offered
}

// A node has the time to hand its conversations over before systemd kills it.
func TestUnitLetsANodeLeave(t *testing.T) {
	cfg := installed(t)
	unit, _ := settings(t, unitFile)
	limit, err := time.ParseDuration(unit["TimeoutStopSec"])
	if err != nil {
		t.Fatal(err)
	}
	if need := cfg.Drain.Delay + cfg.Drain.Timeout + stopMargin; limit < need {
		t.Errorf("TimeoutStopSec is %v; a node may take %v, margin included", limit, need)
	}
	if cfg.Drain.Delay == 0 {
		t.Error("DRAIN_DELAY is 0: load balancers have no time to notice")
	}
	// A crash of the Go runtime ends with 2, as does a wrong setting.
	if unit["Restart"] != "on-failure" || unit["RestartPreventExitStatus"] != "" {
		t.Errorf("Restart=%s, RestartPreventExitStatus=%s", unit["Restart"], unit["RestartPreventExitStatus"])
	}
}

// installed returns the settings of a node that is installed as the files say.
func installed(t *testing.T) config.Config {
	t.Helper()
	set, offered := settings(t, settingsFile)
	known := variables()
	known["GOMEMLIMIT"] = true // of the Go runtime
	for _, name := range offered {
		if !known[name] {
			t.Errorf("%s offers %s, which no server reads", settingsFile, name)
		}
	}
	for name := range known {
		if _, ok := os.LookupEnv(name); ok {
			t.Setenv(name, "") // not the one of whoever runs this test
		}
	}
	for name, value := range set {
		if !known[name] {
			t.Errorf("%s sets %s, which no server reads", settingsFile, name)
		}
		t.Setenv(name, value)
	}
	if err := config.ForgetEmpty(); err != nil {
		t.Fatal(err)
	}
	var c config.Config
	k, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Parse(nil); err != nil {
		t.Fatalf("%s: %v", settingsFile, err)
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Errorf("%s: %v", settingsFile, err)
	}
	return c
}
