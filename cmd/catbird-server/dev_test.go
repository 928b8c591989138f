package main

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// tee keeps what is read from r.
type tee struct {
	r io.Reader

	mu   sync.Mutex
	kept []byte
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p[:n]...)
	return n, err
}

// String returns what was read so far.
func (t *tee) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}

// onFreePorts lets dev listen wherever there is room, with a lease that outlives
// a busy machine.
var onFreePorts = []string{"SERVER_PORT=0", "INTERNAL_PORT=0", "LEASE_TTL=2s"}

// A node that is stopped hands over what it holds, and no client notices; one
// that is killed costs requests that have to be repeated, and nothing else.
func TestDevOnce(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	env := append([]string{"DATABASE_URL=postgresql://is.not/used", "REDIS_URL=redis://is.not/used"}, onFreePorts...)
	code, out, stderr := runServer(t, append(env, "SERVER_PORT="+port), "dev", "--once")
	if code != 0 || strings.Contains(out, "Bearer ") {
		t.Fatalf("exit code %d, printed %s%s", code, out, stderr)
	}
	for _, want := range []string{"port " + port + " is taken: using ", "large", "stored, each once", "every epoch has one commit"} {
		if !strings.Contains(out, want) {
			t.Errorf("printed no %q:\n%s", want, out)
		}
	}
	rows := regexp.MustCompile(`(?m)^ *(dev-\d) +(stopped|killed) +(\d+) +(.*) +[\d.]+s +[\d.]+s +(\d+) of \d+ +(\d+) +(\d+) +(\d+) +[\d.]+s *$`).FindAllStringSubmatch(out, -1)
	if len(rows) != 2 || rows[0][2] != "stopped" || rows[1][2] != "killed" || rows[0][1] == rows[1][1] {
		t.Fatalf("not one node stopped and another killed: %q\n%s", rows, out)
	}
	for _, r := range rows {
		if what, held, takers, regained, requests, failed := r[2], r[3], r[4], r[5], r[6], r[8]; held == "0" ||
			!strings.Contains(takers, "dev-") || regained == "0" || requests == "0" || failed != "0" {
			t.Errorf("the node that was %s: %q", what, r[0])
		}
	}
	if repeated := rows[0][7]; repeated != "0" {
		t.Errorf("%s requests had to be repeated while a node stopped in order:\n%s", repeated, out)
	}
}

func TestDevOnceAlone(t *testing.T) {
	code, out, stderr := runServer(t, onFreePorts, "dev", "--once", "--nodes=1")
	if code != 0 || !strings.Contains(out, "large") || strings.Contains(out, "dev-1") {
		t.Errorf("exit code %d, printed %s%s", code, out, stderr)
	}
}

func TestDevRefusesSizes(t *testing.T) {
	for _, n := range []int{0, 10} {
		code, _, stderr := runServer(t, onFreePorts, "dev", fmt.Sprint("--nodes=", n))
		if code != exitUsage || !strings.Contains(stderr, "--nodes") {
			t.Errorf("%d nodes: exit code %d, said %s", n, code, stderr)
		}
	}
}

// interactive starts dev and waits until it stays up.
func interactive(t *testing.T, args ...string) (p *process, out *tee) {
	t.Helper()
	cmd := command(t, onFreePorts, append([]string{"dev"}, args...)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	out = &tee{r: stdout}
	p = &process{cmd: cmd, read: make(chan struct{}), seen: make(chan struct{}, 1)}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	go p.follow(out)
	p.await(t, "Ctrl-C stops it.")
	return p, out
}

// pasted returns what of hints is to be pasted into a shell.
func pasted(hints string) string {
	script := "set -e\n"
	continued := false
	for line := range strings.Lines(hints) {
		trimmed := strings.TrimSpace(line)
		if continued || strings.HasPrefix(trimmed, "curl ") {
			script += strings.Replace(line, "curl ", "curl -sS --fail-with-body ", 1)
			continued = strings.HasSuffix(trimmed, `\`)
		}
	}
	return script
}

// What dev prints works when it is pasted, more than once, also where the groups
// were replayed before, and an interrupt is an orderly end.
func TestDevPrintsRequestsThatWork(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl to paste to")
	}
	data := filepath.Join(t.TempDir(), "data")
	for _, test := range []struct {
		nodes int
		again bool // the groups are in the folder already
		up    string
		want  []string
	}{
		{1, false, "The node is up.", []string{`"actors":[{`}},
		{3, true, "All 3 nodes are up", nil},
	} {
		t.Run(fmt.Sprint(test.nodes), func(t *testing.T) {
			p, printed := interactive(t, fmt.Sprint("--nodes=", test.nodes), "--data="+data)
			_, hints, found := strings.Cut(printed.String(), test.up)
			if !found || strings.Contains(printed.String(), "already") != test.again {
				t.Fatalf("printed no %q, or not that the groups are there already (%v):\n%s", test.up, test.again, printed)
			}
			script := pasted(hints)
			hosts := map[string]bool{}
			for _, host := range regexp.MustCompile(`http://[^/]+/xrpc`).FindAllString(script, -1) {
				hosts[host] = true
			}
			if len(hosts) != test.nodes {
				t.Errorf("requests to %d nodes, want %d:\n%s", len(hosts), test.nodes, script)
			}
			for range 2 {
				out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
				if err != nil {
					t.Fatalf("pasting failed: %v\n%s\n%s", err, script, out)
				}
				for _, want := range append([]string{`"conversations":[{`, `"messages":[{`, `"messageId":"`, `"status":"healthy"`}, test.want...) {
					if !strings.Contains(string(out), want) {
						t.Errorf("pasting printed no %s:\n%s", want, out)
					}
				}
			}
			p.signal(t, syscall.SIGINT)
			if code := p.wait(t); code != 0 {
				t.Errorf("exit code %d after an interrupt", code)
			}
		})
	}
}

// An interrupt in the middle of it all is an orderly end, too.
func TestDevInterrupted(t *testing.T) {
	cmd := command(t, onFreePorts, "dev")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, read: make(chan struct{}), seen: make(chan struct{}, 1)}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	go p.follow(stdout)
	p.await(t, "large: 121 steps")
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d after an interrupt; it said:\n%s", code, p)
	}
}
