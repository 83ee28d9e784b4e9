// Package testproc runs a test's other processes: the test binary executed again,
// told by its environment which of the functions registered below to run. Only
// tests import it. [Watch] is the watchdog of the test itself.
//
//	func TestMain(m *testing.M) { testproc.Main(m) }
//
//	var _ = testproc.Register("publisher", func(args []string) error {
//		... // runs in the child; a plain main function
//		fmt.Println("ready")
//		return nil
//	})
//
//	func TestKilledPublisherLosesNothing(t *testing.T) {
//		p := testproc.Start(t, "publisher", []string{socket}, []string{failpoint.Env + "=pub.before_commit=kill@100"})
//		if got := p.Line(); got != "ready" { ... }
//		p.Kill()
//	}
//
// # Life of a child
//
// A child ends when its function returns (status 0, or 1 with the error on
// standard error), when the test kills it, when the test ends, when the test
// binary dies, or when its watchdog fires: after [Watchdog], unless [Proc.Limit]
// says otherwise, it gets SIGQUIT, prints its goroutines, is killed, and the test
// fails. So nothing that a test started outlives it, and no read of a child's
// output blocks for ever.
//
//	           Stop            Cont
//	running ---------> stopped -----> running
//	   |                  |
//	   +------ Kill ------+--> dead (Wait has its status)
//
// # Coverage
//
// Children count, killed ones too, in any run with -covermode=atomic ("make cover";
// also plain go test -cover -covermode=atomic): a child writes its counters to
// GOCOVERDIR 20 ms after its start, then each time its age has doubled or a second
// has passed, and when its function returns. A path that must count although
// the child dies right after it calls [Flush]. With the other modes of -cover, which
// cannot be read while a program runs, only children that end by themselves count.
//
// Commands under testscript count by themselves: they are copies of the same
// test binary and end through os.Exit.
package testproc
