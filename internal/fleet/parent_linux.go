package fleet

import (
	"os/exec"
	"syscall"
)

// dieWithParent lets the kernel kill the process when the thread that started
// it ends. The group of its own keeps an interrupt at the terminal from it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
