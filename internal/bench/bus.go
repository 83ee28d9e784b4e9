package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/torq/mycelium/internal/directory"
)

// bus is a private bus with a registry process of its own, all of it in one
// directory.
type bus struct {
	dir    string
	socket string
	cmd    *exec.Cmd
	gone   chan struct{} // closed when the registry has ended
}

// openBus starts a registry, with more TOML for its table and its topics, and waits until
// it answers.
func openBus(ctx context.Context, env Env, more string) (b *bus, err error) {
	directory.RemoveLeftovers("/dev/shm", "mycelium-bench-") // of runs that were killed
	dir, err := os.MkdirTemp("/dev/shm", "mycelium-bench-")
	if err != nil {
		return nil, err
	}
	b = &bus{dir: dir, socket: filepath.Join(dir, "registry.sock")}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	config := filepath.Join(dir, "mycelium.toml")
	text := fmt.Sprintf("[registry]\nsocket = %q\nshm_dir = %q\nlane_grace = \"1s\"\nlog_level = \"warn\"\n%s", b.socket, filepath.Join(dir, "bus"), more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := env.Registry(config)
	cmd.Stderr = env.Stderr
	cmd.SysProcAttr = dieWithParent
	cmd.Env = withoutSettings(cmd.Environ())
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the registry: %w", err)
	}
	b.cmd, b.gone = cmd, make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(b.gone)
	}()
	return b, b.await(ctx)
}

// withoutSettings leaves out what would win over the configuration file.
func withoutSettings(env []string) (out []string) {
	for _, v := range env {
		if !strings.HasPrefix(v, "MYCELIUM_") && !strings.HasPrefix(v, "NOTIFY_SOCKET=") && !strings.HasPrefix(v, "LISTEN_") {
			out = append(out, v)
		}
	}
	return out
}

// await waits until a client can attach.
func (b *bus) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, attachTimeout, errors.New("the registry does not answer"))
	defer cancel()
	for {
		c, err := net.Dial("unixpacket", b.socket)
		if err == nil {
			return c.Close()
		}
		select {
		case <-b.gone:
			return fmt.Errorf("the registry ended: %v", b.cmd.ProcessState)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// close ends the registry and removes the bus.
func (b *bus) close() error {
	if b.cmd != nil {
		_ = b.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-b.gone:
		case <-time.After(endTimeout):
			_ = b.cmd.Process.Kill()
			<-b.gone
		}
	}
	return os.RemoveAll(b.dir)
}
