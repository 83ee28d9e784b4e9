package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"myceliumctl": main})
}

// scriptTime is the watchdog of all scripts together.
const scriptTime = 3 * time.Minute

// TestScripts runs testdata/script: what a user types, what he sees. Each has a
// bus of its own; `exec myceliumctl registry serve &reg&` and `bus` start it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Deadline:            time.Now().Add(scriptTime),
		Setup: func(e *testscript.Env) error {
			shm, err := os.MkdirTemp("/dev/shm", "myceliumctl-test-")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(shm) })
			e.Setenv("MYCELIUM_REGISTRY", e.WorkDir+"/r.sock")
			e.Setenv("MYCELIUM_SHM_DIR", shm+"/bus")
			e.Setenv("MYCELIUM_CONFIG", e.WorkDir+"/mycelium.toml")
			e.Setenv("GOCOVERDIR", os.Getenv("GOCOVERDIR"))
			e.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")) // else each command takes a second to end
			e.Defer(func() { _ = os.RemoveAll(shm + "/bus-b") })
			e.Setenv("PORT", freePort())
			return os.WriteFile(e.WorkDir+"/mycelium.toml", nil, 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"bus": waitBus, "code": wantCode, "json": wantJSON, "waitgrep": waitGrep, "waitlist": waitList, "signal": sendSignal,
			"expand": expand, "waitsock": waitSock, "waitsubs": waitSubs, "manager": startManager,
		},
	})
}

// freePort is a TCP port of this host that was free a moment ago.
func freePort() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// expand FILE puts the values of variables into a file.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// waitSock PATH waits until a socket is there.
func waitSock(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts, args[0], func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil
	})
}

// waitSubs SOCKET PATTERN waits until a bus has a subscriber to a topic or pattern.
func waitSubs(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts, "a subscriber of "+args[0], func() bool {
		return ts.Exec("myceliumctl", "--registry", args[0], "inspect", args[1], "-o", "json") == nil && strings.Contains(ts.ReadFile("stdout"), `"subscribers":1`)
	})
}

// eventually polls until ok, for at most half a minute.
func eventually(ts *testscript.TestScript, what string, ok func() bool) {
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("waited for %s in vain", what)
		}
	}
}

// startManager SOCKET FILE writes what a service manager is told to a file.
func startManager(ts *testscript.TestScript, _ bool, args []string) {
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: ts.MkAbs(args[0]), Net: "unixgram"})
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Defer(func() { _ = c.Close() })
	go func() {
		defer f.Close()
		for b := make([]byte, 4096); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			fmt.Fprintf(f, "%s\n", b[:n])
		}
	}()
}

// waitBus waits until the registry listens.
func waitBus(ts *testscript.TestScript, _ bool, _ []string) {
	eventually(ts, "the registry", func() bool {
		c, err := net.Dial("unixpacket", ts.Getenv("MYCELIUM_REGISTRY"))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// waitGrep FILE REGEXP waits until a file has a match.
func waitGrep(ts *testscript.TestScript, _ bool, args []string) {
	re := regexp.MustCompile("(?m)" + args[1])
	eventually(ts, args[1]+" in "+args[0], func() bool {
		b, _ := os.ReadFile(ts.MkAbs(args[0]))
		return re.Match(b)
	})
}

// waitList TOPIC REGEXP waits until the JSON of inspect TOPIC matches.
func waitList(ts *testscript.TestScript, _ bool, args []string) {
	re := regexp.MustCompile(args[1])
	eventually(ts, args[1]+" in inspect "+args[0], func() bool {
		return ts.Exec("myceliumctl", "inspect", args[0], "-o", "json") == nil && re.MatchString(ts.ReadFile("stdout"))
	})
}

// sendSignal STOP|CONT WORD stops or continues the background command that has
// this word. A stopped one goes on by itself in the end, so that no failed
// script waits for it.
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	signal := map[string]syscall.Signal{"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}[args[0]]
	for _, c := range ts.BackgroundCmds() {
		if strings.Contains(strings.Join(c.Args, " "), args[1]) {
			ts.Check(c.Process.Signal(signal))
			if signal == syscall.SIGSTOP {
				time.AfterFunc(20*time.Second, func() { _ = c.Process.Signal(syscall.SIGCONT) })
			}
			return
		}
	}
	ts.Fatalf("no background command has %s", args[1])
}

// wantCode N COMMAND... runs a command that must end with that exit code.
func wantCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// wantJSON FILE SCHEMA [PATH REGEXP]... looks at every line of a file, each of
// which must be an object that begins with its schema, for one of that schema
// with all those values. A path is members and indices joined by dots; strings
// stand with their quotes. "!" before it wants none.
func wantJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args)%2 != 0 {
		ts.Fatalf("usage: json FILE SCHEMA [PATH REGEXP]...")
	}
	found := false
	for n, line := range strings.Split(strings.TrimRight(ts.ReadFile(args[0]), "\n"), "\n") {
		var v any
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&v); err != nil || d.More() || !strings.HasPrefix(line, `{"schema":"mycelium.`) {
			ts.Fatalf("line %d: no object with a schema: %v: %s", n+1, err, line)
		}
		if !strings.HasPrefix(line, `{"schema":"mycelium.`+args[1]+`/v1"`) {
			continue
		}
		all := true
		for i := 2; i < len(args); i += 2 {
			all = all && regexp.MustCompile("^(?:"+args[i+1]+")$").MatchString(at(v, args[i]))
		}
		found = found || all
	}
	if found == neg {
		ts.Fatalf("json %s: found %v", strings.Join(args, " "), found)
	}
}

// at is the JSON of a member, "absent" if there is none.
func at(v any, path string) string {
	for _, p := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			if m, ok := x[p]; ok {
				v = m
				continue
			}
		case []any:
			if i, err := strconv.Atoi(p); err == nil && i < len(x) {
				v = x[i]
				continue
			}
		}
		return "absent"
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(err)
	}
	return strings.TrimSpace(b.String())
}
