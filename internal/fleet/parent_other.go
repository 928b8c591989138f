//go:build !linux

package fleet

import (
	"os/exec"
	"syscall"
)

// dieWithParent has no means here: who is killed leaves nodes behind.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
