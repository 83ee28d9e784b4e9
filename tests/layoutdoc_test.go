// Package tests holds what concerns the repository as a whole.
package tests

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/topic"
)

const layoutDoc = "../docs/layout.md"

// table is one Markdown table that a comment marks for these tests.
type table struct {
	kind string
	line int
	rows []map[string]string // by column
}

// readTables returns the marked tables of layout.md.
func readTables(t *testing.T) []table {
	t.Helper()
	b, err := os.ReadFile(layoutDoc)
	if err != nil {
		t.Fatal(err)
	}
	mark := regexp.MustCompile(`^<!-- table: (.+) -->$`)
	var all []table
	lines := strings.Split(string(b), "\n")
	for i := 0; i < len(lines); i++ {
		m := mark.FindStringSubmatch(lines[i])
		if m == nil {
			continue
		}
		tb := table{kind: m[1], line: i + 2}
		columns := cells(lines[i+1])
		for i += 3; strings.HasPrefix(lines[i], "|"); i++ {
			row := map[string]string{}
			for k, c := range cells(lines[i]) {
				row[columns[k]] = c
			}
			tb.rows = append(tb.rows, row)
		}
		if len(tb.rows) == 0 {
			t.Fatalf("%s:%d: a marked table without rows", layoutDoc, tb.line)
		}
		all = append(all, tb)
	}
	return all
}

func cells(line string) []string {
	c := strings.Split(strings.Trim(line, "|"), "|")
	for i := range c {
		c[i] = strings.TrimSpace(strings.ReplaceAll(c[i], "`", ""))
	}
	return c
}

