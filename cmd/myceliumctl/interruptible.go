package main

import (
	"context"
	"io"
)

// interruptible is a reader that a signal ends, although reading from a
// terminal or a pipe cannot be interrupted.
type interruptible struct {
	ctx  context.Context
	r    io.Reader
	buf  []byte
	rest []byte
	err  error
}

const readBytes = 64 << 10

func (i *interruptible) Read(p []byte) (int, error) {
	if len(i.rest) == 0 {
		if i.err != nil {
			return 0, i.err
		}
		if i.buf == nil {
			i.buf = make([]byte, readBytes)
		}
		type result struct {
			n   int
			err error
		}
		done := make(chan result, 1)
		go func() {
			n, err := i.r.Read(i.buf)
			done <- result{n, err}
		}()
		select {
		case <-i.ctx.Done():
			i.err = context.Cause(i.ctx)
			return 0, i.err
		case r := <-done:
			i.rest, i.err = i.buf[:r.n], r.err
		}
	}
	n := copy(p, i.rest)
	i.rest = i.rest[n:]
	if n == 0 {
		return 0, i.err
	}
	return n, nil
}
