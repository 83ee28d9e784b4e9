// Package creader proves docs/layout.md: a reader in C that was written from that
// document alone reads live lanes.
package creader

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/internal/topic"
	"github.com/torq/mycelium/seqlock"
	"github.com/torq/mycelium/shm"
)

const (
	topicName = "market.kraken.BTC-USD"
	ringBytes = layout.MinRing
	watchdog  = 2 * time.Minute
)

var (
	reader     string // the compiled program
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "creader")
	if err == nil {
		reader, err = compile(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func compile(dir string) (string, error) {
	cc := os.Getenv("CC")
	for _, name := range []string{"cc", "gcc", "clang"} {
		if cc == "" {
			cc, _ = exec.LookPath(name)
		}
	}
	if cc == "" {
		return "", fmt.Errorf("no C compiler for reader.c: install gcc or clang, or name one in CC")
	}
	bin := filepath.Join(dir, "reader")
	out, err := exec.Command(cc, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", bin, "reader.c").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s reader.c: %w\n%s", cc, err, out)
	}
	return bin, nil
}

// bus is one lane of a bus without a daemon.
type bus struct {
	ctx  context.Context
	pub  *shm.Publisher
	path string // lane file
	sent []message
}

// message is what one frame must show.
type message struct {
	typ         uint16
	size        int
	crc         uint32
	after, till int64 // published between these instants, mono ns
}

func openBus(t *testing.T) *bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	t.Cleanup(cancel)
	d, err := shm.OpenLocal("", &shm.LocalOptions{RingBytes: ringBytes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	c, err := d.Client(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	p, err := c.Publisher(ctx, topicName, &shm.PublisherOptions{Source: "feed-1", Timestamps: shm.TimestampsClock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	// As docs/layout.md names the file.
	paths, err := filepath.Glob(filepath.Join(d.Path(), "l", fmt.Sprintf("%016x.0.*.ring", topic.ID(topicName))))
	if err != nil || len(paths) != 1 {
		t.Fatalf("lane files %v, %v: want one", paths, err)
	}
	return &bus{ctx: ctx, pub: p, path: paths[0]}
}

// publish sends payloads in one of the three ways and notes what must be read.
func (b *bus) publish(t *testing.T, way int, payloads ...[]byte) {
	t.Helper()
	first := len(b.sent)
	after := clock.Mono()
	var msgs []shm.Message
	for i, p := range payloads {
		m := message{typ: uint16(first + i), size: len(p), crc: crc32.Checksum(p, castagnoli), after: after}
		b.sent = append(b.sent, m)
		msgs = append(msgs, shm.Message{Type: m.typ, Payload: p})
	}
	var err error
	switch {
	case len(msgs) > 1:
		_, err = b.pub.PublishBatch(msgs)
	case way == 0:
		_, err = b.pub.Publish(msgs[0].Type, msgs[0].Payload)
	default:
		var c shm.Claim
		if c, err = b.pub.Claim(msgs[0].Type, len(msgs[0].Payload)); err == nil {
			copy(c.Bytes(), msgs[0].Payload)
			c.Commit()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	till := clock.Mono()
	for i := range b.sent[first:] {
		b.sent[first+i].till = till
	}
}

// run is one reader process.
type run struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	errs  bytes.Buffer
	want  uint64 // next sequence
	got   uint64
	gaps  int
	miss  uint64
	end   bool
}

func start(t *testing.T, ctx context.Context, args ...string) *run {
	t.Helper()
	r := &run{t: t, cmd: exec.CommandContext(ctx, reader, args...)}
	r.cmd.Stderr = &r.errs
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.lines = make(chan string, 1<<20) // never in the reader's way
	go func() {
		defer close(r.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			r.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); _ = r.cmd.Wait() })
	f := strings.Fields(r.line())
	if len(f) != 4 || f[0] != "reading" || f[1] != topicName || f[2] != "feed-1" {
		t.Fatalf("first line %q", f)
	}
	r.want = number(t, f[3])
	return r
}

func (r *run) line() string {
	r.t.Helper()
	line, more := <-r.lines
	if !more {
		err := r.cmd.Wait()
		r.t.Fatalf("no more lines before sequence %d: %v; %s", r.want, err, r.errs.String())
	}
	return line
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// next takes one line and checks it against what was published.
func (r *run) next(sent []message) {
	r.t.Helper()
	line := r.line()
	f := strings.Fields(line)
	switch {
	case f[0] == "gap":
		from, next := number(r.t, f[1]), number(r.t, f[2])
		if from != r.want || next <= from {
			r.t.Fatalf("%q where sequence %d is due", line, r.want)
		}
		r.gaps++
		r.miss += next - from
		r.want = next
	case f[0] == "end":
		if number(r.t, f[1]) != r.want {
			r.t.Fatalf("%q where sequence %d is due", line, r.want)
		}
		r.end = true
	default:
		seq := number(r.t, f[0])
		if seq != r.want || seq >= uint64(len(sent)) {
			r.t.Fatalf("%q where sequence %d is due of %d", line, r.want, len(sent))
		}
		m := sent[seq]
		if want := fmt.Sprintf("%d %d %d %s %08x", seq, m.typ, m.size, f[3], m.crc); line != want {
			r.t.Fatalf("read %q, published %q", line, want)
		}
		if ts := int64(number(r.t, f[3])); ts < m.after || ts > m.till {
			r.t.Fatalf("sequence %d: time %d, published between %d and %d", seq, ts, m.after, m.till)
		}
		r.want++
		r.got++
	}
}

func (r *run) finish(sent []message) {
	r.t.Helper()
	for !r.end {
		r.next(sent)
	}
	if err := r.cmd.Wait(); err != nil {
		r.t.Fatalf("reader: %v; %s", err, r.errs.String())
	}
	if r.want != uint64(len(sent)) {
		r.t.Fatalf("lane ended before sequence %d, published %d", r.want, len(sent))
	}
}

// sizes around every boundary of the layout.
var sizes = []int{0, 1, 7, 8, 31, 32, 33, 64, 95, 96, 97, 500, 1000, 1024, 4000, ringBytes/8 - 1, ringBytes / 8}

func payload(rnd *rand.Rand) []byte {
	b := make([]byte, sizes[rnd.IntN(len(sizes))])
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// Fear: the document leaves out what a real lane does: laps, padding, batches,
// empty and largest frames, the end.
func TestEveryFrameOfALiveLane(t *testing.T) {
	b := openBus(t)
	r := start(t, b.ctx, "--from", "oldest", b.path)
	const (
		frames = 2000
		window = ringBytes / 4 // never lapped: the rest is for the credit step and one batch
	)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var behind uint64
	for len(b.sent) < frames {
		var msgs [][]byte
		for range 1 + rnd.IntN(2)*rnd.IntN(3) {
			msgs = append(msgs, payload(rnd))
		}
		b.publish(t, rnd.IntN(2), msgs...)
		for _, m := range msgs {
			behind += layout.FrameBytes(uint64(len(m)))
		}
		if behind > window {
			for behind = 0; r.want < uint64(len(b.sent)); {
				r.next(b.sent)
			}
		}
	}
	if err := b.pub.Close(); err != nil {
		t.Fatal(err)
	}
	r.finish(b.sent)
	if r.gaps != 0 || r.got != uint64(len(b.sent)) {
		t.Errorf("read %d of %d frames, %d gaps", r.got, len(b.sent), r.gaps)
	}
	lane, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	if laps := le.Uint64(lane[layout.OffTailPos:])/ringBytes - 1; laps < 20 {
		t.Errorf("%d laps: too few to show anything", laps)
	}
	for _, m := range []struct{ name, word int }{{1, layout.MetricPads}, {2, layout.MetricBatches}} {
		if n := le.Uint64(lane[layout.OffMetrics+8+8*m.word:]); n < 10 {
			t.Errorf("metric %d is %d: too few to show anything", m.word, n)
		}
	}
}

// Fear: a lapped reader that follows the document loses count, or takes torn bytes.
func TestALappedReaderMissesExactlyWhatItReports(t *testing.T) {
	for _, c := range []struct {
		name, delayUs string
		frames        int
		rest          time.Duration // of the publisher, every 100 frames
	}{
		{"reader too slow", "100", 20_000, time.Millisecond},
		{"publisher at full speed", "0", 300_000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := openBus(t)
			r := start(t, b.ctx, "--from", "oldest", "--delay-us", c.delayUs, b.path)
			rnd := rand.New(rand.NewPCG(1, 2))
			for len(b.sent) < c.frames {
				for range 100 {
					p := make([]byte, 8+rnd.IntN(120))
					binary.LittleEndian.PutUint64(p, uint64(len(b.sent)))
					b.publish(t, 0, p)
				}
				time.Sleep(c.rest)
			}
			if err := b.pub.Close(); err != nil {
				t.Fatal(err)
			}
			r.finish(b.sent)
			if r.got+r.miss != uint64(c.frames) {
				t.Errorf("%d read + %d missed, %d published", r.got, r.miss, c.frames)
			}
			if r.gaps == 0 || r.got == 0 {
				t.Errorf("%d read, %d gaps: nothing was shown", r.got, r.gaps)
			}
			t.Logf("%d published, %d read, %d missed in %d gaps", c.frames, r.got, r.miss, r.gaps)
		})
	}
}

// Fear: a start in the middle of a lane's life is off by a frame.
func TestStartsInTheMiddle(t *testing.T) {
	b := openBus(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		b.publish(t, 0, payload(rnd))
	}
	latest := start(t, b.ctx, "--from", "latest", "--count", "5", b.path)
	if latest.want != 1000 {
		t.Errorf("latest starts at sequence %d, want 1000", latest.want)
	}
	oldest := start(t, b.ctx, "--from", "oldest", b.path)
	if oldest.want == 0 || oldest.want >= 1000 {
		t.Errorf("oldest starts at sequence %d after several laps", oldest.want)
	}
	for range 5 {
		b.publish(t, 0, []byte("later"))
	}
	for range 5 {
		latest.next(b.sent)
	}
	if line, more := <-latest.lines; more {
		t.Errorf("--count 5 went on: %q", line)
	}
	if err := latest.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := b.pub.Close(); err != nil {
		t.Fatal(err)
	}
	oldest.finish(b.sent)
	if oldest.gaps != 0 || oldest.got < 10 {
		t.Errorf("oldest read %d frames with %d gaps", oldest.got, oldest.gaps)
	}
}

// copyOfLane is a lane file without an owner, with a few frames.
func copyOfLane(t *testing.T) (path string, sent []message) {
	t.Helper()
	b := openBus(t)
	for i := range 3 {
		b.publish(t, 0, []byte(strings.Repeat("x", i)))
	}
	bytes, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "copy.ring")
	if err := os.WriteFile(path, bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, b.sent
}

// Fear: a reader waits for ever on a lane whose publisher was killed.
func TestALaneWithoutOwnerEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	path, sent := copyOfLane(t)
	start(t, ctx, path).finish(sent)
}

// Fear: one flipped bit of a header goes unseen.
func TestEveryHeaderBitIsChecked(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	path, _ := copyOfLane(t)
	page := make([]byte, layout.PageBytes)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.ReadAt(page, 0)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	// One file per byte, in which each round flips one bit of that byte.
	dir := t.TempDir()
	reserved := []int{layout.PrefixBytes, layout.PageBytes - 1}
	var at []int
	var files []string
	for i := range layout.PrefixBytes + len(reserved) {
		at = append(at, i)
		if i >= layout.PrefixBytes {
			at[i] = reserved[i-layout.PrefixBytes]
		}
		name := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(name, page, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, layout.LaneHeaderBytes+ringBytes); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	poke := func(i int, b byte) {
		f, err := os.OpenFile(files[i], os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{b}, int64(at[i])); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	for bit := range 8 {
		for i := range files {
			poke(i, page[at[i]]^1<<bit)
		}
		cmd := exec.CommandContext(ctx, reader, "--check", "-")
		cmd.Stdin = strings.NewReader(strings.Join(files, "\n"))
		out, err := cmd.Output()
		answers := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err != nil || len(answers) != len(files) {
			t.Fatalf("%d answers for %d files: %v", len(answers), len(files), err)
		}
		for i, c := range answers {
			page[at[i]] ^= 1 << bit
			_, g := layout.DecodeLane(page[:layout.PrefixBytes], layout.LaneHeaderBytes+ringBytes)
			page[at[i]] ^= 1 << bit
			switch {
			case at[i] >= layout.PrefixBytes:
				if !strings.HasPrefix(c, "ok: ") || g != nil {
					t.Errorf("reserved byte %#x is not ignored: reader.c says %q, package layout %v", at[i], c, g)
				}
			case !strings.HasPrefix(c, "refused: ") || len(c) < 20 || g == nil:
				t.Errorf("byte %#x bit %d flipped: reader.c says %q, package layout %v", at[i], bit, c, g)
			default:
				refused++
			}
		}
		for i := range files {
			poke(i, page[at[i]])
		}
	}
	t.Logf("%d of %d header bits refused", refused, 8*layout.PrefixBytes)
}

// refusal runs the reader on a file and returns what it says on stderr.
func refusal(t *testing.T, path string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	cmd := exec.CommandContext(ctx, reader, path)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit %v, want 1; stderr %q", err, errs.String())
	}
	return errs.String()
}

func TestTruncatedAndForeignFilesAreRefused(t *testing.T) {
	path, _ := copyOfLane(t)
	for _, size := range []int64{layout.LaneHeaderBytes + ringBytes - 1, layout.LaneHeaderBytes, layout.PrefixBytes - 1, 0} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if got := refusal(t, path); !strings.Contains(got, "truncated") {
			t.Errorf("%d bytes: %q", size, got)
		}
	}
	for file, why := range map[string]string{os.Args[0]: "wrong magic", ".": "regular file", "missing": "No such file"} {
		if got := refusal(t, file); !strings.Contains(got, file+": ") || !strings.Contains(got, why) {
			t.Errorf("%s: %q", file, got)
		}
	}
	if err := os.Truncate(path, 1<<20); err != nil { // a file of zeros
		t.Fatal(err)
	}
	if got := refusal(t, path); !strings.Contains(got, "not ready") {
		t.Errorf("zeros: %q", got)
	}
}

// Fear: the reader dies without a word when its lane is truncated under it.
func TestATruncationUnderTheReaderIsReported(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	path, sent := copyOfLane(t)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := segment.Lock(f); err != nil { // else the reader takes the publisher for dead
		t.Fatal(err)
	}
	r := start(t, ctx, path)
	for range sent {
		r.next(sent)
	}
	if err := f.Truncate(layout.PageBytes); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Wait(); r.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(r.errs.String(), "truncated") {
		t.Errorf("%v: %q", err, r.errs.String())
	}
}

// crafted writes a lane file with frames that no publisher of ours writes.
type crafted struct {
	b   []byte
	pos uint64
}

func newCrafted() *crafted {
	g := layout.Geometry{Ring: ringBytes}.WithDefaults()
	h := layout.LaneHeader{Geometry: g, TopicID: topic.ID(topicName), Epoch: layout.ID16{1, 2, 3}, FirstPos: g.Ring, Topic: topicName, Source: "feed-1"}
	c := &crafted{b: make([]byte, g.FileBytes()), pos: g.Ring}
	h.Encode(c.b)
	binary.LittleEndian.PutUint64(c.b[layout.OffReady:], layout.Ready(layout.LaneMagic, h.Epoch))
	cell, err := seqlock.NewCell(c.b[layout.OffTail : layout.OffTail+layout.TailBytes])
	if err != nil {
		panic(err)
	}
	cell.Store([]uint64{g.Ring, 0})
	binary.LittleEndian.PutUint64(c.b[layout.OffIntent:], 2*g.Ring)
	return c
}

func (c *crafted) frame(kind layout.Kind, n uint32, seq uint64, first uint64) *crafted {
	b := c.b[layout.OffRing+c.pos&(ringBytes-1):]
	le := binary.LittleEndian
	le.PutUint64(b[layout.OffLen:], layout.Meta(n, 9, 0, 0))
	le.PutUint64(b[layout.OffSeq:], seq)
	le.PutUint64(b[layout.OffPayload:], first)
	le.PutUint64(b, layout.Commit(c.pos, kind))
	c.pos += layout.FrameBytes(uint64(n))
	return c
}

// Fear: frames of a forwarder or of a hostile publisher do what the document
// does not say.
func TestForwardedGapsAndHostileFrames(t *testing.T) {
	const data, gap, end = layout.KindData, layout.KindGap, layout.KindEnd
	crc := fmt.Sprintf("%08x", crc32.Checksum(make([]byte, 8), castagnoli))
	frame := func(seq int) string { return fmt.Sprintf("%d 9 8 0 %s\n", seq, crc) }
	for _, c := range []struct {
		name string
		lane *crafted
		out  string
		errs string
	}{
		{"gap", newCrafted().frame(data, 8, 0, 0).frame(gap, 8, 1, 4).frame(data, 8, 5, 0).frame(end, 0, 6, 0),
			frame(0) + "gap 1 5\n" + frame(5) + "end 6\n", ""},
		{"gap before the end", newCrafted().frame(data, 8, 0, 0).frame(gap, 8, 1, 4).frame(end, 0, 5, 0),
			frame(0) + "gap 1 5\nend 5\n", ""},
		{"gap that is too short", newCrafted().frame(data, 8, 0, 0).frame(gap, 0, 1, 0), frame(0), "corrupt"},
		{"sequence ahead", newCrafted().frame(data, 8, 0, 0).frame(data, 8, 2, 0), frame(0), "corrupt"},
		{"sequence behind", newCrafted().frame(data, 8, 0, 0).frame(gap, 8, 1, 1).frame(data, 8, 0, 0), frame(0), "corrupt"},
		{"length beyond the largest message", newCrafted().frame(data, ringBytes/8+1, 0, 0), "", "corrupt"},
		{"largest length", newCrafted().frame(data, 0xffffffff, 0, 0), "", "corrupt"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), watchdog)
		path := filepath.Join(t.TempDir(), "crafted.ring")
		if err := os.WriteFile(path, c.lane.b, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(ctx, reader, path)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		cancel()
		want := "reading " + topicName + " feed-1 0\n" + c.out
		code := 0
		if c.errs != "" {
			code = 1
		}
		if got := cmd.ProcessState.ExitCode(); out.String() != want || got != code || !strings.Contains(errs.String(), c.errs) {
			t.Errorf("%s: exit %d, stdout %q, stderr %q; want %d, %q, %q", c.name, got, out.String(), errs.String(), code, want, c.errs)
		}
	}
}
