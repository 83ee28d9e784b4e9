package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/tests/legacy"
)

var (
	program = flag.String("drill.program", "", "myceliumctl to drill with; empty = build it")
	phase   = flag.Duration("drill.phase", 700*time.Millisecond, "how long messages flow between two steps")
)

func TestMain(m *testing.M) { testproc.Main(m) }

// handBackLimit is what a rollback is allowed to take.
const handBackLimit = 10 * time.Second

// stage is the drill's scenery.
type stage struct {
	t       *testing.T
	ctx     context.Context
	dir     string
	program string
	path    string // the public socket
	control string
	bridge  *exec.Cmd
	rows    [][]string
	start   time.Time
}

func newStage(t *testing.T) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("/dev/shm", "mycelium-drill-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &stage{t: t, ctx: ctx, dir: dir, program: *program, path: filepath.Join(dir, "market_data.sock"), control: filepath.Join(dir, "torq.sock"), start: time.Now()}
	if s.program == "" {
		s.program = filepath.Join(dir, "myceliumctl")
		build := exec.CommandContext(ctx, "go", "build", "-o", s.program, "github.com/torq/mycelium/cmd/myceliumctl")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			t.Fatal(err)
		}
	}
	if s.program, err = filepath.Abs(s.program); err != nil {
		t.Fatal(err)
	}
	s.file("mycelium.toml", "[registry]\nsocket = %q\nshm_dir = %q\nlane_grace = \"200ms\"\n", s.registry(), filepath.Join(dir, "bus"))
	s.file("torq.toml", "[bridge]\nregistry = %q\ncontrol = %q\nwindow = \"300ms\"\n\n[[domain]]\nname = \"market_data\"\nsocket = %q\n", s.registry(), s.control, s.path)
	s.daemon("registry", "serve", "--config", filepath.Join(dir, "mycelium.toml"))
	s.await("the registry listens", func() bool { return answers(s.registry(), "unixpacket") })
	return s
}

func (s *stage) registry() string { return filepath.Join(s.dir, "r.sock") }

func (s *stage) file(name, format string, args ...any) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), fmt.Appendf(nil, format, args...), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// daemon runs myceliumctl until the drill ends.
func (s *stage) daemon(args ...string) *exec.Cmd {
	s.t.Helper()
	c := exec.Command(s.program, args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
		if s.t.Failed() {
			s.t.Logf("%v:\n%s", args, out.String())
		}
	})
	return c
}

func (s *stage) await(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: never", what)
		}
	}
}

