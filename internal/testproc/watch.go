package testproc

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"
)

// Watch fails the whole run, with every goroutine's stack, if the test has not
// ended after d. The context ends then, or with the test.
func Watch(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	w := time.AfterFunc(d, func() {
		b := make([]byte, 1<<20)
		panic(fmt.Sprintf("watchdog: %s still runs after %v\n%s", t.Name(), d, b[:runtime.Stack(b, true)]))
	})
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(func() { cancel(); w.Stop() })
	return ctx
}
