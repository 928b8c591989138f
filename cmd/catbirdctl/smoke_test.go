package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"catbird/internal/app/apptest"
	"catbird/internal/smoke"
)

func TestSmoke(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	t.Setenv("JWT_SECRET", apptest.Secret)
	code, out, stderr := tell(t, "smoke", "--url="+n.URL)
	if code != exitOK || !strings.Contains(out, "\npassed: ") || !strings.Contains(out, "stays: its last member cannot leave") || !strings.Contains(out, "leaveConvo") {
		t.Errorf("exit code %d, printed %s%s", code, out, stderr)
	}
	code, out, stderr = tell(t, "smoke", "--url="+n.URL, "--json")
	var r smoke.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitOK || !r.Passed || len(r.Steps) < 15 {
		t.Errorf("exit code %d, %v, printed %s%s", code, err, out, stderr)
	}
	if _, err := n.Operator(t).Conversation(t.Context(), r.Convo); err != nil {
		t.Errorf("the conversation of the report: %v", err)
	}
	code, out, stderr = tell(t, "smoke", "--url="+n.URL, "--anonymous", "--without-health")
	if code != exitOK || !strings.Contains(out, "1 of 1 steps passed") || !strings.Contains(out, "no conversation") {
		t.Errorf("as nobody: exit code %d, printed %s%s", code, out, stderr)
	}
	code, out, stderr = tell(t, "smoke", "--url="+n.URL, "--jwt-secret=another one")
	if code != exitFound || !strings.Contains(out, "\nFAILED: ") || !strings.Contains(out, "InvalidToken") || stderr != "" {
		t.Errorf("with a wrong secret: exit code %d, printed %s%s", code, out, stderr)
	}
}

func TestSmokeThatCannotBegin(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"smoke", "--jwt-secret=x"}, "--url"},
		{[]string{"smoke", "--url=http://127.0.0.1:1"}, "JWT_SECRET"},
		{[]string{"smoke", "--url=nonsense", "--jwt-secret=x"}, "http://"},
		{[]string{"smoke", "--url=http://127.0.0.1:1", "--token=" + tokens}, "line 1"},
		{[]string{"smoke", "--url=http://127.0.0.1:1", "--token=" + tokens + "-none"}, "--token: open"},
		{[]string{"smoke", "--url=http://127.0.0.1:1", "--keys=" + tokens}, "keys: line 1"},
		{[]string{"smoke", "--url=http://127.0.0.1:1", "--anonymous", "--keys=" + tokens}, "can't be used together"},
	} {
		code, out, stderr := tell(t, test.args...)
		if code != exitFailure || out != "" || !strings.Contains(stderr, test.want) || strings.Contains(stderr, "hunter2") {
			t.Errorf("%v: exit code %d, printed %s, said %q; want %q", test.args, code, out, stderr, test.want)
		}
	}
}
