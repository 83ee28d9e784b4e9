package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/directory"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/shm"
	"golang.org/x/sys/unix"
)

func TestSocketIsThereOnlyWhileServed(t *testing.T) {
	for access, want := range map[string][2]fs.FileMode{"owner": {0o600, 0o700}, "group": {0o660, 0o755}, "all": {0o666, 0o755}} {
		b := newBus(t, "access = \""+access+"\"", "")
		stop := b.serve()
		for i, path := range []string{b.socket, filepath.Dir(b.socket)} {
			if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != want[i] {
				t.Errorf("access %s: %s: %v %v, want %v", access, path, info.Mode(), err, want[i])
			}
		}
		c := b.dial()
		exchange(t, c, "a.b")
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		stop()
		if _, err := Dial(testContext(t), b.socket, nil); !errors.Is(err, shm.ErrRegistryDown) {
			t.Errorf("access %s: dial after the end: %v", access, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(b.socket)); len(left) != 0 {
			t.Errorf("access %s: left: %v", access, left)
		}
	}
}

func TestClientThatWaitsIsThereBeforeTheRegistry(t *testing.T) {
	b := newBus(t, "", "")
	told := make(chan string, 10)
	o := &DialOptions{Waiting: func(socket string, why error) { told <- socket + " " + fmt.Sprint(errors.Is(why, fs.ErrNotExist)) }}
	type dialled struct {
		c   *shm.Client
		err error
	}
	done := make(chan dialled, 1)
	go func() {
		c, err := Dial(testContext(t), b.socket, o)
		done <- dialled{c, err}
	}()
	if got := <-told; got != b.socket+" true" {
		t.Fatalf("told %q", got)
	}
	b.serve()
	d := <-done
	must(t, d.err)
	defer d.c.Close()
	exchange(t, d.c, "a.b")
	if len(told) > 0 {
		t.Errorf("told again: %q", <-told)
	}
}

func TestWhatWaitingDoesNotMendIsNotWaitedFor(t *testing.T) {
	b := newBus(t, "", "")
	file, stream := filepath.Join(b.dir, "file"), filepath.Join(b.dir, "stream")
	must(t, os.WriteFile(file, nil, 0o600))
	l, err := net.Listen("unix", stream)
	must(t, err)
	defer l.Close()
	o := &DialOptions{Waiting: func(socket string, why error) { t.Errorf("waits at %s: %v", socket, why) }}
	for name, socket := range map[string]string{
		"below a file": filepath.Join(file, "r.sock"), "another kind of socket": stream, "too long": filepath.Join(b.dir, strings.Repeat("x", 200)),
	} {
		if _, err := Dial(testContext(t), socket, o); !errors.Is(err, shm.ErrRegistryDown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, err := range []error{shm.ErrVersion, shm.ErrQuota, fmt.Errorf("%w: %w", shm.ErrRegistryDown, fs.ErrPermission)} {
		if mayCome(err) {
			t.Errorf("%v is waited for", err)
		}
	}
}

func TestSecondRegistryIsRefused(t *testing.T) {
	b := newBus(t, "", "")
	first := b.start()
	_, err := start(Options{Load: loadFile(b.file), Log: discard()})
	var busy *directory.BusyError
	if !errors.As(err, &busy) || busy.PID != first.Pid() || !errors.Is(err, directory.ErrBusy) {
		t.Errorf("same bus: %v, want a BusyError of process %d", err, first.Pid())
	}
	other := newBus(t, "", "")
	other.socket = b.socket
	other.configure("", "")
	_, err = start(Options{Load: loadFile(other.file), Log: discard()})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), b.socket) || !strings.Contains(err.Error(), "process "+itoa(first.Pid())) {
		t.Errorf("same socket: %v", err)
	}
	exchange(t, b.dial(), "a.b")
}

func TestWhatIsNoDeadSocketIsNotReplaced(t *testing.T) {
	b := newBus(t, "", "")
	must(t, os.Mkdir(filepath.Dir(b.socket), 0o700))
	must(t, os.WriteFile(b.socket, []byte("precious"), 0o600))
	if _, err := start(Options{Load: loadFile(b.file), Log: discard()}); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), b.socket) {
		t.Errorf("over a file: %v", err)
	}
	if text, _ := os.ReadFile(b.socket); string(text) != "precious" {
		t.Errorf("the file holds %q", text)
	}
	must(t, os.Remove(b.socket))

	stream, err := net.Listen("unix", b.socket)
	must(t, err)
	if _, err := start(Options{Load: loadFile(b.file), Log: discard()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("over a socket of another kind: %v", err)
	}
	stream.(*net.UnixListener).SetUnlinkOnClose(false)
	must(t, stream.Close())
	must(t, os.Mkdir(b.socket+newSuffix, 0o700)) // empty: it goes
	b.serve()
	exchange(t, b.dial(), "a.b")
}

