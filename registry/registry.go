// Package registry is the daemon that owns a bus: it listens on a Unix socket,
// hands out segments, and watches who lives. It is never on the data path.
// [Dial] is how a service attaches to it.
package registry

import (
	"os"

	"github.com/torq/mycelium/internal/config"
)

// DefaultSocket is where Dial looks and where a registry without configuration
// listens: MYCELIUM_REGISTRY, else the path of this user's bus.
func DefaultSocket() string {
	if s := os.Getenv("MYCELIUM_REGISTRY"); s != "" {
		return s
	}
	return config.DefaultPaths(os.Getuid(), os.Getenv).Socket
}
