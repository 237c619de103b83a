package redistest

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the server end with the test, however that ends.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