func TestStartThatFailsLeavesTheBusFree(t *testing.T) {
	b := newBus(t, "", "")
	must(t, os.WriteFile(filepath.Dir(b.socket), nil, 0o600)) // where the directory should be
	if _, err := start(Options{Load: loadFile(b.file), Log: discard()}); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("socket's directory is a file: %v", err)
	}
	must(t, os.Remove(filepath.Dir(b.socket)))
	must(t, os.MkdirAll(filepath.Join(b.socket+newSuffix, "full"), 0o700))
	if _, err := start(Options{Load: loadFile(b.file), Log: discard()}); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Errorf("temporary name taken: %v", err)
	}
	must(t, os.RemoveAll(b.socket+newSuffix))
	gone := filepath.Join(b.dir, "gone")
	must(t, os.Symlink("nowhere", gone))
	if _, err := listen(filepath.Join(gone, "r.sock"), config.AccessOwner); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket's directory is a link to nothing: %v", err)
	}
	if _, err := listen(filepath.Join(gone, "run", "r.sock"), config.AccessAll); !errors.Is(err, fs.ErrExist) {
		t.Errorf("above the socket's directory is a link to nothing: %v", err)
	}
	must(t, os.MkdirAll(b.shm, 0o755))
	must(t, os.Chmod(b.shm, 0o755))
	if err := Serve(t.Context(), Options{Load: loadFile(b.file), Log: discard()}); !errors.Is(err, directory.ErrUnsafe) {
		t.Errorf("bus directory open to others: %v", err)
	}
	must(t, os.Chmod(b.shm, 0o700))
	b.configure("acess = 3", "")
	var bad *config.Error
	if err := Serve(t.Context(), Options{Load: loadFile(b.file)}); !errors.As(err, &bad) || bad.Problems[0].Line != 4 {
		t.Errorf("bad configuration: %v", err)
	}
	if err := Serve(t.Context(), Options{Config: &config.Config{Registry: config.Registry{Access: "some"}}}); !errors.As(err, &bad) {
		t.Errorf("bad configuration made in Go: %v", err)
	}
	b.configure("", "")
	stop := b.serve()
	must(t, os.Remove(b.socket))
	must(t, os.WriteFile(b.socket, []byte("somebody else's"), 0o600))
	stop()
	if _, err := os.Stat(b.socket); err != nil {
		t.Error("the end took away what was not its own:", err)
	}
}

func TestConfigurationMadeInGo(t *testing.T) {
	b := newBus(t, "", "")
	cfg := config.Default()
	cfg.Registry.Socket, cfg.Registry.ShmDir = b.socket, b.shm
	stop := b.serveWith(Options{Config: cfg, CleanUp: true, Log: discard()})
	c := b.dial()
	exchange(t, c, "a.b")
	must(t, c.Close())
	stop()
	for _, sub := range []string{"l", "c"} {
		if left, _ := os.ReadDir(filepath.Join(b.shm, sub)); len(left) != 0 {
			t.Errorf("CleanUp left %v", left)
		}
	}
}

// With nothing said at all, the registry and Dial meet at the default socket.
func TestDefaultsMeet(t *testing.T) {
	b := newBus(t, "", "")
	t.Setenv("MYCELIUM_REGISTRY", "")
	if got, want := DefaultSocket(), config.Default().Registry.Socket; got != want {
		t.Errorf("DefaultSocket %q, want %q", got, want)
	}
	b.serve()
	t.Setenv("MYCELIUM_REGISTRY", b.socket)
	c, err := Dial(testContext(t), "", &DialOptions{Program: "test"})
	must(t, err)
	must(t, c.Close())
}

func TestKilledRegistryIsReplacedWhileFramesFlow(t *testing.T) {
	b := newBus(t, "", "[[topic]]\nname = \"load.>\"\npolicy = \"block:10s\"")
	r := b.start()
	l := b.load()
	for i := range 3 {
		time.Sleep(50 * time.Millisecond)
		r.Kill()
		if _, err := os.Lstat(b.socket); err != nil {
			t.Fatal("no stale socket to replace:", err)
		}
		time.Sleep(50 * time.Millisecond)
		r = b.start()
		exchange(t, b.dial(), "other.topic")
		eventually(t, "both clients back", func() bool {
			c := b.stats().Counters
			return c["resumed_lanes"] == 1 && c["resumed_subscribers"] == 1
		})
		if c := b.stats().Counters; c["adoptions"] != 2 {
			t.Errorf("restart %d: %d adoptions, want 2", i, c["adoptions"])
		}
	}
	l.finish()
	r.Signal(syscall.SIGTERM)
	if line := r.Line(); line != "end <nil>" {
		t.Errorf("the registry's last word: %q", line)
	}
	if err := r.Wait(); err != nil {
		t.Error(err)
	}
}

