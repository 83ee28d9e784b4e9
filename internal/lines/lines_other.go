//go:build !amd64 || race

package lines

func copyLines(to, from []byte) { copy(to, from) }

func fetchLines([]byte) {}

func ownLines([]byte) {}
