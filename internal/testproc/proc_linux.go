package testproc

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Watchdog is how long a child may live unless [Proc.Limit] says otherwise.
const Watchdog = time.Minute

const cldStopped = 5 // CLD_STOPPED of waitid(2)

// A Proc is a child of a test. Its methods may be called from any goroutine; those
// that say that they fail the test, from the test's own goroutine only.
type Proc struct {
	Cmd    *exec.Cmd
	Stdin  io.WriteCloser
	Stdout *bufio.Reader // EOF once the child is dead and all it wrote was read

	t        testing.TB
	name     string
	pipe     *os.File
	watchdog *time.Timer
	reap     sync.Once
	err      error
}

// Start runs the function registered under name in a process of its own, with
// these arguments and the test's environment plus env ("NAME=value"). Its standard
// error is the test's. It fails the test if it cannot start the process.
func Start(t testing.TB, name string, args, env []string) *Proc {
	t.Helper()
	return StartUnder(t, nil, name, args, env)
}

// StartUnder is Start under a command that makes way for the one that it is given, as
// "ip netns exec NAME" does.
func StartUnder(t testing.TB, under []string, name string, args, env []string) *Proc {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv := slices.Concat(under, []string{self}, args)
	// Not exec.Cmd's own pipe: its Wait drops what was not read yet.
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := &Proc{Cmd: exec.Command(argv[0], argv[1:]...), Stdout: bufio.NewReader(out), t: t, name: name, pipe: out}
	p.Cmd.Env = append(os.Environ(), env...)
	p.Cmd.Env = append(p.Cmd.Env, procEnv+"="+name, parentEnv+"="+strconv.Itoa(os.Getpid()),
		"GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	p.Cmd.Stdout, p.Cmd.Stderr = w, os.Stderr
	if p.Stdin, err = p.Cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	p.watchdog = time.AfterFunc(Watchdog, p.expire)
	t.Cleanup(func() {
		p.Kill()
		out.Close()
	})
	return p
}

func (p *Proc) expire() {
	p.t.Errorf("%s (pid %d): still alive when its watchdog fired; its goroutines are on standard error", p.name, p.Pid())
	p.signal(syscall.SIGQUIT)
	p.signal(syscall.SIGCONT)
	time.Sleep(2 * time.Second)
	p.signal(syscall.SIGKILL)
}

// Limit lets the child live for d from now.
func (p *Proc) Limit(d time.Duration) { p.watchdog.Reset(d) }

// Pid returns the child's process id.
func (p *Proc) Pid() int { return p.Cmd.Process.Pid }

func (p *Proc) signal(sig syscall.Signal) error { return p.Cmd.Process.Signal(sig) }

// Signal sends the child a signal. It fails the test if the child has been waited for.
func (p *Proc) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.signal(sig); err != nil {
		p.t.Fatalf("%s (pid %d): %v: %v", p.name, p.Pid(), sig, err)
	}
}

// Kill ends the child by SIGKILL and waits until it is dead: its locks are free and
// its sockets closed when Kill returns. Killing a dead child does nothing.
func (p *Proc) Kill() {
	p.signal(syscall.SIGKILL)
	p.Wait()
}

// Stop sends SIGSTOP and returns once every thread of the child stands still. It
// fails the test if the child is dead.
func (p *Proc) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGSTOP)
	p.AwaitStop()
}

// AwaitStop waits for a child that stops by itself, at a failpoint for instance. It
// fails the test if the child ends instead.
func (p *Proc) AwaitStop() {
	p.t.Helper()
	var info unix.Siginfo
	var err error
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Waitid(unix.P_PID, p.Pid(), &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
	}
	if err != nil || info.Code != cldStopped {
		p.t.Fatalf("%s (pid %d): did not stop: %v, wait code %d", p.name, p.Pid(), err, info.Code)
	}
}

// Cont lets a stopped child go on.
func (p *Proc) Cont() {
	p.t.Helper()
	p.Signal(syscall.SIGCONT)
}

// Wait closes the child's standard input, waits until it is dead and returns nil
// for status 0, else an *exec.ExitError. Every call returns the same.
func (p *Proc) Wait() error {
	p.reap.Do(func() {
		p.Stdin.Close()
		p.err = p.Cmd.Wait()
		p.watchdog.Stop()
	})
	return p.err
}

// KilledBy reports which signal ended the child, 0 if none did. It waits for its end.
func (p *Proc) KilledBy() syscall.Signal {
	var exit *exec.ExitError
	if errors.As(p.Wait(), &exit) {
		if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
			return ws.Signal()
		}
	}
	return 0
}

// Line returns the next line of the child's standard output, without its newline.
// It fails the test if the child ends first.
func (p *Proc) Line() string {
	p.t.Helper()
	line, err := p.Stdout.ReadString('\n')
	if err != nil {
		p.t.Fatalf("%s (pid %d): ended before it wrote a line: %q, %v", p.name, p.Pid(), line, p.Wait())
	}
	return strings.TrimSuffix(line, "\n")
}
