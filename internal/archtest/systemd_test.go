package archtest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"catbird/internal/config"
)

const (
	unitFile     = "deploy/systemd/catbird-server.service"
	settingsFile = "deploy/systemd/catbird.env"
	checkFile    = "deploy/systemd/catbird-check.service"
	timerFile    = "deploy/systemd/catbird-check.timer"
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

// section returns the lines NAME=value of a unit's section, in their order.
func section(t *testing.T, file, name string) (out []string) {
	t.Helper()
	inside := false
	for line := range strings.Lines(read(t, file)) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "["):
			inside = line == "["+name+"]"
		case inside && line != "" && line[0] != '#':
			out = append(out, line)
		}
	}
	return out
}

// What looks through the data runs locked up as a node does, and has what it needs
// of a node's settings but no secret beside the cluster's.
func TestCheckUnitIsLockedUp(t *testing.T) {
	node, check := section(t, unitFile, "Service"), section(t, checkFile, "Service")
	from := slices.Index(node, "AmbientCapabilities=")
	if from < 0 || !slices.Contains(check, "DynamicUser=yes") {
		t.Fatal("a unit does not begin as expected")
	}
	for _, line := range node[from:] {
		want := strings.ReplaceAll(line, " AF_NETLINK", "") // a node learns its addresses by it
		if !slices.Contains(check, want) {
			t.Errorf("%s does not say %s", checkFile, want)
		}
	}
	unit := strings.Join(check, "\n")
	if !strings.Contains(unit, "EnvironmentFile=/etc/catbird/catbird.env\n") {
		t.Errorf("%s does not read the settings", checkFile)
	}
	_, offered := settings(t, settingsFile)
	for _, name := range offered {
		secret := strings.HasSuffix(name, "_URL") || strings.HasSuffix(name, "_KEY") || strings.HasSuffix(name, "_SECRET")
		if taken := slices.Contains(strings.Fields(settingOf(check, "UnsetEnvironment")), name); secret && taken == (name == "CLUSTER_SECRET") {
			t.Errorf("%s: is %s taken away? %v", checkFile, name, taken)
		}
	}
	for _, m := range regexp.MustCompile(`\$\{(\w+)\}`).FindAllStringSubmatch(settingOf(check, "ExecStart"), -1) {
		if !variables()[m[1]] || !strings.Contains(unit, "Environment="+m[1]+"=") {
			t.Errorf("%s is no setting, or has no default in %s", m[1], checkFile)
		}
	}
}

// settingOf returns the last value that lines NAME=value give a name.
func settingOf(lines []string, name string) (value string) {
	for _, line := range lines {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			value = v
		}
	}
	return value
}

// Nothing is written that no check looks at, and an alert that nobody looks stays
// silent while the timer does its work.
func TestTimerChecksOftenEnough(t *testing.T) {
	timer, check := section(t, timerFile, "Timer"), section(t, checkFile, "Service")
	if !regexp.MustCompile(`^\*-\*-\* \d\d:\d\d:00$`).MatchString(settingOf(timer, "OnCalendar")) {
		t.Errorf("it does not run every day: %s", settingOf(timer, "OnCalendar"))
	}
	if settingOf(timer, "Persistent") != "true" || !slices.Contains(section(t, timerFile, "Install"), "WantedBy=timers.target") {
		t.Error("a night that was missed is not made up for, or the timer is not enabled")
	}
	if settingOf(timer, "Unit") != "" || strings.TrimSuffix(timerFile, ".timer") != strings.TrimSuffix(checkFile, ".service") {
		t.Error("the timer starts something else")
	}
	delay, err := time.ParseDuration(settingOf(timer, "RandomizedDelaySec"))
	if err != nil || delay <= 0 {
		t.Fatalf("RandomizedDelaySec: %v, %v", delay, err)
	}
	m := regexp.MustCompile(`--since (\w+)`).FindStringSubmatch(settingOf(check, "ExecStart"))
	if m == nil {
		t.Fatal("the check looks at everything")
	}
	since, err := time.ParseDuration(m[1])
	if err != nil {
		t.Fatal(err)
	}
	if longest := 24*time.Hour + delay; since < longest+12*time.Hour {
		t.Errorf("a check looks %v back, and the one before may have been %v ago", since, longest)
	}
	for _, r := range rules(t) {
		if r.Alert == "CatbirdDataUnchecked" && !strings.Contains(r.Expr, "> 2 * 86400") {
			t.Errorf("%s is no longer about two days: %s", r.Alert, r.Expr)
		}
	}
}
