package torqbridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/tests/legacy"
)

// Users that own nothing on a sane machine.
const (
	relayUser  = 64001
	bridgeUser = 64002
	otherUser  = 64003
)

// become makes this process one of "USER GROUP".
func become(who string) error {
	var user, group int
	if _, err := fmt.Sscan(who, &user, &group); err != nil {
		return err
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(group); err != nil {
		return err
	}
	return syscall.Setuid(user)
}

// relay-as WHO UMASK PATH is a relay of another user.
var _ = testproc.Register("relay-as", func(args []string) error {
	if err := become(args[0]); err != nil {
		return err
	}
	umask, err := strconv.ParseInt(args[1], 8, 0)
	if err != nil {
		return err
	}
	syscall.Umask(int(umask))
	if _, err := legacy.Listen(args[2], legacy.AnyDomain); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
})

// bridge-as WHO REGISTRY-CONFIG CONFIG is a bus and a bridge of another user.
var _ = testproc.Register("bridge-as", func(args []string) error {
	if err := become(args[0]); err != nil {
		return err
	}
	rc, err := config.Load(config.LoadOptions{File: args[1], Environ: []string{}})
	if err != nil {
		return err
	}
	var cfg Config
	if err := json.Unmarshal([]byte(args[2]), &cfg); err != nil {
		return err
	}
	rctx, end := context.WithCancel(context.Background())
	defer end()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- registry.Serve(rctx, registry.Options{Config: rc, Ready: func() { close(ready) }}) }()
	select {
	case <-ready:
	case err := <-done:
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	err = Serve(ctx, cfg, Options{Ready: func() { fmt.Println("ready") }})
	end()
	<-done
	return err
})

// dial-as WHO PATH prints whether that user can connect.
var _ = testproc.Register("dial-as", func(args []string) error {
	err := become(args[0])
	if err == nil {
		var c net.Conn
		if c, err = net.Dial("unix", args[1]); err == nil {
			_ = c.Close()
		}
	}
	fmt.Println(err)
	return nil
})

// users is a place whose relay and bridge have users of their own.
type users struct{ *place }

// newUsers starts both; the directory of the sockets has this mode.
func newUsers(t *testing.T, dirMode os.FileMode, relay, umask, bridge string) *users {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root has processes of several users")
	}
	ctx := watch(t)
	dir, err := os.MkdirTemp("/dev/shm", "mycelium-torq-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &place{t: t, ctx: ctx, dir: dir, registry: filepath.Join(dir, "bridge", "r")}
	must(t, os.Chmod(dir, dirMode))
	own := filepath.Join(dir, "bridge")
	must(t, os.Mkdir(own, 0o700))
	must(t, os.Chown(own, bridgeUser, bridgeUser))
	file := filepath.Join(dir, "mycelium.toml")
	must(t, os.WriteFile(file, fmt.Appendf(nil, "[registry]\nsocket = %q\nshm_dir = %q\nlog_level = \"error\"\n", p.registry, filepath.Join(own, "bus")), 0o644))
	cfg := p.config(ModeShadow)
	cfg.Control, cfg.Hold = filepath.Join(own, "torq.sock"), 500*time.Millisecond
	args, err := json.Marshal(cfg)
	must(t, err)
	for _, proc := range []*testproc.Proc{
		testproc.Start(t, "relay-as", []string{relay, umask, p.socket("market_data")}, nil),
		testproc.Start(t, "bridge-as", []string{bridge, file, string(args)}, nil),
	} {
		proc.Limit(limit)
		if got := proc.Line(); got != "ready" {
			t.Fatalf("%q", got)
		}
		t.Cleanup(func() { _ = proc.Wait() })
	}
	return &users{p}
}

func (u *users) control() string { return filepath.Join(u.dir, "bridge", "torq.sock") }

func (u *users) status() Status {
	u.t.Helper()
	s, err := GetStatus(u.ctx, u.control(), "")
	must(u.t, err)
	return s[0]
}

func (u *users) move(to Mode) (Move, error) {
	return MoveTo(u.ctx, u.control(), "market_data", to, true, false)
}

// owner is the user of the socket that a path leads to.
func owner(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Uid
}

func (u *users) dialAs(who string) string {
	u.t.Helper()
	proc := testproc.Start(u.t, "dial-as", []string{who, u.socket("market_data")}, nil)
	line := proc.Line()
	must(u.t, proc.Wait())
	return line
}

func who(user, group int) string { return fmt.Sprint(user, " ", group) }

// TestSocketOfAnotherUserIsNotHandedBack: the kernel does not let a user make a second
// name for a socket of another (fs.protected_hardlinks), so the one it has is changed.
func TestSocketOfAnotherUserIsNotHandedBack(t *testing.T) {
	if b, err := os.ReadFile("/proc/sys/fs/protected_hardlinks"); err != nil || strings.TrimSpace(string(b)) != "1" {
		t.Skip("this kernel lets everybody link everything: the fallback is not reached")
	}
	u := newUsers(t, 0o777, who(relayUser, relayUser), "0", who(bridgeUser, bridgeUser))
	path := u.socket("market_data")
	_, l := u.consume(path)
	p1 := u.load(path, 1)
	eventually(t, "the relay is mirrored", func() bool { return u.status().RelayUp })
	for range 2 {
		if _, err := u.move(ModeBus); err != nil {
			t.Fatal(err)
		}
		if a, b := owner(t, path), owner(t, path+".legacy"); a != bridgeUser || b != relayUser {
			t.Errorf("after the cutover the socket is user %d's, the relay's user %d's", a, b)
		}
		if got := u.dialAs(who(otherUser, otherUser)); got != "<nil>" {
			t.Errorf("a user who could connect to the relay: %s", got)
		}
		at := p1.sent.Load()
		p1.restart.Store(true)
		eventually(t, "the producer has moved", func() bool { return u.status().Producers == 1 && p1.sent.Load() > at+100 })
		m, err := u.move(ModeShadow)
		must(t, err)
		if s := u.status(); s.Served != "relay" || m.Forced != 0 {
			t.Errorf("after the rollback: %+v, %+v", m, s)
		}
		if a := owner(t, path); a != relayUser {
			t.Errorf("after the rollback the socket is user %d's", a)
		}
		at = p1.sent.Load()
		eventually(t, "the producer goes on", func() bool { return p1.sent.Load() > at+100 })
	}
	n := p1.stop()
	eventually(t, "the consumer has all", func() bool { return l.Total() >= int(n) })
	time.Sleep(100 * time.Millisecond) // what comes now is too much
	check(t, l, "consumer", 1, 0, n)
	if s := u.status(); s.Lost != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestCutoverThatCannotRenameHarmsTheRelay: in a directory with the sticky bit nobody
// may rename what is another's.
func TestCutoverThatCannotRenameHarmsTheRelay(t *testing.T) {
	u := newUsers(t, 0o777|os.ModeSticky, who(relayUser, relayUser), "0", who(bridgeUser, bridgeUser))
	path := u.socket("market_data")
	_, l := u.consume(path)
	p1 := u.load(path, 1)
	eventually(t, "the relay is mirrored", func() bool { return u.status().RelayUp })
	_, err := u.move(ModeBus)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "operation not permitted") {
		t.Errorf("cutover: %v", err)
	}
	at := p1.sent.Load()
	eventually(t, "the producer goes on", func() bool { return p1.sent.Load() > at+100 })
	n := p1.stop()
	eventually(t, "the consumer has all", func() bool { return l.Total() >= int(n) })
	check(t, l, "consumer", 1, 0, n)
	if s := u.status(); s.Served != "relay" || s.Mode != ModeShadow || owner(t, path) != relayUser {
		t.Errorf("after the refusal: %+v", s)
	}
}

// TestClientsOfTheRelayAreLockedOut: the bridge's socket lets in whom the relay's did,
// or the cutover is refused.
func TestClientsOfTheRelayAreLockedOut(t *testing.T) {
	const group = 64010
	for name, c := range map[string]struct {
		relay, umask, bridge string
		in                   []string // who connects before and after
		refused              bool
	}{
		"root, for the relay's user":        {who(relayUser, relayUser), "022", "0 0", []string{who(relayUser, relayUser)}, false},
		"one group":                         {who(relayUser, group), "002", who(bridgeUser, group), []string{who(relayUser, group), who(otherUser, group)}, false},
		"one user":                          {who(bridgeUser, bridgeUser), "077", who(bridgeUser, bridgeUser), []string{who(bridgeUser, bridgeUser)}, false},
		"a group that the bridge is not in": {who(bridgeUser, group), "002", who(bridgeUser, bridgeUser), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUsers(t, 0o777, c.relay, c.umask, c.bridge)
			eventually(t, "the relay is mirrored", func() bool { return u.status().RelayUp })
			_, err := u.move(ModeBus)
			if c.refused {
				if s := u.status(); !errors.Is(err, ErrAccess) || s.Served != "relay" || s.Mode != ModeShadow {
					t.Errorf("cutover: %v; %+v", err, s)
				}
				return
			}
			must(t, err)
			for _, one := range c.in {
				if got := u.dialAs(one); got != "<nil>" {
					t.Errorf("user and group %s: %s", one, got)
				}
			}
			if got := u.dialAs(who(otherUser, otherUser)); !strings.Contains(got, "permission denied") {
				t.Errorf("a stranger: %s", got)
			}
		})
	}
}
