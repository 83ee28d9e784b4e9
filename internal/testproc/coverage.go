package testproc

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/coverage"
	"strings"
	"sync"
	"testing"
	"time"
)

var cover struct {
	sync.Mutex
	dir  string // "" = counters are not written
	file string
}

// startCoverage makes this process's counters writable at any time.
//
// A test binary leaves its counters to a hook at exit, which a kill skips, and
// runtime/coverage refuses to write them before the binary's meta-data has been
// written. The end of m.Run writes it, so a run of no test at all is made first,
// into a directory of its own. After it the hook is off: Flush does its work.
func startCoverage(m *testing.M) {
	dir := os.Getenv("GOCOVERDIR")
	if testing.CoverMode() != "atomic" || dir == "" {
		return
	}
	hash, err := writeMetaData(m)
	if err == nil && hash == "" {
		return // no package of this binary is counted
	}
	if err == nil {
		err = coverage.WriteMetaDir(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testproc: this child's coverage does not count:", err)
		return
	}
	cover.dir = dir
	cover.file = fmt.Sprintf("covcounters.%s.%d.%d", hash, os.Getpid(), time.Now().UnixNano())
	Flush()
}

func writeMetaData(m *testing.M) (hash string, err error) {
	tmp, err := os.MkdirTemp("", "testproc")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	defer null.Close()
	args, out, errs := os.Args, os.Stdout, os.Stderr
	os.Args = []string{args[0], "-test.run=^$", "-test.gocoverdir=" + tmp}
	os.Stdout, os.Stderr = null, null
	status := m.Run()
	os.Args, os.Stdout, os.Stderr = args, out, errs
	meta, _ := filepath.Glob(filepath.Join(tmp, "covmeta.*"))
	if status != 0 || len(meta) > 1 {
		return "", fmt.Errorf("a run of no test ended with status %d and %d meta-data files", status, len(meta))
	}
	if len(meta) == 0 {
		return "", nil
	}
	return strings.TrimPrefix(filepath.Base(meta[0]), "covmeta."), nil
}

// Flush writes a child's coverage counters now. In a test, and in a child that
// does not collect coverage, it does nothing. Safe for concurrent use.
func Flush() {
	cover.Lock()
	defer cover.Unlock()
	if cover.dir == "" {
		return
	}
	if err := writeCounters(filepath.Join(cover.dir, cover.file)); err != nil {
		fmt.Fprintln(os.Stderr, "testproc: coverage counters:", err)
		cover.dir = ""
	}
}

// writeCounters replaces the file as a whole: a kill leaves the last one.
func writeCounters(file string) error {
	tmp := filepath.Join(filepath.Dir(file), "tmp."+filepath.Base(file))
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	err = coverage.WriteCounters(f)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp, file)
}
