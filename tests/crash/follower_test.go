//go:build failpoint

package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

func followUntilTold(socket, topic string) error {
	ctx := context.Background()
	c, err := registry.Dial(ctx, socket, nil)
	if err != nil {
		return err
	}
	s, err := c.Subscriber(ctx, topic, &shm.SubscriberOptions{Mode: shm.Lossless})
	if err != nil {
		return err
	}
	fmt.Println("attached")
	var until atomic.Uint64
	go func() {
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil {
			return
		}
		n, _ := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
		until.Store(n)
	}()
	var check checker
	var missed, first uint64
	var any, evicted bool
	idle := s.Idler()
	for n := until.Load(); n == 0 || check.next < n; n = until.Load() {
		k, err := s.Poll(func(f shm.Frame) {
			if !any {
				any, first, check.next, check.incarnation = true, f.Seq, f.Seq, 1
			}
			check.see(f.Payload)
		}, 0)
		var gap *shm.GapError
		switch {
		case err == nil:
		case errors.Is(err, shm.ErrEvicted):
			evicted = true
		case errors.As(err, &gap):
			missed += gap.Missed()
			if !any {
				any, first, check.next, check.incarnation = true, gap.From, gap.From, 1
			}
		default:
			return err
		}
		idle.Idle(k)
	}
	if check.corrupt+check.dup != 0 || check.lost != missed || check.frames+missed != check.next-first {
		return fmt.Errorf("%+v, gaps of %d frames, from %d", check, missed, first)
	}
	if evicted {
		fmt.Println("evicted")
	} else {
		fmt.Println("all")
	}
	return nil
}
