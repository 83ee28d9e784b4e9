// Package registry is the daemon that owns a bus: it listens on a Unix socket,
// hands out segments, and watches who lives. It is never on the data path.
// [Dial] is how a service attaches to it; [Serve] is the daemon.
//
// # Life of the daemon
//
//		          bus.lock taken,           socket in place
//		(start) ------------------> open ------------------> serving --+
//		                             |                        |  ^     | SIGHUP
//		                             | failure                |  +-----+
//		                             v                        | ctx done
//		                           (end) <--------------------+
//
//	  - open: the bus directory is locked and what lives in it adopted. The socket
//	    is bound beside its place and renamed into it, so that no client ever meets
//	    one that nobody listens on, except after a crash; the next start replaces
//	    that one, and never one that answers.
//	  - serving: every connection has two goroutines of package directory. SIGHUP
//	    loads the configuration anew; one that is refused changes nothing.
//	  - end: the socket goes first, then the connections, the lock last. Segments
//	    stay: clients go on, and the next start adopts them.
//
// # Who may do what
//
// The kernel says who a peer is (SO_PEERCRED, SO_PEERGROUPS). First access is
// asked: the registry's own user and root always pass, the socket's group or
// everybody else as access says, uid 65534 never. Then the publish or subscribe
// list of the topic, if it has one, admits nobody else, not even root. Creating
// and deleting topics is for root and the registry's user, and for whoever may
// publish where the topic's configuration does not say create = false.
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
