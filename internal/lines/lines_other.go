//go:build !amd64 || race

package lines

// Hints reports whether CopyFetch and CopyOwn may be called: where assembly is.
const Hints = false

func copyLines(to, from []byte) { copy(to, from) }

func copyFetch(*byte, []byte, *byte) { panic("lines: CopyFetch where there are no hints") }

func copyOwn(*byte, []byte, *byte) { panic("lines: CopyOwn where there are no hints") }

func fetchLines([]byte) {}

func ownLines([]byte) {}
