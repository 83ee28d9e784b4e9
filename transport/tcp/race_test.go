//go:build race

package tcp

// Under the race detector a seed takes ten times as long, on one goroutine.
const seeds = 60
