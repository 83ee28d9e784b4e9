package control

import (
	"runtime"
	"slices"
	"testing"
)

// In a thread of its own, which dies with its groups: the kernel notes the
// credentials of the thread that makes the socket.
func TestPeerHasEveryGroup(t *testing.T) {
	for _, n := range []int{0, 3, 64, 65, 1000} {
		type result struct {
			want, got []uint32
			err       error
		}
		done := make(chan result)
		go func() {
			runtime.LockOSThread()
			want := make([]uint32, n)
			for i := range want {
				want[i] = uint32(5000 + i)
			}
			var r result
			r.want, r.err = setThreadGroups(want)
			if r.err == nil {
				var a, b *Conn
				if a, b, r.err = Pair(); r.err == nil {
					var p Peer
					p, r.err = a.Peer()
					r.got = p.Groups
					_ = a.Close()
					_ = b.Close()
				}
			}
			done <- r
		}()
		r := <-done
		if r.err != nil {
			t.Fatal(r.err)
		}
		if r.got == nil || !slices.Equal(r.got, r.want) {
			t.Errorf("%d groups: got %v, want %v", n, r.got, r.want)
		}
	}
}
