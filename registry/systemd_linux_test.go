package registry

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/config"
)

// manager is what a service manager listens to.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T, b *bus) *manager {
	path := filepath.Join(b.dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return &manager{t, c, path}
}

// next is the next state of which the first word is not the watchdog's, unless
// that is wanted.
func (m *manager) next(want string) string {
	m.t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(limit))
	buf := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			m.t.Fatalf("waiting for %s: %v", want, err)
		}
		state := string(buf[:n])
		if strings.HasPrefix(state, want) {
			return state
		}
		if !strings.HasPrefix(state, "WATCHDOG=1") {
			m.t.Fatalf("the manager was told %q, want %s", state, want)
		}
	}
}

func TestServiceManagerIsToldWhatHappens(t *testing.T) {
	b := newBus(t, "", "")
	m := newManager(t, b)
	r := b.start("NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=20000")
	m.next("READY=1")
	m.next("WATCHDOG=1")
	m.next("WATCHDOG=1")
	for range 2 {
		r.Signal(syscall.SIGHUP)
		if state := m.next("RELOADING=1"); !strings.Contains(state, "\nMONOTONIC_USEC=") {
			t.Errorf("reload: %q", state)
		}
		m.next("READY=1")
		b.configure("nonsense = 1", "")
	}
	r.Signal(syscall.SIGTERM)
	m.next("STOPPING=1")
	if err := r.Wait(); err != nil {
		t.Error(err)
	}
}

func TestDeafServiceManagerIsSurvived(t *testing.T) {
	b := newBus(t, "", "")
	t.Setenv("NOTIFY_SOCKET", filepath.Join(b.dir, "nothing"))
	t.Setenv("WATCHDOG_USEC", "soon")
	stop := b.serve()
	exchange(t, b.dial(), "a.b")
	stop()
}

// activated starts a registry that is handed sockets.
func (b *bus) activated(n int, files ...*os.File) (*exec.Cmd, *strings.Builder) {
	b.t.Helper()
	self, err := os.Executable()
	must(b.t, err)
	cmd := exec.Command(self, b.file, b.log)
	cmd.Env = append(os.Environ(), "MYCELIUM_TEST_PROC=registry", "MYCELIUM_TEST_PARENT="+itoa(os.Getpid()), fdsEnv+"="+itoa(n))
	cmd.ExtraFiles = files
	out := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	must(b.t, cmd.Start())
	dog := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		dog.Stop()
	})
	return cmd, out
}

func TestSocketOfTheServiceManagerIsUsedAndLeft(t *testing.T) {
	b := newBus(t, "access = \"owner\"", "")
	must(t, os.Mkdir(filepath.Dir(b.socket), 0o755))
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: b.socket, Net: "unixpacket"})
	must(t, err)
	defer l.Close()
	must(t, os.Chmod(b.socket, 0o640))
	f, err := l.File()
	must(t, err)
	defer f.Close()
	for range 2 { // a client that comes between the two waits in the socket
		dialled := make(chan error, 1)
		go func() {
			c, err := Dial(testContext(t), b.socket, nil)
			if err == nil {
				err = c.Close()
			}
			dialled <- err
		}()
		cmd, _ := b.activated(1, f)
		if err := <-dialled; err != nil {
			t.Fatal(err)
		}
		b.configure("access = \"all\"", "")
		must(t, cmd.Process.Signal(syscall.SIGHUP))
		eventually(t, "the reload", func() bool { return b.stats().Counters["reloads"] == 1 })
		exchange(t, b.dial(), "a.b")
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(b.socket); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("the manager's socket: %v %v", info.Mode(), err)
		}
	}
}

func TestWrongSocketsOfTheServiceManagerAreRefused(t *testing.T) {
	b := newBus(t, "", "")
	stream, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(b.dir, "stream"), Net: "unix"})
	must(t, err)
	defer stream.Close()
	f, err := stream.File()
	must(t, err)
	defer f.Close()
	for n := 1; n <= 2; n++ {
		cmd, out := b.activated(n, []*os.File{f, f}[:n]...)
		if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "ListenSequentialPacket=") {
			t.Errorf("%d stream sockets: %v, %s", n, err, out)
		}
	}
}

func TestSocketThatCannotBeSeenHasTheRegistrysGroup(t *testing.T) {
	l := &listener{path: filepath.Join(t.TempDir(), "gone")}
	if l.group() != uint32(os.Getegid()) || l.mine() || l.setAccess(config.AccessAll) != nil {
		t.Errorf("group %d, mine %v", l.group(), l.mine())
	}
}

func TestUnitFilesNameThePlacesThatClientsKnow(t *testing.T) {
	paths := config.DefaultPaths(0, func(string) string { return "" })
	for unit, lines := range map[string][]string{
		"mycelium-registry.socket": {"ListenSequentialPacket=" + paths.Socket},
		"mycelium-registry.service": {
			"Environment=MYCELIUM_REGISTRY=" + paths.Socket,
			"Environment=MYCELIUM_SHM_DIR=" + paths.ShmDir,
			"--config " + paths.ConfigFile,
			"Type=notify-reload",
		},
		// READY may be long in coming, and whoever is stopped before it exits with 143.
		"mycelium-forward.service": {"Environment=MYCELIUM_REGISTRY=" + paths.Socket, "Type=notify", "TimeoutStartSec=infinity", "SuccessExitStatus=143"},
		"mycelium-torq.service":    {"Environment=MYCELIUM_REGISTRY=" + paths.Socket, "Type=notify", "TimeoutStartSec=infinity", "SuccessExitStatus=143"},
	} {
		text, err := os.ReadFile(filepath.Join("..", "docs", "systemd", unit))
		must(t, err)
		for _, line := range lines {
			if !strings.Contains(string(text), line+"\n") {
				t.Errorf("%s has no %q", unit, line)
			}
		}
	}
}
