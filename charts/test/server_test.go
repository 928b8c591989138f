package charttest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"catbird/charts/test/chart"
	"catbird/charts/test/rehearsal"
)

// version is what the built server says it is, by the flag that the Dockerfile
// and the Makefile give to the linker.
const version = "0.0.0-chart"

var build = sync.OnceValues(func() (string, error) {
	file := filepath.Join(binaries, "catbird-server")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-X catbird/internal/obs.version="+version, "-o", file, "./cmd/catbird-server")
	cmd.Dir, cmd.Env = repository, append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
	}
	return file, err
})

func server(t *testing.T) string {
	t.Helper()
	file, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// settings returns the variables that the server explains.
func settings(t *testing.T) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), server(t), "serve", "--help")
	help, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile(`\$([A-Z_]+)`).FindAllStringSubmatch(string(help), -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// own are the settings that the chart makes of other values.
var own = []string{
	"SERVER_HOST", "SERVER_PORT", "INTERNAL_HOST", "INTERNAL_PORT", "DATABASE_URL", "DATA_DIR", "REDIS_URL", "NODE_NAME",
	"GOSSIP_HOST", "GOSSIP_PORT", "GOSSIP_ADVERTISE", "GOSSIP_JOIN", "GOSSIP_KEY", "CLUSTER_LABEL", "CLUSTER_SECRET",
	"ENABLE_ACTOR_SYSTEM", "ACTOR_ROLLOUT_PERCENT", "DRAIN_DELAY", "DRAIN_TIMEOUT", "JWT_SECRET",
}

// Every setting of the server can be set, by one value each.
func TestSchemaKnowsTheServersSettings(t *testing.T) {
	var schema struct {
		Defs struct {
			Settings struct {
				Properties map[string]any `json:"properties"`
			} `json:"settings"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(read(t, chart.Dir+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	known := settings(t)
	for name := range schema.Defs.Settings.Properties {
		if !slices.Contains(known, name) || slices.Contains(own, name) {
			t.Errorf("config takes %s, which the server does not know or the chart sets", name)
		}
	}
	for _, name := range known {
		if _, ok := schema.Defs.Settings.Properties[name]; !ok && !slices.Contains(own, name) {
			t.Errorf("config does not take %s", name)
		}
	}
	for name := range plan(t, "", "catbird").Variables() {
		if !slices.Contains(known, name) && !strings.HasPrefix(name, "GO") {
			t.Errorf("the chart sets %s, which the server does not know", name)
		}
	}
}

// free are those of own that may come from elsewhere: where the servers are, and
// what is secret.
var free = []string{"DATABASE_URL", "REDIS_URL", "GOSSIP_ADVERTISE", "GOSSIP_KEY", "CLUSTER_SECRET", "JWT_SECRET"}

// What one value sets no other way undoes, or the grace period would be computed
// from what does not hold.
func TestNothingGoesPastTheValues(t *testing.T) {
	for _, name := range own {
		flag := "--" + strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		for _, text := range []string{fmt.Sprintf(`extraEnv: [{name: %s, value: a}]`, name), fmt.Sprintf(`extraArgs: ["%s=a"]`, flag)} {
			_, err := open(t).Render(values(t, text), chart.Options{})
			if refused := err != nil; refused == slices.Contains(free, name) {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
}

// The schema takes of a number what the server takes, no more and no less.
func TestSchemaKnowsTheServersBounds(t *testing.T) {
	var schema struct {
		Defs struct {
			Settings struct {
				Properties map[string]struct {
					Type             string
					Minimum, Maximum int
				} `json:"properties"`
			} `json:"settings"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(read(t, chart.Dir+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for name, s := range schema.Defs.Settings.Properties {
		if s.Type != "integer" {
			continue
		}
		tried++
		for value, taken := range map[int]bool{s.Minimum - 1: false, s.Minimum: true, s.Maximum: true, s.Maximum + 1: false} {
			cmd := exec.CommandContext(t.Context(), server(t), "serve")
			// LOG_FORMAT is looked at after the numbers: nothing starts.
			cmd.Env = []string{name + "=" + strconv.Itoa(value), "LOG_FORMAT=none", "NODE_NAME=a"}
			out, err := cmd.CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 {
				t.Fatalf("%s=%d: %v: %s", name, value, err, out)
			}
			if strings.Contains(string(out), name) == taken {
				t.Errorf("%s=%d, of which the schema says %v: the server says %s", name, value, taken, out)
			}
		}
	}
	if tried < 9 {
		t.Errorf("%d settings were tried", tried)
	}
}

// node is a server that runs with what the chart gives it, on ports of its own
// choosing on the loopback interface.
type node struct {
	plan *rehearsal.Set
	cmd  *exec.Cmd
	url  string
	done chan error
}

// start runs the server as a pod of the plan would, but where it listens.
func start(t *testing.T, p *rehearsal.Set) *node {
	t.Helper()
	env := p.Variables()
	for name, from := range p.From {
		env[name] = stand(t, name, from)
	}
	for _, name := range []string{"SERVER", "INTERNAL", "GOSSIP"} {
		env[name+"_HOST"], env[name+"_PORT"] = "127.0.0.1", "0"
	}
	if env["DATA_DIR"] != "" {
		env["DATA_DIR"] = t.TempDir()
	}
	n := &node{plan: p, cmd: exec.Command(server(t), p.Args...), done: make(chan error, 1)}
	for name, value := range env {
		n.cmd.Env = append(n.cmd.Env, name+"="+value)
	}
	n.cmd.Dir = t.TempDir()
	stderr, err := n.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.cmd.Process.Kill(); <-n.done; http.DefaultClient.CloseIdleConnections() })
	address := make(chan string, 1)
	go func() {
		defer close(n.done)
		follow(t, stderr, address)
		n.done <- n.cmd.Wait()
	}()
	select {
	case a := <-address:
		n.url = "http://" + a
	case err := <-n.done:
		t.Fatalf("the server does not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the server says nothing")
	}
	return n
}

// follow shows the log, and sends the address of the clients' port.
func follow(t *testing.T, log io.Reader, address chan<- string) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		t.Log(lines.Text())
		var line struct {
			Msg     string `json:"msg"`
			Clients string `json:"clients"`
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "node started" {
			address <- line.Clients
		}
	}
}

// stand returns something in the place of what only a cluster has: servers that
// nobody is.
func stand(t *testing.T, name, from string) string {
	t.Helper()
	switch name {
	case "DATABASE_URL":
		return "postgresql://catbird@127.0.0.1:1/catbird"
	case "REDIS_URL":
		return "redis://127.0.0.1:1"
	case "GOSSIP_ADVERTISE":
		return "127.0.0.1"
	case "GOSSIP_KEY":
		return "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	case "NODE_NAME":
		return "catbird-0"
	case "CLUSTER_SECRET", "JWT_SECRET":
		return "secret"
	}
	t.Fatalf("nothing is known of %s, which comes from %s", name, from)
	return ""
}

// probe asks once and returns the status, 0 for none.
func (n *node) probe(ctx context.Context, p *rehearsal.Probe) int {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.TimeoutSeconds)*10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+p.Path, nil)
	if err != nil {
		return 0
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// A node with what the chart gives it starts, and while its database is away it is
// alive, so that nobody restarts it, and not ready.
func TestServerTakesTheChartsSettings(t *testing.T) {
	for _, text := range []string{"", matrix["canary"]} {
		n := start(t, plan(t, text, "catbird"))
		if got := n.probe(t.Context(), n.plan.Startup); got != http.StatusOK {
			t.Errorf("the startup probe hears %d", got)
		}
		if got := n.probe(t.Context(), n.plan.Liveness); got != http.StatusOK {
			t.Errorf("the liveness probe hears %d", got)
		}
		if got := n.probe(t.Context(), n.plan.Readiness); got != http.StatusServiceUnavailable {
			t.Errorf("without a database the readiness probe hears %d", got)
		}
	}
}

// With the embedded database a node becomes ready by itself, says its version, and
// ends on SIGTERM with 0 before the kubelet would kill it.
func TestSingleNodeServesAndLeaves(t *testing.T) {
	n := start(t, plan(t, matrix["single"], "catbird"))
	ready := time.NewTicker(20 * time.Millisecond)
	defer ready.Stop()
	for deadline := time.After(time.Minute); n.probe(t.Context(), n.plan.Readiness) != http.StatusOK; {
		select {
		case <-ready.C:
		case <-deadline:
			t.Fatal("the node does not become ready")
		}
	}
	res, err := http.Get(n.url + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var health struct {
		Version string `json:"version"`
	}
	if err := json.NewDecoder(res.Body).Decode(&health); err != nil || health.Version != version {
		t.Errorf("/health says version %q (%v), want %s", health.Version, err, version)
	}
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-n.done:
		if err != nil {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(time.Duration(n.plan.TerminationGracePeriodSeconds) * time.Second):
		t.Error("the kubelet would have killed it")
	}
}
