//go:build !broken

package broken_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"catbird/internal/broken"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNothingIsSwitchedOn(t *testing.T) {
	for v := range broken.ReleaseWithoutFence + 1 {
		if broken.Is(v) {
			t.Errorf("variant %d is on", v)
		}
	}
}

// TestTheServerHoldsNoTrace builds the server as it is shipped, and as it is
// broken: the latter shows that a trace would be seen.
func TestTheServerHoldsNoTrace(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the server twice")
	}
	for _, tt := range []struct {
		tags  string
		trace bool
	}{{"", false}, {"broken", true}} {
		bin := filepath.Join(t.TempDir(), "server")
		run(t, "build", "-tags", tt.tags, "-o", bin, "catbird/cmd/catbird-server")
		if got := strings.Contains(run(t, "tool", "nm", bin), "catbird/internal/broken."); got != tt.trace {
			t.Errorf("with tags %q: trace of the variants: %v, want %v", tt.tags, got, tt.trace)
		}
	}
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}
