package redistest

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the server end when the test process ends, even if that is killed.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
