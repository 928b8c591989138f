package main

import (
	"bytes"
	"cmp"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"catbird/internal/app/apptest"
	"catbird/internal/config"
	"catbird/internal/testenv"
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

// runServer runs the server to its end.
func runServer(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := command(t, env, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(apptest.Patience, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	_ = cmd.Wait() // the code tells
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestBadValuesStopTheStart(t *testing.T) {
	for _, test := range []struct {
		env  string
		args []string
		want string
		code int // 0: exitUsage
	}{
		{env: "ENABLE_ACTOR_SYSTEM=yes", want: "ENABLE_ACTOR_SYSTEM"},
		{env: "ENABLE_ACTOR_SYSTEM=", want: "ENABLE_ACTOR_SYSTEM"},
		{env: "SERVER_PORT=web", want: "SERVER_PORT"},
		{env: "DATABASE_URL=mysql://u:hunter2@h/d", want: "DATABASE_URL"},
		{env: "DATABASE_URL=postgresql://u:hunter2@h:x/d", want: "DATABASE_URL", code: exitFailure},
		{env: "LOG_LEVEL=loud", want: "LOG_LEVEL"},
		{env: "REDIS_URL=redis://h", want: "CLUSTER_SECRET"},
		{args: []string{"--actor-max=0"}, want: "ACTOR_MAX"},
		{args: []string{"--nonsense"}, want: "--nonsense"},
		{args: []string{"explode"}, want: "explode"},
	} {
		t.Run(test.env+strings.Join(test.args, " "), func(t *testing.T) {
			code, _, stderr := runServer(t, []string{test.env, "DATA_DIR=" + t.TempDir()}, test.args...)
			var lines []string
			for line := range strings.Lines(stderr) {
				if strings.Contains(line, "error:") {
					lines = append(lines, line)
				}
			}
			if code != cmp.Or(test.code, exitUsage) || len(lines) != 1 || !strings.Contains(lines[0], test.want) || strings.Contains(stderr, "hunter2") {
				t.Errorf("exit code %d, said %q; want %d and one line that names %s", code, stderr, cmp.Or(test.code, exitUsage), test.want)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	code, out, _ := runServer(t, nil, "serve", "--help")
	for _, variable := range config.Vars() {
		if !strings.Contains(out, "$"+variable) {
			t.Errorf("--help does not tell of %s", variable)
		}
	}
	if code != 0 || !strings.Contains(out, "default 100000") {
		t.Errorf("--help: exit code %d, %s", code, out)
	}
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if code, out, _ := runServer(t, nil, args...); code != 0 || strings.TrimSpace(out) == "" || strings.Count(out, "\n") != 1 {
			t.Errorf("%v: exit code %d, printed %q", args, code, out)
		}
	}
}

func TestMigrate(t *testing.T) {
	url := testenv.Postgres(t)
	for range 2 { // a second time changes nothing
		if code, _, stderr := runServer(t, []string{"DATABASE_URL=" + url}, "migrate"); code != 0 {
			t.Errorf("migrate: exit code %d, said %s", code, stderr)
		}
	}
	code, _, stderr := runServer(t, []string{"DATABASE_URL=postgresql://127.0.0.1:1/x"}, "migrate", "--timeout=500ms")
	if code != exitFailure || !strings.Contains(stderr, "error:") {
		t.Errorf("without a database: exit code %d, said %s", code, stderr)
	}
}

func TestFolderInUse(t *testing.T) {
	dir := t.TempDir()
	start(t, apptest.SQLite(dir), actorsOff)
	code, _, stderr := runServer(t, []string{"DATA_DIR=" + dir, "SERVER_PORT=0", "INTERNAL_PORT=0"})
	if code != exitFailure || !strings.Contains(stderr, "in use") {
		t.Errorf("exit code %d, said %s", code, stderr)
	}
}

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
	code, out, stderr := runServer(t, []string{"SERVER_PORT=" + port, "INTERNAL_PORT=0", "DATABASE_URL=postgresql://is.not/used"}, "dev", "--once")
	if code != 0 || !strings.Contains(out, "port "+port+" is taken: using ") || !strings.Contains(out, "large") || strings.Contains(out, "TOKEN=") {
		t.Errorf("exit code %d, printed %s%s", code, out, stderr)
	}
}

// What dev prints works when it is pasted, more than once, and an interrupt is
// an orderly end.
func TestDevPrintsRequestsThatWork(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl to paste to")
	}
	data := filepath.Join(t.TempDir(), "data")
	cmd := command(t, []string{"SERVER_PORT=0", "INTERNAL_PORT=0"}, "dev", "--data", data)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log := &tee{r: stdout}
	p := &process{cmd: cmd, read: make(chan struct{}), seen: make(chan struct{}, 1)}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	go p.follow(log)
	p.await(t, "Ctrl-C stops it.")
	_, hints, _ := strings.Cut(log.String(), "The node is up.")
	script := "set -e\n"
	continued := false
	for line := range strings.Lines(hints) {
		trimmed := strings.TrimSpace(line)
		if continued || strings.HasPrefix(trimmed, "TOKEN=") || strings.HasPrefix(trimmed, "curl ") {
			script += strings.Replace(line, "curl ", "curl -sS --fail-with-body ", 1)
			continued = strings.HasSuffix(trimmed, `\`)
		}
	}
	for range 2 {
		out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("pasting failed: %v\n%s\n%s", err, script, out)
		}
		for _, want := range []string{`"conversations":[{`, `"messages":[{`, `"messageId":"`, `"status":"healthy"`, `"actors":[{`} {
			if !strings.Contains(string(out), want) {
				t.Errorf("pasting printed no %s:\n%s", want, out)
			}
		}
	}
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d after an interrupt", code)
	}
	code, out, stderr := runServer(t, []string{"SERVER_PORT=0", "INTERNAL_PORT=0"}, "dev", "--once", "--data", data)
	if code != 0 || !strings.Contains(out, "already") {
		t.Errorf("on a folder that was used: exit code %d, printed %s%s", code, out, stderr)
	}
}
