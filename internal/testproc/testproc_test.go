package testproc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

var _ = Register("echo", func(args []string) error {
	fmt.Println(strings.Join(args, " "), os.Getenv("TESTPROC_WORD"))
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case "fail":
			return errors.New("told to fail")
		case "stop":
			syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		}
		fmt.Println(in.Text())
	}
	return in.Err()
})

func echo(t *testing.T) *Proc {
	t.Helper()
	p := Start(t, "echo", []string{"a", "-b"}, []string{"TESTPROC_WORD=word"})
	if got := p.Line(); got != "a -b word" {
		t.Fatalf("the child wrote %q", got)
	}
	return p
}

func TestChildRunsItsFunctionAndNothingElse(t *testing.T) {
	p := echo(t)
	fmt.Fprintln(p.Stdin, "one")
	fmt.Fprintln(p.Stdin, "two")
	if err := p.Wait(); err != nil {
		t.Errorf("status of a function that returned nil: %v", err)
	}
	// What was written before the end can be read after it.
	rest, err := io.ReadAll(p.Stdout)
	if string(rest) != "one\ntwo\n" || err != nil {
		t.Errorf("standard output = %q, %v", rest, err)
	}
}

func TestErrorOfAChildIsItsStatus(t *testing.T) {
	p := echo(t)
	fmt.Fprintln(p.Stdin, "fail")
	if err := p.Wait(); err == nil || p.Cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("Wait = %v, want status 1", err)
	}
	if sig := p.KilledBy(); sig != 0 {
		t.Errorf("KilledBy = %v for a child that ended by itself", sig)
	}
}

func TestStoppedChildStandsStillUntilCont(t *testing.T) {
	p := echo(t)
	for range 3 {
		p.Stop()
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
		if err != nil || !strings.Contains(string(state), ") T ") {
			t.Fatalf("after Stop: %q, %v", state, err)
		}
		fmt.Fprintln(p.Stdin, "again")
		p.Cont()
		if got := p.Line(); got != "again" {
			t.Fatalf("after Cont the child wrote %q", got)
		}
	}
	fmt.Fprintln(p.Stdin, "stop")
	p.AwaitStop()
	p.Kill()
	if sig := p.KilledBy(); sig != syscall.SIGKILL {
		t.Errorf("KilledBy = %v", sig)
	}
	p.Kill() // of a dead child does nothing
}

func TestKilledChildCounts(t *testing.T) {
	p := echo(t)
	p.Kill()
	files, err := filepath.Glob(filepath.Join(os.Getenv("GOCOVERDIR"), fmt.Sprintf("covcounters.*.%d.*", p.Pid())))
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	if testing.CoverMode() == "atomic" {
		want = 1
	}
	if len(files) != want {
		t.Errorf("counter files of a killed child in mode %q: %v, want %d", testing.CoverMode(), files, want)
	}
}

// recorder is a test that may fail without failing this one.
type recorder struct {
	testing.TB
	errors atomic.Int32
}

func (r *recorder) Errorf(string, ...any) { r.errors.Add(1) }

func TestWatchdogEndsAStoppedChild(t *testing.T) {
	r := &recorder{TB: t}
	p := Start(r, "echo", nil, nil)
	p.Line()
	p.Stop()
	p.Limit(time.Millisecond)
	if rest, err := io.ReadAll(p.Stdout); len(rest) != 0 || err != nil {
		t.Errorf("the child wrote %q, %v", rest, err)
	}
	if err := p.Wait(); err == nil || r.errors.Load() != 1 {
		t.Errorf("a child that its watchdog ended: Wait = %v, %d failures", err, r.errors.Load())
	}
}

// hung is a test that never ends.
type hung struct{ testing.TB }

func (hung) Helper()        {}
func (hung) Name() string   { return "TestHung" }
func (hung) Cleanup(func()) {}

var _ = Register("hung", func([]string) error {
	<-Watch(hung{}, 10*time.Millisecond).Done()
	select {}
})

func TestWatchEndsAHungTest(t *testing.T) {
	var status *exec.ExitError
	if err := Start(t, "hung", nil, nil).Wait(); !errors.As(err, &status) || status.ExitCode() != 2 {
		t.Errorf("Wait = %v, want the status of a panic", err)
	}
}

var _ = Register("parent", func([]string) error {
	r, w, err := os.Pipe() // the grandchild's standard input: silent for ever
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child, err := os.StartProcess(self, []string{self}, &os.ProcAttr{
		Env:   append(os.Environ(), procEnv+"=echo", fmt.Sprintf("%s=%d", parentEnv, os.Getpid())),
		Files: []*os.File{r, os.Stdout, os.Stderr},
	})
	if err != nil {
		return err
	}
	fmt.Println(child.Pid)
	child.Wait()
	return w.Close()
})

func TestChildEndsWithItsParent(t *testing.T) {
	p := Start(t, "parent", nil, nil)
	pid := p.Line()
	p.Line() // the grandchild runs
	p.Kill()
	// It holds the pipe open as long as it lives; the watchdog bounds this.
	done := time.AfterFunc(30*time.Second, func() { p.pipe.Close() })
	defer done.Stop()
	if _, err := io.ReadAll(p.Stdout); err != nil {
		t.Errorf("process %s outlived its parent: %v", pid, err)
	}
}
