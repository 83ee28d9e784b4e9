package seqlock

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// In the environment of a writer process: the number of its litmus, and the file
// to map.
const (
	litmusCaseEnv = "SEQLOCK_LITMUS_CASE"
	litmusFileEnv = "SEQLOCK_LITMUS_FILE"
)

// TestMain turns the test binary into the writer process of a litmus.
func TestMain(m *testing.M) {
	number, child := os.LookupEnv(litmusCaseEnv)
	if !child {
		os.Exit(m.Run())
	}
	if err := writerProcess(number, os.Getenv(litmusFileEnv)); err != nil {
		fmt.Fprintln(os.Stderr, "writer process:", err)
		os.Exit(1)
	}
}

func writerProcess(number, file string) error {
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	m, unmap, err := mapLitmus(file)
	if err != nil {
		return err
	}
	defer unmap()
	runWriter(litmuses[n], &m)
	return nil
}

func mapLitmus(file string) (m litmusMemory, unmap func(), err error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return m, nil, err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, litmusBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return m, nil, err
	}
	m, err = litmusOver(b)
	return m, func() { unix.Munmap(b) }, err
}

func TestReaderInAnotherProcessSeesWhatMayNotBe(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for n, l := range litmuses {
		t.Run(l.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "litmus")
			if err := os.WriteFile(file, make([]byte, litmusBytes), 0o600); err != nil {
				t.Fatal(err)
			}
			m, unmap, err := mapLitmus(file)
			if err != nil {
				t.Fatal(err)
			}
			defer unmap()
			writer := exec.CommandContext(t.Context(), self)
			writer.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", litmusCaseEnv+"="+strconv.Itoa(n), litmusFileEnv+"="+file)
			writer.Stdout, writer.Stderr = os.Stdout, os.Stderr
			if err := writer.Start(); err != nil {
				t.Fatal(err)
			}
			runReader(t, l, &m)
			if err := writer.Wait(); err != nil {
				t.Errorf("writer process: %v", err)
			}
		})
	}
}
