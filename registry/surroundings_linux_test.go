package registry

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/torq/mycelium/internal/testproc"
	"golang.org/x/sys/unix"
)

// What a child makes of its surroundings before it starts.
const (
	asEnv    = "REGISTRY_TEST_AS"     // "uid gid group group...": become that user
	filesEnv = "REGISTRY_TEST_NOFILE" // limit on open files
	tmpfsEnv = "REGISTRY_TEST_TMPFS"  // mount a tmpfs of 4 MiB there, in a mount namespace of its own
	fdsEnv   = "REGISTRY_TEST_LISTEN" // be handed sockets by the service manager: LISTEN_FDS
)

func surroundings() error {
	if n := os.Getenv(fdsEnv); n != "" {
		os.Setenv("LISTEN_FDS", n)
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	if dir := os.Getenv(tmpfsEnv); dir != "" {
		if err := mountTmpfs(dir); err != nil {
			return err
		}
	}
	if n := os.Getenv(filesEnv); n != "" {
		if err := limitFiles(n); err != nil {
			return err
		}
	}
	if who := os.Getenv(asEnv); who != "" {
		var ids []int
		for _, f := range strings.Fields(who) {
			id, err := strconv.Atoi(f)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		if err := syscall.Setgroups(ids[2:]); err != nil {
			return err
		}
		if err := syscall.Setgid(ids[1]); err != nil {
			return err
		}
		return syscall.Setuid(ids[0])
	}
	return nil
}

// limitFiles lets descriptors below n be opened, and no other.
func limitFiles(n string) error {
	var files unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	if err == nil {
		files.Cur, err = strconv.ParseUint(n, 10, 64)
	}
	if err == nil {
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &files)
	}
	return err
}

// Whether this machine lets a test mount something: "yes", or why not.
var _ = testproc.Register("may-mount", func(args []string) error {
	if err := privateTmpfs(args[0]); err != nil {
		fmt.Println(err)
	} else {
		fmt.Println("yes")
	}
	return nil
})

// mountTmpfs starts this process again, where the file system is.
func mountTmpfs(dir string) error {
	if err := privateTmpfs(dir); err != nil {
		return err
	}
	os.Unsetenv(tmpfsEnv)
	os.Setenv("MYCELIUM_TEST_PROC", "registry")
	os.Setenv("MYCELIUM_TEST_PARENT", strconv.Itoa(os.Getppid()))
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// privateTmpfs mounts a tmpfs of 4 MiB for this thread alone.
func privateTmpfs(dir string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount --make-rprivate /: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	return nil
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// sendPacket sends raw bytes, and a descriptor if told so.
func sendPacket(u *net.UnixConn, b []byte, f *os.File, with bool) error {
	var oob []byte
	if with {
		oob = unix.UnixRights(int(f.Fd()))
	}
	_, _, err := u.WriteMsgUnix(b, oob, nil)
	return err
}
