package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/torq/mycelium/internal/segment"
)

// Env is what a measurement needs of the program that runs it.
type Env struct {
	// Worker makes the command of a worker process on the bus whose registry
	// listens on socket, with descriptor 3 as its shared memory if segmented.
	// It must end up in Worker.
	Worker func(socket string, segmented bool) *exec.Cmd
	// Registry makes the command of a registry with that configuration file.
	Registry func(config string) *exec.Cmd
	// Forwarder makes the command of a forwarder with that configuration file.
	Forwarder func(config string) *exec.Cmd
	Stderr    io.Writer // of all children; nil = discard
}

// proc is the parent's side of a worker.
type proc struct {
	name    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	enc     *json.Encoder
	replies chan reply // closed when the worker is gone
	waited  chan struct{}
}

// team are the workers of one measurement.
type team struct {
	env    Env
	socket string
	procs  []*proc
	file   *os.File
	shared *segment.Mapping
}

// member is a worker to be: its name in errors, and where it may run.
type member struct {
	name string
	cpus []int
}

// pinned puts the i-th name on cpus[i mod len(cpus)].
func pinned(cpus []int, names ...string) (ms []member) {
	for i, name := range names {
		ms = append(ms, member{name, cpus[i%len(cpus) : i%len(cpus)+1]})
	}
	return ms
}

// newTeam starts the workers, with bytes of shared memory.
func newTeam(env Env, socket string, bytes int, members []member) (t *team, err error) {
	t = &team{env: env, socket: socket}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if bytes > 0 {
		if err := t.share(bytes); err != nil {
			return nil, err
		}
	}
	for _, m := range members {
		p, err := t.start(m)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", m.name, err)
		}
		t.procs = append(t.procs, p)
	}
	return t, nil
}

// share makes the shared memory: a file without a name.
func (t *team) share(bytes int) (err error) {
	if t.file, err = os.CreateTemp("/dev/shm", "mycelium-bench-"); err != nil {
		return err
	}
	if err := os.Remove(t.file.Name()); err != nil {
		return err
	}
	page := os.Getpagesize()
	if err := segment.Allocate(t.file, uint64((bytes+page-1)/page*page)); err != nil {
		return err
	}
	t.shared, err = segment.Map(t.file, true)
	return err
}

func (t *team) start(m member) (*proc, error) {
	p := &proc{name: m.name, cmd: t.env.Worker(t.socket, t.file != nil), replies: make(chan reply), waited: make(chan struct{})}
	p.cmd.Stderr = t.env.Stderr
	p.cmd.SysProcAttr = ownGroup
	// A signal to preempt a goroutine costs microseconds, and a hot loop has
	// nobody to share its processor with. Two threads may run Go code, so that the
	// one that reads orders is not behind the hot loop for ever.
	p.cmd.Env = append(p.cmd.Environ(), "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=2")
	if t.file != nil {
		p.cmd.ExtraFiles = []*os.File{t.file}
	}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startOn(p.cmd, m.cpus); err != nil {
		return nil, err
	}
	p.enc = json.NewEncoder(p.in)
	go func() {
		for lines := bufio.NewReader(out); ; {
			b, err := lines.ReadBytes('\n')
			var r reply
			if err == nil {
				err = json.Unmarshal(b, &r)
			}
			if err != nil {
				break
			}
			p.replies <- r
		}
		_ = p.cmd.Wait()
		close(p.waited)
		close(p.replies)
	}()
	return p, nil
}

// next is the worker's next reply.
func (p *proc) next(ctx context.Context) (reply, error) {
	select {
	case <-ctx.Done():
		return reply{}, context.Cause(ctx)
	case r, ok := <-p.replies:
		switch {
		case !ok:
			return r, fmt.Errorf("%s ended before its time: %v", p.name, p.cmd.ProcessState)
		case r.Error != "":
			return r, fmt.Errorf("%s: %s", p.name, r.Error)
		}
		return r, nil
	}
}

// assignment is one worker's part in a round.
type assignment struct {
	to  *proc
	job job
}

// prepare hands out the jobs, each once the one before is ready, on memory of
// zeros.
func (t *team) prepare(ctx context.Context, as ...assignment) error {
	if t.shared != nil {
		clear(t.shared.Bytes())
	}
	for _, a := range as {
		if err := a.to.enc.Encode(order{Job: &a.job}); err != nil {
			return fmt.Errorf("%s: %w", a.to.name, err)
		}
		r, err := a.to.next(ctx)
		if err != nil {
			return err
		}
		if !r.Ready {
			return fmt.Errorf("%s: not ready", a.to.name)
		}
	}
	return nil
}

// do runs a round and returns the results in the order of the assignments. An
// error leaves the team useless.
func (t *team) do(ctx context.Context, as ...assignment) ([]result, error) {
	if err := t.prepare(ctx, as...); err != nil {
		return nil, err
	}
	if err := tell(order{Go: true}, as...); err != nil {
		return nil, err
	}
	return collect(ctx, as...)
}

// tell gives every worker the same order.
func tell(o order, as ...assignment) error {
	for _, a := range as {
		if err := a.to.enc.Encode(o); err != nil {
			return fmt.Errorf("%s: %w", a.to.name, err)
		}
	}
	return nil
}

// collect waits for the results, and stops at the first worker that fails.
func collect(ctx context.Context, as ...assignment) ([]result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make([]result, len(as))
	var wg sync.WaitGroup
	for i, a := range as {
		wg.Go(func() {
			r, err := a.to.next(ctx)
			if err == nil && r.Result == nil {
				err = fmt.Errorf("%s: no result", a.to.name)
			}
			if err != nil {
				cancel(err)
				return
			}
			results[i] = *r.Result
		})
	}
	wg.Wait()
	return results, context.Cause(ctx)
}

// close ends the workers: those that wait for a job at once, the others by
// force.
func (t *team) close() {
	for _, p := range t.procs {
		_ = p.in.Close()
	}
	late := time.AfterFunc(endTimeout, func() {
		for _, p := range t.procs {
			_ = p.cmd.Process.Kill()
		}
	})
	defer late.Stop()
	for _, p := range t.procs {
		for range p.replies { // until it is gone
		}
	}
	if t.shared != nil {
		_ = t.shared.Close()
	}
	if t.file != nil {
		_ = t.file.Close()
	}
}

const endTimeout = 2 * time.Second

// oversubscribed reports whether n spinning workers must share processors.
func oversubscribed(n int, cpus []int) bool {
	distinct := slices.Compact(slices.Sorted(slices.Values(cpus)))
	return n > len(distinct)
}

// checkCPUs refuses processors that this process may not use; none given means
// all that it may.
func checkCPUs(cpus []int) ([]int, error) {
	have, err := CPUs()
	if err != nil {
		return nil, err
	}
	if len(cpus) == 0 {
		return have, nil
	}
	for _, c := range cpus {
		if !slices.Contains(have, c) {
			return nil, fmt.Errorf("processor %d: this process may use %v", c, have)
		}
	}
	return cpus, nil
}
