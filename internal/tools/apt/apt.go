// Package apt installs the Debian packages that a developer's command needs,
// where that is possible. It does not know what they are for.
package apt

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// limit bounds each call of apt-get.
const limit = 10 * time.Minute

// Ensure installs packages, none of which need be missing, and says so on log.
// Where there is no apt-get, or the caller is not root, it returns why, which
// says what is missing and what to do about it; with no packages it does
// nothing. It blocks for up to twenty minutes, or until ctx ends.
func Ensure(ctx context.Context, log io.Writer, packages []string, why error) error {
	if len(packages) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return why
	}
	fmt.Fprintln(log, "installing", strings.Join(packages, " "))
	install := append([]string{"install", "--yes", "--no-install-recommends"}, packages...)
	for _, args := range [][]string{{"update"}, install} {
		if out, err := get(ctx, args); err != nil {
			return fmt.Errorf("%w (apt-get %s: %v: %s)", why, args[0], err, lastLine(out))
		}
	}
	return nil
}

func get(ctx context.Context, args []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-qq"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	return cmd.CombinedOutput()
}

func lastLine(out []byte) string {
	text := strings.TrimSpace(string(out))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
