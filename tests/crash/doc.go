// Package crash kills, stops and restarts real processes on a real bus and
// checks that nothing is lost, doubled, corrupted or left behind. Its tests use
// failpoints, so they build with the tag failpoint:
//
//	make crash-smoke   small figures, part of make test
//	make crash         large figures
//
// Each test prints one JSON line with its seed and counts.
package crash