// one returns the only table of a kind.
func one(t *testing.T, kind string) table {
	t.Helper()
	all := slices.DeleteFunc(readTables(t), func(tb table) bool { return tb.kind != kind })
	if len(all) != 1 {
		t.Fatalf("%s has %d tables marked %q, want 1", layoutDoc, len(all), kind)
	}
	return all[0]
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	v, err := strconv.ParseUint(strings.TrimPrefix(s, "+"), 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// layoutConstants are the exported numbers of package layout, as the compiler
// sees them.
func layoutConstants(t *testing.T) map[string]uint64 {
	t.Helper()
	fset := token.NewFileSet()
	paths, err := filepath.Glob("../internal/layout/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, p, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	// Constants need no imports: what else does not resolve is of no interest.
	conf := types.Config{Error: func(error) {}}
	pkg, _ := conf.Check("layout", fset, files, nil)
	all := map[string]uint64{}
	for _, name := range pkg.Scope().Names() {
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		if !ok || !c.Exported() || c.Val().Kind() != constant.Int {
			continue
		}
		v, exact := constant.Uint64Val(c.Val())
		if !exact {
			t.Fatalf("layout.%s = %v is no u64", name, c.Val())
		}
		all[name] = v
	}
	return all
}

// Fear: a number changes in the code and the document goes on telling the old one.
func TestLayoutDocHasEveryConstant(t *testing.T) {
	want := layoutConstants(t)
	if len(want) < 80 {
		t.Fatalf("only %d constants found in package layout", len(want))
	}
	documented := map[string]bool{}
	for _, tb := range readTables(t) {
		if tb.kind != "constants" {
			continue
		}
		for _, row := range tb.rows {
			name := row["Constant"]
			v, known := want[name]
			if !known {
				t.Errorf("%s:%d: %s is no constant of package layout", layoutDoc, tb.line, name)
				continue
			}
			documented[name] = true
			for _, column := range []string{"Value", "Offset", "Word", "Kind"} {
				if s, there := row[column]; there {
					if got := number(t, s); got != v {
						t.Errorf("%s:%d: %s is %#x, in the code it is %#x", layoutDoc, tb.line, name, got, v)
					}
				}
			}
		}
	}
	for name, v := range want {
		if !documented[name] {
			t.Errorf("%s does not tell layout.%s = %#x", layoutDoc, name, v)
		}
	}
}

func id16(b byte) (id layout.ID16) {
	for i := range id {
		id[i] = b + byte(i)
	}
	return id
}

// checkHeader compares each documented field with an encoded header in which
// every field holds another value, and looks for bytes that no row tells.
func checkHeader(t *testing.T, tb table, b []byte, want map[string]any) {
	t.Helper()
	covered := make([]bool, len(b))
	for _, row := range tb.rows {
		off := number(t, row["Offset"])
		field, typ := row["Field"], row["Type"]
		v, known := want[field]
		if !known {
			t.Errorf("%s:%d: no value for field %q", layoutDoc, tb.line, field)
			continue
		}
		delete(want, field)
		le := binary.LittleEndian
		var n int
		var got any
		switch typ {
		case "u8":
			n, got = 1, uint64(b[off])
		case "u16":
			n, got = 2, uint64(le.Uint16(b[off:]))
		case "u32":
			n, got = 4, uint64(le.Uint32(b[off:]))
		case "u64", "i64":
			n, got = 8, le.Uint64(b[off:])
		case "b16":
			n, got = 16, layout.ID16(b[off:off+16])
		default:
			if _, err := fmt.Sscanf(typ, "char[%d]", &n); err != nil {
				t.Fatalf("%s:%d: type %q", layoutDoc, tb.line, typ)
			}
			got = strings.TrimRight(string(b[off:int(off)+n]), "\x00")
			if s := v.(string); len(s) >= n {
				t.Errorf("%s:%d: %s of %d bytes does not fit %d", layoutDoc, tb.line, field, len(s), n)
			}
		}
		if off%uint64(min(n, 8)) != 0 {
			t.Errorf("%s:%d: %s is not aligned", layoutDoc, tb.line, field)
		}
		if got != v {
			t.Errorf("%s:%d: %s at %#x is %#x, want %#x", layoutDoc, tb.line, field, off, got, v)
		}
		for i := range n {
			if covered[int(off)+i] {
				t.Errorf("%s:%d: %s overlaps another field", layoutDoc, tb.line, field)
			}
			covered[int(off)+i] = true
		}
	}
	for field := range want {
		t.Errorf("%s:%d: field %q is missing", layoutDoc, tb.line, field)
	}
	for i, c := range b {
		if c != 0 && !covered[i] {
			t.Errorf("%s:%d: byte %#x of the header is %#02x and no field", layoutDoc, tb.line, i, c)
		}
	}
}

func castagnoli(b []byte) uint64 {
	return uint64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func TestLayoutDocHeaders(t *testing.T) {
	g := layout.Geometry{Ring: 1 << 20, MaxMsg: 4096, Step: 8192}
	name, source := strings.Repeat("t", layout.MaxTopic), strings.Repeat("s", layout.MaxSource)
	h := layout.LaneHeader{
		Geometry: g, TopicID: 0x1111111111111111, Lane: 777, Epoch: id16(0x20), SourceID: id16(0x40), OriginNode: id16(0x60), UID: 8, GID: 9,
		Mirror: true, Hops: 10, CreatedWall: 11, CreatedMono: 12, BootID: id16(0x80), PrevEpoch: id16(0xa0), FirstPos: g.Ring, FirstSeq: 13,
		Timestamp: layout.TimestampClock, OriginEpoch: id16(0xc0), OriginWall: 14, OriginMono: 15, Topic: name, Source: source,
		Via: [3]layout.ID16{id16(0x11), id16(0x31), id16(0x51)},
	}
	b := make([]byte, layout.PrefixBytes)
	h.Encode(b)
	ready := layout.Ready(layout.LaneMagic, h.Epoch)
	binary.LittleEndian.PutUint64(b[layout.OffReady:], ready)
	if _, err := layout.DecodeLane(b, int64(g.FileBytes())); err != nil {
		t.Fatal(err)
	}
	checkHeader(t, one(t, "lane header"), b, map[string]any{
		"magic": layout.LaneMagic, "major": uint64(1), "minor": uint64(0), "header_bytes": uint64(0x4000), "file_bytes": uint64(0x4000 + 1<<20),
		"ring_offset": uint64(0x4000), "cap": g.Ring, "align": uint64(32), "max_msg": uint64(4096), "topic_id": h.TopicID, "number": uint64(777),
		"epoch": h.Epoch, "source_id": h.SourceID, "node": h.OriginNode, "uid": uint64(8), "gid": uint64(9), "mirror": uint64(1), "hops": uint64(10),
		"block_shift": uint64(20 - 8), "created_wall": uint64(11), "created_mono": uint64(12), "boot": h.BootID, "prev_epoch": h.PrevEpoch,
		"first_pos": g.Ring, "first_seq": uint64(13), "step": uint64(8192), "timestamp": uint64(2), "origin_epoch": h.OriginEpoch,
		"origin_wall": uint64(14), "origin_mono": uint64(15), "topic": name, "source": source,
		"via_1": id16(0x11), "via_2": id16(0x31), "via_3": id16(0x51),
		"crc": castagnoli(b[:0x3fc]), "ready": ready,
	})

	c := layout.CursorHeader{Epoch: id16(0x20), UID: 8, GID: 9, Mode: layout.Lossy, Park: true, Slots: 100, CreatedWall: 11, CreatedMono: 12,
		BootID: id16(0x80), Keep: 16, Name: source[:layout.MaxSource-1], Pattern: name}
	clear(b)
	c.Encode(b)
	ready = layout.Ready(layout.CursorMagic, c.Epoch)
	binary.LittleEndian.PutUint64(b[layout.OffReady:], ready)
	file := uint64(4096+32*100+4095) / 4096 * 4096
	if _, err := layout.DecodeCursor(b, int64(file)); err != nil {
		t.Fatal(err)
	}
	checkHeader(t, one(t, "cursor header"), b, map[string]any{
		"magic": layout.CursorMagic, "major": uint64(1), "minor": uint64(0), "header_bytes": uint64(4096), "file_bytes": file, "slots": uint64(100),
		"slot_bytes": uint64(32), "epoch": c.Epoch, "uid": uint64(8), "gid": uint64(9), "mode": uint64(2), "park": uint64(1),
		"created_wall": uint64(11), "created_mono": uint64(12), "boot": c.BootID, "keep": uint64(16), "name": c.Name, "pattern": name,
		"crc": castagnoli(b[:0x3fc]), "ready": ready,
	})
}

func TestLayoutDocRecords(t *testing.T) {
	for kind, size := range map[string]uint64{"index entry": layout.IndexEntryBytes, "notice": layout.NoticeBytes} {
		at := uint64(0)
		for _, row := range one(t, kind).rows {
			if off := number(t, row["Offset"]); off != at || row["Type"] != "u64" {
				t.Errorf("%s: %s at %d, want a u64 at %d", kind, row["Field"], off, at)
			}
			at += 8
		}
		if at != size {
			t.Errorf("%s: the rows make %d bytes, want %d", kind, at, size)
		}
	}
}

func TestLayoutDocVectors(t *testing.T) {
	text := func(row map[string]string) string { return strings.TrimPrefix(row["Text"], "(empty)") }
	for _, row := range one(t, "fnv").rows {
		if got, want := number(t, row["FNV-1a 64"]), topic.ID(text(row)); got != want {
			t.Errorf("FNV-1a of %q is %#x, told as %#x", text(row), want, got)
		}
	}
	for _, row := range one(t, "crc").rows {
		if got, want := number(t, row["CRC32C"]), castagnoli([]byte(text(row))); got != want {
			t.Errorf("CRC32C of %q is %#x, told as %#x", text(row), want, got)
		}
	}
	for _, row := range one(t, "commit").rows {
		pos, kind := number(t, row["Position"]), layout.Kind(number(t, row["Kind"]))
		if got, want := number(t, row["Commit word"]), layout.Commit(pos, kind); got != want || !layout.Committed(got, pos) || layout.KindOf(got) != kind {
			t.Errorf("commit word of kind %d at %#x is %#x, told as %#x", kind, pos, want, got)
		}
	}
}

// hexdump returns the bytes of the one dump in the document.
func hexdump(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(layoutDoc)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "```hexdump\n")
	dump, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("no hexdump block")
	}
	file := make([]byte, layout.LaneHeaderBytes+layout.MinRing)
	for line := range strings.Lines(dump) {
		at, err := strconv.ParseUint(line[:8], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		row, err := hex.DecodeString(strings.ReplaceAll(line[10:49], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		copy(file[at:], row)
	}
	return file
}

// Fear: the worked example does not follow the rules that it explains.
func TestLayoutDocWorkedExample(t *testing.T) {
	b := hexdump(t)
	h, err := layout.DecodeLane(b, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if h.Topic != "market.kraken.BTC-USD" || h.Source != "feed-1" || h.TopicID != topic.ID(h.Topic) || h.SourceID.Low() != topic.ID(h.Source) {
		t.Errorf("header %+v", h)
	}
	doc, err := os.ReadFile(layoutDoc)
	if err != nil {
		t.Fatal(err)
	}
	if name := fmt.Sprintf("l/%016x.%d.%s.ring", h.TopicID, h.Lane, h.Epoch); !strings.Contains(string(doc), name) {
		t.Errorf("the file of the example is not named %s", name)
	}
	le := binary.LittleEndian
	var got []string
	for pos := h.FirstPos; ; {
		f := b[layout.OffRing+pos&(h.Ring-1):]
		commit := le.Uint64(f)
		if !layout.Committed(commit, pos) {
			t.Fatalf("no frame at %#x", pos)
		}
		n, typ, _, _ := layout.SplitMeta(le.Uint64(f[layout.OffLen:]))
		got = append(got, fmt.Sprintf("%d %d %d %q", layout.KindOf(commit), typ, le.Uint64(f[layout.OffSeq:]), f[layout.OffPayload:layout.OffPayload+n]))
		if layout.KindOf(commit) == layout.KindEnd {
			break
		}
		pos += layout.FrameBytes(uint64(n))
	}
	want := []string{`0 7 0 "hello, mycelium"`, `0 8 1 "a payload of thirty-three bytes.."`, `3 0 2 ""`}
	if !slices.Equal(got, want) {
		t.Errorf("frames %q, want %q", got, want)
	}
}

// Fear: the conversation's keys change and the document does not.
func TestLayoutDocMessages(t *testing.T) {
	objects := map[string]reflect.Type{
		"message": reflect.TypeFor[control.Message](), "hello": reflect.TypeFor[control.Hello](), "welcome": reflect.TypeFor[control.Welcome](),
		"open_sub": reflect.TypeFor[control.OpenSub](), "sub_grant": reflect.TypeFor[control.SubGrant](), "lane_info": reflect.TypeFor[control.LaneInfo](),
		"policy": reflect.TypeFor[control.Policy](), "joined": reflect.TypeFor[control.Joined](), "final": reflect.TypeFor[control.Final](),
		"held": reflect.TypeFor[control.HeldLane](), "error": reflect.TypeFor[control.Error](),
	}
	told := map[string]bool{}
	for _, row := range one(t, "messages").rows {
		o, key := row["Object"], row["Key"]
		typ := objects[o]
		if typ == nil {
			t.Errorf("unknown object %q", o)
			continue
		}
		told[o+"."+key] = true
		if kind := jsonKind(typ, key); kind != row["JSON"] {
			t.Errorf("%s.%s is told to be of type %q, in the code it is %q", o, key, row["JSON"], kind)
		}
	}
	// Every code of an error, as the source has them.
	src, err := os.ReadFile("../internal/control/control.go")
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, m := range regexp.MustCompile(`Code\s+= "([a-z-]+)"`).FindAllStringSubmatch(string(src), -1) {
		codes = append(codes, m[1])
	}
	for _, row := range one(t, "messages").rows {
		if row["Object"] == "error" && row["Key"] == "code" && row["Meaning"] != strings.Join(codes, " ") {
			t.Errorf("error.code is told to be one of %q, in the code it is %q", row["Meaning"], codes)
		}
	}
	for o, typ := range objects {
		for i := range typ.NumField() {
			key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			// Publishers' and tools' parts of a message are not a reader's.
			if o != "message" && !told[o+"."+key] && o+"."+key != "error.epoch" {
				t.Errorf("%s.%s is not told", o, key)
			}
		}
	}
}

// jsonKind is what a field becomes in JSON, "" if there is no such key.
func jsonKind(typ reflect.Type, key string) string {
	for i := range typ.NumField() {
		f := typ.Field(i)
		if k, _, _ := strings.Cut(f.Tag.Get("json"), ","); k != key {
			continue
		}
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		switch {
		case ft == reflect.TypeFor[layout.ID16]():
			return "string"
		case ft.Kind() == reflect.Slice:
			return "array"
		case ft.Kind() == reflect.Struct:
			return "object"
		case ft.Kind() == reflect.Bool, ft.Kind() == reflect.String:
			return ft.Kind().String()
		}
		return "number"
	}
	return ""
}
