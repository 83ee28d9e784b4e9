package layout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
)

func lane() (LaneHeader, []byte) {
	g := Geometry{}.WithDefaults()
	h := LaneHeader{Geometry: g, TopicID: 1, Lane: 2, Epoch: ID16{3, 30}, SourceID: ID16{4}, OriginNode: ID16{5}, UID: 6, GID: 7,
		Mirror: true, Hops: 8, CreatedWall: 9, CreatedMono: 10, BootID: ID16{11}, PrevEpoch: ID16{12}, FirstPos: g.Ring, FirstSeq: 13,
		Timestamp: TimestampTSC, OriginEpoch: ID16{14}, OriginWall: 15, OriginMono: -16, Topic: "a.b", Source: "s"}
	b := make([]byte, PrefixBytes)
	h.Encode(b)
	binary.LittleEndian.PutUint64(b[OffReady:], Ready(LaneMagic, h.Epoch))
	return h, b
}

func cursors() (CursorHeader, []byte) {
	h := CursorHeader{Epoch: ID16{1, 2}, UID: 3, GID: 4, Mode: Lossless, Park: true, Slots: 100, CreatedWall: 5, CreatedMono: 6,
		BootID: ID16{7}, Name: "n", Pattern: "a.>"}
	b := make([]byte, PrefixBytes)
	h.Encode(b)
	binary.LittleEndian.PutUint64(b[OffReady:], Ready(CursorMagic, h.Epoch))
	return h, b
}

// seal makes the checksum right again, so that the checks behind it are reached.
func seal(b []byte) {
	binary.LittleEndian.PutUint32(b[offCRC:], crc32.Checksum(b[:offCRC], castagnoli))
}

func TestHeadersSurviveTheirEncoding(t *testing.T) {
	h, b := lane()
	got, err := DecodeLane(b, int64(h.FileBytes()))
	h.MinorVersion = Minor
	if err != nil || got != h {
		t.Fatalf("%+v, %v\nwant %+v", got, err, h)
	}
	c, b := cursors()
	gotC, err := DecodeCursor(b, int64(CursorFileBytes(c.Slots)))
	if err != nil || gotC != c {
		t.Fatalf("%+v, %v\nwant %+v", gotC, err, c)
	}
	// The longest names fit, longer ones are cut and stay terminated.
	h, _ = lane()
	h.Topic, h.Source = strings.Repeat("t", 400), strings.Repeat("s", 400)
	h.Encode(b)
	binary.LittleEndian.PutUint64(b[OffReady:], Ready(LaneMagic, h.Epoch))
	got, err = DecodeLane(b, int64(h.FileBytes()))
	if err != nil || len(got.Topic) != MaxTopic || len(got.Source) != MaxSource {
		t.Fatal(len(got.Topic), len(got.Source), err)
	}
	// A field that is full to its last byte, which no writer makes, is cut the same.
	for i := range topicNameBytes {
		b[0x100+i] = 't'
	}
	seal(b)
	if got, err = DecodeLane(b, int64(h.FileBytes())); err != nil || len(got.Topic) != MaxTopic {
		t.Fatal(len(got.Topic), err)
	}
}

func TestEveryHeaderBitIsGuarded(t *testing.T) {
	h, b := lane()
	_, c := cursors()
	for name, check := range map[string]struct {
		b []byte
		f func(b []byte) error
	}{
		"lane":   {b, func(b []byte) error { _, err := DecodeLane(b, int64(h.FileBytes())); return err }},
		"cursor": {c, func(b []byte) error { _, err := DecodeCursor(b, int64(CursorFileBytes(100))); return err }},
	} {
		for bit := range PrefixBytes * 8 {
			check.b[bit/8] ^= 1 << (bit % 8)
			if check.f(check.b) == nil {
				t.Fatalf("%s: bit %d of byte %#x", name, bit%8, bit/8)
			}
			check.b[bit/8] ^= 1 << (bit % 8)
		}
		if err := check.f(check.b); err != nil {
			t.Fatal(err)
		}
	}
}