func answers(path, network string) bool {
	c, err := net.Dial(network, path)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

func (s *stage) proc(name string, args ...string) *testproc.Proc {
	s.t.Helper()
	p := testproc.Start(s.t, name, args, nil)
	p.Limit(2 * time.Minute)
	if got := p.Line(); got != "ready" {
		s.t.Fatalf("%s said %q", name, got)
	}
	return p
}

// ask sends a word to a process and returns the line that it answers.
func (s *stage) ask(p *testproc.Proc, word string) string {
	s.t.Helper()
	if _, err := fmt.Fprintln(p.Stdin, word); err != nil {
		s.t.Fatal(err)
	}
	return p.Line()
}

func (s *stage) number(p *testproc.Proc, word string) (n uint64) {
	s.t.Helper()
	if _, err := fmt.Sscan(s.ask(p, word), &n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// run runs a command of the drill and returns what it printed.
func (s *stage) run(name string, args ...string) string {
	s.t.Helper()
	c := exec.CommandContext(s.ctx, name, args...)
	c.Env = append(os.Environ(), "MYCELIUMCTL="+s.program)
	out, err := c.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

type status struct {
	Mode, ServedBy, Verdict string
	Producers, Clients      int
	RelayUp                 bool
}

func (s *stage) status() (st status) {
	s.t.Helper()
	var r struct {
		Domains []struct {
			Mode      string `json:"mode"`
			ServedBy  string `json:"served_by"`
			Producers int    `json:"producers"`
			Clients   int    `json:"clients"`
			RelayUp   bool   `json:"relay_up"`
			Windows   []struct {
				Verdict string `json:"verdict"`
			} `json:"windows"`
		} `json:"domains"`
	}
	if err := json.Unmarshal([]byte(s.run(s.program, "torq", "status", "market_data", "--control", s.control, "-o", "json")), &r); err != nil {
		s.t.Fatal(err)
	}
	d := r.Domains[0]
	st = status{Mode: d.Mode, ServedBy: d.ServedBy, Producers: d.Producers, Clients: d.Clients, RelayUp: d.RelayUp}
	for _, w := range d.Windows {
		if w.Verdict != "idle" {
			st.Verdict = w.Verdict
		}
	}
	return st
}

// row notes a step and lets messages flow for a while.
func (s *stage) row(step, took string) {
	s.t.Helper()
	st := s.status()
	s.rows = append(s.rows, []string{fmt.Sprintf("%.1f s", time.Since(s.start).Seconds()), step, took, st.Mode, st.ServedBy, st.Verdict})
	time.Sleep(*phase)
}

// table prints rows under titles.
func table(titles []string, rows [][]string) {
	width := make([]int, len(titles))
	all := append([][]string{titles}, rows...)
	for _, r := range all {
		for i, c := range r {
			width[i] = max(width[i], len(c))
		}
	}
	for _, r := range all {
		var line strings.Builder
		for i, c := range r {
			fmt.Fprintf(&line, "%-*s  ", width[i], c)
		}
		fmt.Println(strings.TrimRight(line.String(), " "))
	}
	fmt.Println()
}

func TestDomainLosesAMessageOnTheWayToTheBusAndBack(t *testing.T) {
	s := newStage(t)
	relay := s.proc("relay", s.path)
	// The old world: two consumers, two producers, one relay.
	old := []*testproc.Proc{s.proc("consumer", s.path), s.proc("consumer", s.path)}
	producers := []*testproc.Proc{s.proc("producer", s.path, "1"), s.proc("producer", s.path, "2")}
	s.bridge = s.daemon("torq", "serve", "--config", filepath.Join(s.dir, "torq.toml"))
	s.await("the bridge answers", func() bool { return answers(s.control, "unix") })
	s.row("old relay only", "")

	s.run(s.program, "torq", "cutover", "market_data", "--to", "shadow", "--yes", "--control", s.control)
	s.await("the relay is mirrored", func() bool { return s.status().RelayUp })
	bus := s.proc("subscriber", s.registry(), "market.>")
	publisher := s.proc("publisher", s.registry(), "market.coinbase.direct", "3")
	onBusFrom := []uint64{s.number(producers[0], "sent") + 1000, s.number(producers[1], "sent") + 1000}
	s.await("both sides are the same", func() bool { return s.status().Verdict == "same" })
	s.row("torq cutover --to shadow", "")

	begin := time.Now()
	s.run(s.program, "torq", "cutover", "market_data", "--yes", "--control", s.control)
	s.row("torq cutover", time.Since(begin).Round(time.Millisecond).String())
	for i, p := range producers {
		s.number(p, "move")
		s.await("the producer has moved", func() bool { return s.status().Producers == i+1 })
		s.row(fmt.Sprintf("producer %d restarted", i+1), "")
	}
	newer := s.proc("consumer", s.path)
	s.await("the new consumer is in", func() bool { return s.status().Clients == 3 })
	newFrom := []uint64{s.number(producers[0], "sent") + 1000, s.number(producers[1], "sent") + 1000, s.number(publisher, "sent") + 1000}
	s.row("a new consumer", "")

	begin = time.Now()
	s.run("../../scripts/rollback.sh", "market_data", "--socket", s.path, "--control", s.control)
	took := time.Since(begin)
	if took > handBackLimit {
		t.Errorf("the rollback took %v", took)
	}
	s.row("scripts/rollback.sh", took.Round(time.Millisecond).String())
	if st := s.status(); st.ServedBy != "relay" || st.Clients != 0 {
		t.Errorf("after the rollback: %+v", st)
	}

	var sent [3]uint64
	var reconnects [3]int
	for i, p := range []*testproc.Proc{producers[0], producers[1], publisher} {
		if _, err := fmt.Sscan(s.ask(p, "stop"), &sent[i], &reconnects[i]); err != nil {
			t.Fatal(err)
		}
	}
	want := int(sent[0] + sent[1] + sent[2])
	readers := []*testproc.Proc{old[0], old[1], newer, bus}
	for end := time.Now().Add(10 * time.Second); s.number(old[0], "total") < uint64(want) && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond) // what comes now is too much

	var rows [][]string
	names := []string{"consumer of the relay", "consumer of the relay", "consumer of the bridge", "subscriber of market.>"}
	from := [][]uint64{{0, 0, 0}, {0, 0, 0}, newFrom, {onBusFrom[0], onBusFrom[1], 0}}
	for i, r := range readers {
		for j := range sent {
			var a legacy.Account
			if err := json.Unmarshal([]byte(s.ask(r, fmt.Sprintf("of %d %d", j+1, from[i][j]))), &a); err != nil {
				t.Fatal(err)
			}
			lost := a.Missing + int(a.First-from[i][j]) + int(sent[j]-a.Next)
			rows = append(rows, []string{names[i], []string{"producer 1", "producer 2", "publisher on the bus"}[j],
				fmt.Sprint(sent[j] - from[i][j]), fmt.Sprint(lost), fmt.Sprint(a.Doubled), fmt.Sprint(a.Late)})
			if lost != 0 || a.Doubled != 0 || a.Late != 0 {
				t.Errorf("%s, source %d: %d lost, %d doubled, %d late", names[i], j+1, lost, a.Doubled, a.Late)
			}
		}
	}
	if reconnects[0]+reconnects[1] == 0 || s.number(newer, "reconnects") == 0 {
		t.Error("the rollback handed no client back")
	}
	fmt.Println()
	table([]string{"AT", "STEP", "TOOK", "MODE", "SERVED BY", "VERDICT"}, s.rows)
	table([]string{"READER", "SENDER", "SENT", "LOST", "DOUBLED", "LATE"}, rows)

	// And the worst day: the bridge is killed while it serves.
	s.run(s.program, "torq", "cutover", "market_data", "--yes", "--force", "--control", s.control)
	if err := s.bridge.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.bridge.Wait()
	begin = time.Now()
	out := s.run("../../scripts/rollback.sh", "market_data", "--socket", s.path, "--control", s.control)
	took = time.Since(begin)
	if !answers(s.path, "unix") || took > handBackLimit {
		t.Errorf("after %v the relay does not answer:\n%s", took, out)
	}
	fmt.Printf("bridge killed, scripts/rollback.sh: the relay answers again after %v\n", took.Round(time.Millisecond))
	relay.Kill()
}
