//go:build !race

package tcp

const seeds = 500
