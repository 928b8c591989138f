package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"catbird/internal/app/apptest"
	"catbird/internal/config"
)

// asServer makes this test program be the server.
const asServer = "CATBIRD_TEST_AS_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// command returns this program as the server, with nothing of the tests' own
// environment but what env says.
func command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append([]string{asServer + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GORACE=" + os.Getenv("GORACE")}, env...)
	return cmd
}

// process is a server in a process of its own.
type process struct {
	cmd      *exec.Cmd
	URL      string
	Operator string

	mu    sync.Mutex
	lines []map[string]any
	read  chan struct{} // closed when the log has ended
	seen  chan struct{} // holds a token when a line has come
}

// start starts a server and waits until it is ready. Whatever is left of it at
// the test's end is killed.
func start(t *testing.T, where apptest.Change, env ...string) *process {
	t.Helper()
	p := launch(t, where, env...)
	p.await(t, "node ready")
	return p
}

// launch starts a server and waits until it listens.
func launch(t *testing.T, where apptest.Change, env ...string) *process {
	t.Helper()
	return launchBy(t, (*exec.Cmd).Start, where, env...)
}

// launchBy is launch where by is what starts the process.
func launchBy(t *testing.T, by func(*exec.Cmd) error, where apptest.Change, env ...string) *process {
	t.Helper()
	var c config.Config
	where(&c)
	env = append([]string{
		"SERVER_HOST=127.0.0.1", "SERVER_PORT=0", "INTERNAL_PORT=0", "JWT_SECRET=" + apptest.Secret, "NODE_NAME=test",
		"LEASE_TTL=2s", "DATA_DIR=" + c.Database.DataDir, "DATABASE_URL=" + c.Database.URL.Reveal(),
	}, env...)
	p := &process{cmd: command(t, env, "serve"), read: make(chan struct{}), seen: make(chan struct{}, 1)}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := by(p.cmd); err != nil {
		t.Fatalf("starting the server: %v", err)
	}
	go p.follow(stderr)
	t.Cleanup(func() { p.kill() })
	started := p.await(t, "node started")
	p.URL, p.Operator = "http://"+started["clients"].(string), "http://"+started["internal"].(string)
	return p
}

func (p *process) follow(r io.Reader) {
	defer close(p.read)
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := map[string]any{}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			line["msg"] = s.Text()
		}
		if line["level"] == "INFO" && line["component"] != "app" {
			continue // every request has one
		}
		p.mu.Lock()
		p.lines = append(p.lines, line)
		p.mu.Unlock()
		select {
		case p.seen <- struct{}{}:
		default:
		}
	}
}

// find returns the last line of the log with the message msg, nil for none.
func (p *process) find(msg string) map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.lines) - 1; i >= 0; i-- {
		if p.lines[i]["msg"] == msg {
			return p.lines[i]
		}
	}
	return nil
}

// await waits for a line of the log.
func (p *process) await(t *testing.T, msg string) map[string]any {
	t.Helper()
	limit := time.NewTimer(apptest.Patience)
	defer limit.Stop()
	for {
		if line := p.find(msg); line != nil {
			return line
		}
		select {
		case <-p.seen:
		case <-p.read:
			if line := p.find(msg); line != nil {
				return line
			}
			t.Fatalf("the server ended before it said %q; it said:\n%s", msg, p)
		case <-limit.C:
			t.Fatalf("the server did not say %q; it said:\n%s", msg, p)
		}
	}
}

// String returns what the server has said.
func (p *process) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, line := range p.lines {
		text, err := json.Marshal(line)
		if err != nil {
			continue
		}
		b.Write(text)
		b.WriteByte('\n')
	}
	return b.String()
}

func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("sending %v: %v", sig, err)
	}
}

// wait waits until the server has ended and returns its exit code, -1 for a
// signal.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	limit := time.AfterFunc(apptest.Patience, func() { _ = p.cmd.Process.Kill() })
	defer limit.Stop()
	<-p.read
	err := p.cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		t.Fatalf("waiting for the server: %v", err)
		return -1
	}
}

// kill ends what may be left of the server.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.read
	_ = p.cmd.Wait()
}
