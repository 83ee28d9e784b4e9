//go:build !amd64 || race

package lines

const whole = false

func copyLines(to, from []byte) { copy(to, from) }

func copyFetch(*byte, []byte, *byte) { panic("lines: CopyFetch where Whole is false") }

func copyOwn(*byte, []byte, *byte) { panic("lines: CopyOwn where Whole is false") }

func fetchLines([]byte) {}
