package tcp

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// tune has the kernel give up on bytes that nobody acknowledges for so long.
func tune(c *net.TCPConn, dead time.Duration) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		// A kernel that does not know it leaves the judgement to the beats.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(dead.Milliseconds()))
	})
}
