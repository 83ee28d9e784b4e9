//go:build !amd64 || race

package lines

// ByQuarters runs f.
func ByQuarters(f func()) { f() }
