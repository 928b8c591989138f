package main

import (
	"bytes"
	"cmp"
	"strings"
	"testing"
	"time"

	"catbird/internal/app/apptest"
	"catbird/internal/config"
	"catbird/internal/testenv"
)

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
