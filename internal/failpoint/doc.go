// Package failpoint lets a test stop, kill or delay a process at a named place.
// It exists only in builds with the tag failpoint; elsewhere Enabled is a false
// constant and the calls are compiled out.
//
//	MYCELIUM_FAILPOINTS="pub.before_commit=kill@1000,join.added=sleep:5ms"
//
// Actions: kill (SIGKILL to itself), stop (SIGSTOP), sleep:DURATION, panic;
// @N acts at the N-th arrival only, the first by default.
package failpoint

// Env names the environment variable.
const Env = "MYCELIUM_FAILPOINTS"
