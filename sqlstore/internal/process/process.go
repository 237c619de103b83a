// Package process runs the programs of private servers for tests.
package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a running program.
type Process struct {
	*os.Process
	Ended <-chan struct{} // closed when the program has ended
}

// Start starts a program and waits until a line of its standard error contains ready. It appends these lines to a file. The program
// gets the signal death when the tests are killed.
func Start(cmd *exec.Cmd, death syscall.Signal, logFile, ready string) (*Process, error) {
	as := syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		as = *cmd.SysProcAttr
	}
	as.Pdeathsig = death
	cmd.SysProcAttr = &as
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	started, ended := make(chan error, 1), make(chan struct{})
	answer := make(chan string, 1)
	go func() { // Pdeathsig is sent when the starting thread ends, so keep the thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer file.Close()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		var tail []string
		said := false
		for lines := bufio.NewScanner(log); lines.Scan(); {
			_, _ = fmt.Fprintln(file, lines.Text()) // the disk may be full; the server must not wait for that
			if tail = append(tail, lines.Text()); !said && strings.Contains(lines.Text(), ready) {
				said = true
				answer <- ""
			}
			tail = tail[max(0, len(tail)-20):]
		}
		err = cmd.Wait()
		if !said {
			answer <- fmt.Sprintf("%s ended: %v\n%s", cmd.Path, err, strings.Join(tail, "\n"))
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	select {
	case trouble := <-answer:
		if trouble != "" {
			return nil, errors.New(trouble)
		}
	case <-time.After(time.Minute):
		_ = cmd.Process.Signal(death)
		return nil, fmt.Errorf("%s is not ready after a minute; its log is %s", cmd.Path, logFile)
	}
	return &Process{cmd.Process, ended}, nil
}

// End ends the program with a signal and waits for it.
func (p *Process) End(sig syscall.Signal) error {
	err := p.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) { // it ended by itself
		err = nil
	}
	<-p.Ended
	return err
}

// InMemory returns a folder in memory with enough room for a shared server, or "". The tests of sqlstore fill 700 MB
// there, and take a third less time.
func InMemory() string {
	const folder = "/dev/shm"
	var s syscall.Statfs_t
	if syscall.Statfs(folder, &s) != nil || s.Bavail*uint64(s.Bsize) < 2<<30 {
		return ""
	}
	return folder
}

// Drop makes dir a folder of a user who is not root, and returns how to run programs as that user. The names are tried in order. If
// the tests do not run as root, nothing changes.
func Drop(dir string, names ...string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return new(syscall.SysProcAttr), nil
	}
	who, err := somebody(names)
	if err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: who}, os.Chown(dir, int(who.Uid), int(who.Gid))
}

func somebody(names []string) (*syscall.Credential, error) {
	for _, name := range names {
		if u, err := user.Lookup(name); err == nil {
			uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
			gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
		}
	}
	return nil, fmt.Errorf("the tests run as root, and none of the users %s exists", strings.Join(names, ", "))
}