func TestPublisherThatDiesWhileTheRegistryIsDownIsFoundDead(t *testing.T) {
	b := newBus(t, "lane_grace = \"1ms\"", "")
	r := b.start()
	l := b.load()
	time.Sleep(20 * time.Millisecond)
	r.Kill()
	l.pub.Kill()
	l.sub.Kill()
	b.start()
	eventually(t, "an empty bus", func() bool {
		st := b.stats()
		return st.Lanes == 0 && st.Subscribers == 0 && st.Counters["deaths_publisher"] == 1 && st.Counters["deaths_subscriber"] == 1
	})
}

func TestStoppedClientHoldsNobodyUp(t *testing.T) {
	b := newBus(t, "", "")
	b.start()
	l := b.load()
	l.sub.Stop()
	idle := b.client()
	idle.tell("dial")
	idle.Stop()
	exchange(t, b.dial(), "other.topic")
	if n := b.stats().Subscribers; n != 1 {
		t.Errorf("%d subscribers: a stopped one was taken for dead", n)
	}
	l.sub.Cont()
	l.pub.Kill() // it may have met its policy's deadline
	eventually(t, "the death of the publisher", func() bool { return b.stats().Counters["deaths_publisher"] == 1 })
	if idle.Cont(); idle.tell("publish a.b") != "ok" {
		t.Error("a client that was stopped for a while cannot publish")
	}
}

func TestGarbageOnTheSocketHurtsOnlyItsSender(t *testing.T) {
	b := newBus(t, "handshake_timeout = \"50ms\"", "")
	b.start()
	good := b.dial()
	hello := &control.Message{Op: control.OpHello, ID: 1, Hello: &control.Hello{Version: control.Version}}
	raw := func() *net.UnixConn {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: b.socket, Net: "unixpacket"})
		must(t, err)
		_ = c.SetDeadline(time.Now().Add(limit))
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for _, packet := range []string{"\x00", "{", `{"op":"hello"}`, `{"op":"open-pub","open_pub":{}}`, strings.Repeat("x", 70000), "[" + strings.Repeat("[", 9000)} {
		c := raw()
		_, _ = c.Write([]byte(packet))
		if m, _, err := control.NewConn(c).Recv(); err != nil || m.Error == nil {
			t.Errorf("%.20q: %+v, %v: want an answer that refuses", packet, m, err)
		}
	}
	silent := control.NewConn(raw())
	if _, _, err := silent.Recv(); err == nil {
		t.Error("a client that never says hello was answered")
	}
	fd, err := os.Open(os.DevNull)
	must(t, err)
	defer fd.Close()
	sender := control.NewConn(raw())
	must(t, sender.Send(hello, fd))
	if m, _, err := sender.Recv(); err != nil || m.Op != control.OpWelcome {
		t.Errorf("hello with a descriptor: %+v, %v", m, err)
	}
	if n := b.stats().Counters["descriptors_refused"]; n != 1 {
		t.Errorf("%d descriptors refused, want 1", n)
	}
	exchange(t, good, "a.b")
}

