//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Enabled is true in builds with the tag failpoint.
const Enabled = true

type point struct {
	action string
	after  int64 // acts at the n-th arrival, from 1
	hits   atomic.Int64
}

var points = parse(os.Getenv(Env))

func parse(spec string) map[string]*point {
	m := map[string]*point{}
	for _, f := range strings.FieldsFunc(spec, func(r rune) bool { return r == ',' }) {
		name, action, ok := strings.Cut(f, "=")
		action, count, counted := strings.Cut(action, "@")
		after := int64(1)
		if counted {
			n, err := strconv.ParseInt(count, 10, 64)
			ok = ok && err == nil && n > 0
			after = n
		}
		if !ok {
			panic(fmt.Sprintf("%s: %q: want name=kill|stop|panic|sleep:DURATION[@N]", Env, f))
		}
		m[name] = &point{action: action, after: after}
	}
	return m
}

// Here acts if the environment names this point and its count has come.
func Here(name string) {
	p := points[name]
	if p == nil || p.hits.Add(1) != p.after {
		return
	}
	switch {
	case p.action == "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case p.action == "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case strings.HasPrefix(p.action, "sleep:"):
		d, err := time.ParseDuration(strings.TrimPrefix(p.action, "sleep:"))
		if err != nil {
			panic(err)
		}
		time.Sleep(d)
	default:
		panic("failpoint " + name)
	}
}
