package apt_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"catbird/internal/tools/apt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errMissing = errors.New("frob is missing (apt-get install frob)")

// fake puts an apt-get of its own, alone, on the path, and returns the file it
// writes its arguments to.
func fake(t *testing.T, script string) (said string) {
	t.Helper()
	dir := t.TempDir()
	said = filepath.Join(dir, "said")
	text := "#!/bin/sh\necho \"$@\" >>" + said + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	return said
}

func TestNothingIsInstalledWhereNothingIsMissing(t *testing.T) {
	said := fake(t, "")
	if err := apt.Ensure(t.Context(), &bytes.Buffer{}, nil, errMissing); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(said); err == nil {
		t.Error("apt-get was called")
	}
}

func TestWithoutAptTheReasonIsTold(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := apt.Ensure(t.Context(), &bytes.Buffer{}, []string{"frob"}, errMissing); err != errMissing {
		t.Errorf("%v", err)
	}
}

func TestWhatIsMissingIsInstalled(t *testing.T) {
	said, log := fake(t, ""), &bytes.Buffer{}
	err := apt.Ensure(t.Context(), log, []string{"frob", "frob-dev"}, errMissing)
	if os.Geteuid() != 0 { // it cannot be installed then
		if err != errMissing {
			t.Errorf("%v", err)
		}
		return
	}
	got, _ := os.ReadFile(said)
	if err != nil || string(got) != "-qq update\n-qq install --yes --no-install-recommends frob frob-dev\n" {
		t.Errorf("%v, and apt-get was told %q", err, got)
	}
	if !strings.Contains(log.String(), "installing frob frob-dev") {
		t.Errorf("nothing was said of it: %q", log)
	}
}

func TestWhatFailsIsTold(t *testing.T) {
	fake(t, "echo reading; echo no such package >&2; exit 100")
	err := apt.Ensure(t.Context(), &bytes.Buffer{}, []string{"frob"}, errMissing)
	if !errors.Is(err, errMissing) {
		t.Fatalf("%v", err)
	}
	if os.Geteuid() == 0 && !strings.Contains(err.Error(), "no such package") {
		t.Errorf("apt-get's last word is missing: %v", err)
	}
}

func TestItEndsWithItsContext(t *testing.T) {
	fake(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := apt.Ensure(ctx, &bytes.Buffer{}, []string{"frob"}, errMissing); !errors.Is(err, errMissing) {
		t.Errorf("%v", err)
	}
}