func TestFullTmpfsIsAnErrorEverybodySurvives(t *testing.T) {
	b := newBus(t, `lane_grace = "1ms"`, "[[topic]]\nname = \">\"\nring = \"1MiB\"")
	must(t, os.Mkdir(b.shm, 0o700))
	full := shm.ErrNoSpace
	if may := testproc.Start(t, "may-mount", []string{b.shm}, nil).Line(); may == "yes" {
		b.start(tmpfsEnv + "=" + b.shm)
		// The file system is seen by the registry alone: clients get descriptors.
		if seen, _ := os.ReadDir(b.shm); len(seen) != 0 {
			t.Fatal("the tmpfs is not a place of the registry's own:", seen)
		}
	} else {
		t.Log("a quota instead of a file system:", may)
		b.configure("lane_grace = \"1ms\"\nmax_shm_bytes = \"4MiB\"", "")
		b.start()
		full = shm.ErrQuota
	}
	c := b.dial()
	ctx := testContext(t)
	var pubs []*shm.Publisher
	var err error
	for len(pubs) < 10 {
		var p *shm.Publisher
		if p, err = c.Publisher(ctx, "a.b", &shm.PublisherOptions{Source: "s" + itoa(len(pubs))}); err != nil {
			break
		}
		pubs = append(pubs, p)
		if _, err := p.Publish(1, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if len(pubs) != 3 || !errors.Is(err, full) {
		t.Fatalf("%d publishers of 1 MiB in 4 MiB, then %v", len(pubs), err)
	}
	for i := range 5000 { // each ring is laid over several times
		for _, p := range pubs {
			if _, err := p.Publish(1, make([]byte, 1000)); err != nil {
				t.Fatal(i, err)
			}
		}
	}
	eventually(t, "what did not fit removed", func() bool { return b.stats().Lanes == 3 })
	must(t, pubs[0].Close())
	eventually(t, "the closed lane removed", func() bool { return b.stats().Lanes == 2 })
	p, err := c.Publisher(ctx, "a.b", &shm.PublisherOptions{Source: "again"})
	if err != nil {
		t.Fatal("after one was closed:", err)
	}
	must(t, p.Close())
}

func TestRegistryWithoutDescriptorsSaysSo(t *testing.T) {
	b := newBus(t, "", "")
	b.start(filesEnv + "=32")
	b.awaitLog("max_connections=4")
	var clients []*shm.Client
	var err error
	for len(clients) < 20 {
		var c *shm.Client
		if c, err = Dial(testContext(t), b.socket, nil); err != nil {
			break
		}
		clients = append(clients, c)
	}
	if len(clients) != 4 || !errors.Is(err, shm.ErrQuota) || !strings.Contains(err.Error(), "4 connections") {
		t.Fatalf("%d clients of a registry with 32 descriptors, then %v", len(clients), err)
	}
	for i, c := range clients {
		exchange(t, c, "a.b"+itoa(i))
	}
	for _, c := range clients {
		must(t, c.Close())
	}
	eventually(t, "room again", func() bool {
		c, err := Dial(testContext(t), b.socket, nil)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	if n := b.stats().Counters["connections_refused"]; n == 0 {
		t.Error("the refusal was not counted")
	}
}

func TestClientWithoutDescriptorsLives(t *testing.T) {
	b := newBus(t, "", "")
	b.start()
	c := b.client(filesEnv + "=32")
	if got := c.tell("dial"); got != "ok" {
		t.Fatal(got)
	}
	// A publisher keeps no descriptor: it must not run out of them.
	for i := range 40 {
		if got := c.tell("publish a.b" + itoa(i)); got != "ok" {
			t.Fatalf("publisher %d: %s", i, got)
		}
	}
	if got := c.tell("subscribe a.>"); got != "ok" {
		t.Error(got)
	}
	// With none at all it is told so, and goes on once there are some.
	c.tell("files 3")
	for _, ask := range []string{"publish a.c", "subscribe a.c"} {
		if got := c.tell(ask); got == "ok" || !strings.Contains(got, "descriptor") {
			t.Errorf("%s without descriptors: %s", ask, got)
		}
	}
	c.tell("files 32")
	for _, ask := range []string{"publish a.c", "subscribe a.c"} {
		if got := c.tell(ask); got != "ok" {
			t.Errorf("%s: %s", ask, got)
		}
	}
}

func TestConnectionLimitFollowsTheDescriptors(t *testing.T) {
	var files unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &files))
	if got, want := connectionLimit(2), min(32, (int64(files.Cur)-ownDescriptors)/2); got != want {
		t.Errorf("limit %d, want %d", got, want)
	}
	if got := connectionLimit(1 << 16); got > hardLimit {
		t.Errorf("limit %d, the most is %d", got, hardLimit)
	}
}

// Whoever attaches while the registry restarts is attached when it is back.
func TestAttachOutlivesARestart(t *testing.T) {
	b := newBus(t, "", "")
	stop := b.serve()
	c := b.dial()
	for i := range 20 {
		attached := make(chan error, 1)
		go func() {
			_, err := c.Publisher(testContext(t), "a.b"+itoa(i), nil)
			attached <- err
		}()
		time.Sleep(time.Duration(i) * 50 * time.Microsecond)
		stop()
		stop = b.serve()
		if err := <-attached; err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
}

func TestEndWaitsForNobody(t *testing.T) {
	b := newBus(t, "", "")
	stop := b.serve()
	c := b.dial()
	p, err := c.Publisher(testContext(t), "a.b", nil)
	must(t, err)
	stop()
	if _, err := p.Publish(1, []byte("x")); err != nil {
		t.Error("publishing without a registry:", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Publisher(ctx, "a.c", nil); !errors.Is(err, shm.ErrRegistryDown) {
		t.Errorf("attach without a registry: %v", err)
	}
	b.serve()
	if _, err := c.Publisher(testContext(t), "a.c", nil); err != nil {
		t.Error("attach after the restart:", err)
	}
	must(t, p.Close())
}
