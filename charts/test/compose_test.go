package charttest

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// composed returns docker-compose.yml as compose reads it, with nothing set.
func composed(t *testing.T) *types.Project {
	t.Helper()
	dir, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: dir, ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "docker-compose.yml")}}, Environment: types.Mapping{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// nodes returns the services that run the server.
func nodes(p *types.Project) types.Services {
	out := types.Services{}
	for name, s := range p.Services {
		if s.Build != nil {
			out[name] = s
		}
	}
	return out
}

func TestComposeStartsACluster(t *testing.T) {
	p := composed(t)
	all := nodes(p)
	if len(all) != 3 {
		t.Fatalf("%d nodes", len(all))
	}
	known := settings(t)
	for name, s := range all {
		if got := *s.Environment["NODE_NAME"]; got != name || !strings.Contains(*s.Environment["GOSSIP_JOIN"], name+":7946") {
			t.Errorf("%s is called %s, and joins %s", name, got, *s.Environment["GOSSIP_JOIN"])
		}
		for variable := range s.Environment {
			if !slices.Contains(known, variable) {
				t.Errorf("%s is given %s, which the server does not know", name, variable)
			}
		}
		grace := seconds(t, *s.Environment["DRAIN_DELAY"]) + seconds(t, *s.Environment["DRAIN_TIMEOUT"])
		if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= grace {
			t.Errorf("%s would be killed while it leaves, for which it has %v", name, grace)
		}
		if len(s.Ports) > 0 || !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") {
			t.Errorf("%s is open: %+v", name, s.Ports)
		}
	}
	for name, s := range p.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is published to %q", name, port.HostIP)
			}
		}
	}
}

func seconds(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The balancer knows every node, asks for readiness, and takes a node that leaves
// out before that stops accepting.
func TestBalancerFitsTheNodes(t *testing.T) {
	config := read(t, repository+"/deploy/compose/haproxy.cfg")
	all := nodes(composed(t))
	servers := regexp.MustCompile(`(?m)^    server (\S+) (\S+):8080$`).FindAllStringSubmatch(config, -1)
	if len(servers) != len(all) {
		t.Errorf("%d servers, %d nodes", len(servers), len(all))
	}
	for _, s := range servers {
		if _, ok := all[s[2]]; !ok {
			t.Errorf("%s is no service", s[2])
		}
	}
	check := regexp.MustCompile(`check inter (\S+) fall (\d)`).FindStringSubmatch(config)
	if check == nil || !strings.Contains(config, "uri /health/ready") {
		t.Fatal("nodes are not asked whether they are ready")
	}
	notices := seconds(t, check[1]) * time.Duration(check[2][0]-'0')
	for name, s := range all {
		if delay := seconds(t, *s.Environment["DRAIN_DELAY"]); delay <= notices {
			t.Errorf("%s stops accepting after %v, the balancer notices after %v", name, delay, notices)
		}
	}
	for _, mode := range regexp.MustCompile(`(?m)^\s+retry-on (.*)$`).FindAllStringSubmatch(config, -1) {
		if mode[1] != "conn-failure" {
			t.Errorf("requests that a node may have seen are sent again: %s", mode[1])
		}
	}
}
