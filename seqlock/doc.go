// Package seqlock holds the fences, the release store, wrap-safe sequence
// arithmetic, the sequence word and the consistent cell. No other package has
// fences of its own.
package seqlock
