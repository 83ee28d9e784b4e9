package shm

import (
	"context"
	"runtime"
	"testing"

	"github.com/torq/mycelium/internal/control"
)

// With one thread the goroutines of a connection first run when the next one
// has been dialled, or given up.
func TestCloseRightAfterConnectMeetsNoNextConnection(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 50 {
		c, err := Connect(context.Background(), func(context.Context) (*control.Conn, error) {
			mine, theirs, err := control.Pair()
			if err != nil {
				return nil, err
			}
			err = theirs.Send(&control.Message{Op: control.OpWelcome, Welcome: &control.Welcome{Version: control.Version}}, nil)
			go func() {
				_, _, _ = theirs.Recv() // the hello: unread, it would spoil the end
				_ = theirs.Close()
			}()
			return mine, err
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
