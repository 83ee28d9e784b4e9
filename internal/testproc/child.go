package testproc

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// In the environment of a child: the function to run, and the process that
// started it.
const (
	procEnv   = "MYCELIUM_TEST_PROC"
	parentEnv = "MYCELIUM_TEST_PARENT"
)

var procs = map[string]func(args []string) error{}

// Register names a function that [Start] can run in a process of its own. Call it
// from a package-level variable or init, under a name that is used once.
func Register(name string, f func(args []string) error) struct{} {
	if procs[name] != nil {
		panic("testproc: " + name + " registered twice")
	}
	procs[name] = f
	return struct{}{}
}

// Main is the whole of a TestMain: it runs the tests or, in a child, the
// child's function. It does not return.
func Main(m *testing.M) {
	name, child := os.LookupEnv(procEnv)
	if !child {
		os.Exit(m.Run())
	}
	parent, _ := strconv.Atoi(os.Getenv(parentEnv))
	os.Unsetenv(procEnv) // a process that the child starts is not this child again
	os.Unsetenv(parentEnv)
	f := procs[name]
	if f == nil {
		fmt.Fprintf(os.Stderr, "testproc: no function %q: is it registered in this package?\n", name)
		os.Exit(2)
	}
	startCoverage(m)
	go keep(parent)
	defer Flush() // also when f panics
	if err := f(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		Flush()
		os.Exit(1)
	}
	Flush()
	os.Exit(0)
}

// keep writes the counters from time to time and ends the child when its parent
// has gone.
func keep(parent int) {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		time.Sleep(pause)
		Flush()
		if os.Getppid() != parent {
			fmt.Fprintln(os.Stderr, "testproc: the test is gone")
			os.Exit(1)
		}
	}
}