// Each refusal has its own sentinel.
func TestImpossibleHeadersAreRefused(t *testing.T) {
	le := binary.LittleEndian
	h, _ := lane()
	size := int64(h.FileBytes())
	for name, c := range map[string]struct {
		spoil func(b []byte)
		size  int64
		want  error
	}{
		"short":          {func(b []byte) {}, 100, ErrTruncated},
		"file too small": {func(b []byte) {}, size - 4096, ErrTruncated},
		"file too large": {func(b []byte) {}, size + 4096, ErrTruncated},
		"empty":          {func(b []byte) { clear(b) }, size, ErrNotReady},
		"magic":          {func(b []byte) { b[0]++ }, size, ErrMagic},
		"major":          {func(b []byte) { b[8]++ }, size, ErrVersion},
		"checksum":       {func(b []byte) { b[0x100]++ }, size, ErrChecksum},
		"header length":  {func(b []byte) { le.PutUint32(b[0x0c:], 8192); seal(b) }, size, ErrGeometry},
		"ring offset":    {func(b []byte) { le.PutUint64(b[0x18:], 8192); seal(b) }, size, ErrGeometry},
		"ring":           {func(b []byte) { le.PutUint64(b[0x20:], 3<<20); seal(b) }, size, ErrGeometry},
		"ring and file":  {func(b []byte) { le.PutUint64(b[0x20:], 2<<20); seal(b) }, size, ErrTruncated},
		"align":          {func(b []byte) { le.PutUint32(b[0x28:], 64); seal(b) }, size, ErrGeometry},
		"max message":    {func(b []byte) { le.PutUint32(b[0x2c:], 1<<20); seal(b) }, size, ErrGeometry},
		"no message":     {func(b []byte) { le.PutUint32(b[0x2c:], 0); seal(b) }, size, ErrGeometry},
		"lane number":    {func(b []byte) { le.PutUint64(b[0x38:], MaxLanes); seal(b) }, size, ErrGeometry},
		"block shift":    {func(b []byte) { le.PutUint32(b[0x7c:], 5); seal(b) }, size, ErrGeometry},
		"first position": {func(b []byte) { le.PutUint64(b[0xb0:], 0); seal(b) }, size, ErrGeometry},
		"step":           {func(b []byte) { le.PutUint64(b[0xc0:], 33); seal(b) }, size, ErrGeometry},
		"not ready":      {func(b []byte) { le.PutUint64(b[OffReady:], 0) }, size, ErrNotReady},
	} {
		_, b := lane()
		c.spoil(b)
		if _, err := DecodeLane(b, c.size); !errors.Is(err, c.want) {
			t.Errorf("lane, %s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := DecodeLane(make([]byte, 10), size); !errors.Is(err, ErrTruncated) {
		t.Error(err)
	}
	size = int64(CursorFileBytes(100))
	for name, c := range map[string]struct {
		spoil func(b []byte)
		size  int64
		want  error
	}{
		"short":     {func(b []byte) {}, 100, ErrTruncated},
		"no slots":  {func(b []byte) { le.PutUint32(b[0x18:], 0); seal(b) }, size, ErrGeometry},
		"too many":  {func(b []byte) { le.PutUint32(b[0x18:], MaxLanes+1); seal(b) }, size, ErrGeometry},
		"size":      {func(b []byte) { le.PutUint32(b[0x18:], 5000); seal(b) }, size, ErrTruncated},
		"slot":      {func(b []byte) { le.PutUint32(b[0x1c:], 64); seal(b) }, size, ErrGeometry},
		"mode":      {func(b []byte) { b[0x38] = 9; seal(b) }, size, ErrGeometry},
		"not ready": {func(b []byte) { b[OffReady]++ }, size, ErrNotReady},
		"a lane":    {func(b []byte) { le.PutUint64(b, LaneMagic) }, size, ErrMagic},
	} {
		_, b := cursors()
		c.spoil(b)
		if _, err := DecodeCursor(b, c.size); !errors.Is(err, c.want) {
			t.Errorf("cursor, %s: %v, want %v", name, err, c.want)
		}
	}
	var v *VersionError
	_, b := lane()
	b[8] = 7
	if _, err := DecodeLane(b, int64(h.FileBytes())); !errors.As(err, &v) || err.Error() != "layout version 7.0, this program reads 1.x: use a matching release" {
		t.Error(err)
	}
}

func TestGeometryBounds(t *testing.T) {
	for ring := uint64(MinRing); ring <= MaxRing; ring *= 2 {
		g := Geometry{Ring: ring}.WithDefaults()
		if err := g.Check(); err != nil || uint64(1)<<g.BlockShift() != ring/IndexEntries {
			t.Errorf("%d: %v", ring, err)
		}
	}
	for _, g := range []Geometry{{Ring: 1}, {Ring: MaxRing * 2}, {MaxMsg: 1 << 31}, {Step: 31}, {Step: 1 << 40}} {
		if err := g.WithDefaults().Check(); !errors.Is(err, ErrGeometry) {
			t.Errorf("%+v: %v", g, err)
		}
	}
	for _, n := range []uint32{1, 128, 129, MaxLanes} {
		if b := CursorFileBytes(n); b%PageBytes != 0 || b < CursorHeaderBytes+uint64(n)*SlotBytes {
			t.Errorf("%d slots in %d bytes", n, b)
		}
	}
}

// No commit word is another's: not of another kind, position or lap, and never zero.
func TestCommitWordsAreUnique(t *testing.T) {
	seen := map[uint64]bool{0: true}
	for pos := uint64(MinRing); pos < MinRing+64*Align; pos += Align {
		for kind := KindData; kind <= KindEnd; kind++ {
			w := Commit(pos, kind)
			if seen[w] || !Committed(w, pos) || KindOf(w) != kind || Committed(w, pos+MinRing) || Committed(w, pos+Align) {
				t.Fatalf("position %d, kind %d: %x", pos, kind, w)
			}
			seen[w] = true
		}
	}
	if Committed(0, 0) || Committed(0, 1<<20) {
		t.Fatal("zero is a commit")
	}
	for n := range uint64(200) {
		if b := FrameBytes(n); b%Align != 0 || b < FrameHeaderBytes+n || b >= FrameHeaderBytes+n+Align {
			t.Fatalf("%d bytes take %d", n, b)
		}
	}
	n, typ, flags, hops := SplitMeta(Meta(0xfffffffe, 0xabcd, 0x12, 0x34))
	if n != 0xfffffffe || typ != 0xabcd || flags != 0x12 || hops != 0x34 {
		t.Fatal(n, typ, flags, hops)
	}
}

func TestIdentities(t *testing.T) {
	id := ID16{1, 2, 3}
	b, err := id.MarshalText()
	var back ID16
	if err != nil || back.UnmarshalText(b) != nil || back != id || id.Low() != 0x030201 || id.IsZero() || !(ID16{}).IsZero() {
		t.Fatal(string(b), back, err)
	}
	for _, bad := range []string{"", "00", strings.Repeat("g", 32)} {
		if back.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q is an identity", bad)
		}
	}
	for s, want := range map[LaneState]string{LaneActive: "active", LaneClosed: "closed", LaneFault: "fault", 9: "unknown"} {
		if s.String() != want {
			t.Errorf("%d is %q", s, s)
		}
	}
}

// FuzzLayout decodes what it is given and, where that is a header, encodes it again.
func FuzzLayout(f *testing.F) {
	h, b := lane()
	f.Add(b, int64(h.FileBytes()), true)
	_, c := cursors()
	f.Add(c, int64(CursorFileBytes(100)), true)
	f.Add(b[:50], int64(50), false)
	f.Fuzz(func(t *testing.T, b []byte, size int64, sealed bool) {
		b = bytes.Clone(b)
		if sealed && len(b) >= PrefixBytes {
			seal(b)
		}
		again := make([]byte, PrefixBytes)
		if h, err := DecodeLane(b, size); err == nil {
			if h.FileBytes() != uint64(size) || h.Check() != nil {
				t.Fatalf("%+v of %d bytes", h, size)
			}
			h.Encode(again)
			binary.LittleEndian.PutUint64(again[OffReady:], Ready(LaneMagic, h.Epoch))
			h.MinorVersion = Minor
			if got, err := DecodeLane(again, size); err != nil || got != h {
				t.Fatalf("%+v, %v, want %+v", got, err, h)
			}
		}
		if h, err := DecodeCursor(b, size); err == nil {
			h.Encode(again)
			binary.LittleEndian.PutUint64(again[OffReady:], Ready(CursorMagic, h.Epoch))
			if got, err := DecodeCursor(again, size); err != nil || got != h {
				t.Fatalf("%+v, %v, want %+v", got, err, h)
			}
		}
	})
}
