//go:build !race

package lines

// ByQuarters runs f as a machine does that cannot fill a line with one store.
func ByQuarters(f func()) {
	old := whole
	defer func() { whole = old }()
	whole = false
	f()
}
