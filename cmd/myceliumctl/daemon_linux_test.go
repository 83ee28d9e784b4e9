package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The service manager hears of the end also of a daemon that ends at once.
func TestStoppingIsToldBeforeTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	raw, err := manager.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		done := tellStopping(ctx, slog.Default())
		cancel()
		done()
		b := make([]byte, 256)
		var n int
		var why error
		err := raw.Read(func(fd uintptr) bool {
			n, _, why = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT) // what was told by now, and no later
			return true
		})
		if err = errors.Join(err, why); err != nil || string(b[:n]) != notifyStopping {
			t.Fatalf("%d bytes of %q: %v", n, b, err)
		}
	}
	done := tellStopping(t.Context(), slog.Default())
	done() // and does not wait for an end that is none
}
