package codec

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

const nowNs = uint64(1700000000123456789)

// numbered is a bare message of a source.
func numbered(source Source, sequence, timestampNs uint64) Message {
	b := make([]byte, HeaderSize)
	Header{Version: 1, Source: source, Sequence: sequence, TimestampNs: timestampNs}.Put(b)
	return Message{bytes: b}
}

func TestLimitsAreNotThoseOfTorq(t *testing.T) {
	for preset, want := range map[string]Limits{
		"":                       presets[PresetDefault],
		`preset = "default"`:     presets[PresetDefault],
		`preset = "production"`:  presets[PresetProduction],
		`preset = "development"`: presets[PresetDevelopment],
	} {
		var l Limits
		if _, err := toml.Decode(preset, &l); err != nil || l.Validate() != nil || l.WithDefaults() != want {
			t.Errorf("%s: %+v, %v", preset, l.WithDefaults(), err)
		}
	}
	p := presets[PresetProduction]
	if p.size() != (SizeLimits{2048, 4096, 8192, 16384}) || p.MaxDrift != 2*time.Second || p.MaxAge != 30*time.Second ||
		p.MaxSequenceGap != 50 || p.DuplicateWindow != 600*time.Second || p.TrackedSequences != 50000 {
		t.Errorf("production: %+v", p)
	}
	var l Limits
	meta, err := toml.Decode(`
		preset = "production"
		max_payload_market_data = 65536
		max_payload_signal = -1
		clock = "off"
		max_drift = "250ms"
		max_age = "-1ns"
		max_sequence_gap = -1
		duplicate_window = "1h"
		tracked_sequences = 64`, &l)
	want := Limits{PresetProduction, 65536, -1, 8192, 16384, ClockOff, 250 * time.Millisecond, -1, -1, time.Hour, 64}
	if err != nil || len(meta.Undecoded()) > 0 || l.WithDefaults() != want {
		t.Errorf("%+v, %v, not decoded: %v", l.WithDefaults(), err, meta.Undecoded())
	}
	for _, text := range []string{`preset = "staging"`, `clock = "on"`} {
		if _, err := toml.Decode(text, new(Limits)); err == nil || !strings.Contains(err.Error(), "want ") {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, l := range []Limits{{Preset: 3}, {Clock: 3}, {TrackedSequences: maxTracked + 1}} {
		if _, err := NewValidator(l); err == nil {
			t.Errorf("%+v is taken", l)
		}
	}
}

func TestNamesOfSettingsAreForgotten(t *testing.T) {
	for _, v := range []interface {
		UnmarshalText([]byte) error
		String() string
	}{new(Mode), new(ChecksumPolicy), new(Dialect), new(Preset), new(ClockRule)} {
		for _, names := range [][]string{modeNames, policyNames, dialectNames, presetNames, clockNames} {
			for _, name := range names {
				if err := v.UnmarshalText([]byte(name)); err == nil && v.String() != name {
					t.Errorf("%T %q is shown as %q", v, name, v)
				}
			}
		}
		before := v.String()
		if err := v.UnmarshalText([]byte("nonsense")); err == nil || v.String() != before || !strings.Contains(err.Error(), `"nonsense": want `) {
			t.Errorf("%T takes nonsense: %v", v, err)
		}
	}
	if Mode(9).String() != "9" {
		t.Error(Mode(9))
	}
	for mode, want := range map[Mode]ChecksumPolicy{ModeStrict: ChecksumRequire, ModeRelay: ChecksumIgnore, ModeBridge: ChecksumVerifyIfNonzero} {
		if mode.Checksum() != want {
			t.Errorf("%v: %v, want %v", mode, mode.Checksum(), want)
		}
	}
}

func TestMessageOverTheLimitsPasses(t *testing.T) {
	v, err := NewValidator(Limits{}, KnownHeader{}, TLVs{ModeStrict})
	if err != nil {
		t.Fatal(err)
	}
	big := func(n int, d Domain) Message {
		m := messageOf(make([]byte, n))
		Header{Domain: d, Version: 1, Source: SourceKraken, TimestampNs: nowNs, PayloadSize: uint32(n)}.Put(m.bytes)
		return m
	}
	second := uint64(time.Second)
	for _, test := range []struct {
		name string
		m    Message
		d    Domain
		want []error
		text string
	}{
		{"all is well", mustParse(t, unhex(t, krakenTrade), ChecksumRequire), DomainMarketData, nil, ""},
		{"4096 bytes", big(4096, 0), DomainMarketData, nil, ""},
		{"4098 bytes", big(4098, 0), DomainMarketData, []error{ErrPayloadTooLarge}, "at byte 24: 4098 bytes, at most 4096"},
		{"signal, 8192", big(8192, 1), DomainSignal, nil, ""},
		{"signal, 8194", big(8194, 1), DomainSignal, []error{ErrPayloadTooLarge}, ""},
		{"execution, 16386", big(16386, 2), DomainExecution, []error{ErrPayloadTooLarge}, ""},
		{"system, 32768", big(32768, 3), DomainSystem, nil, ""},
		{"system, 32770", big(32770, 3), DomainSystem, []error{ErrPayloadTooLarge}, ""},
		{"no domain, 32768", big(32768, 3), DomainNone, nil, ""},
		{"no domain, 32770", big(32770, 3), DomainNone, []error{ErrPayloadTooLarge}, ""},
		{"5 s ahead", numbered(3, 0, nowNs+5*second), DomainMarketData, nil, ""},
		{"more than 5 s ahead", numbered(3, 0, nowNs+5*second+1), DomainMarketData, []error{ErrTimestampInFuture}, "1700000005123456790 ns, at most 1700000005123456789"},
		{"60 s old", numbered(3, 0, nowNs-60*second), DomainMarketData, nil, ""},
		{"more than 60 s old", numbered(3, 0, nowNs-60*second-1), DomainMarketData, []error{ErrTimestampTooOld}, "at least"},
		{"the end of time", numbered(3, 0, ^uint64(0)), DomainMarketData, []error{ErrTimestampInFuture}, ""},
		{"no time, other domain", numbered(3, 0, 0), DomainSignal, []error{ErrTimestampTooOld, ErrRelayDomainMismatch}, "domain 0, want 1"},
		{"source without a name", numbered(61, 0, nowNs), DomainMarketData, []error{ErrUnknownSource}, "source 61 has no name"},
		{"version 2", Message{bytes: append([]byte{0xEF, 0xBE, 0xAD, 0xDE, 0, 2}, numbered(3, 0, nowNs).bytes[6:]...)}, DomainNone, []error{ErrUnsupportedVersion}, "version 2, want 1"},
		{"56-byte quote", mustParse(t, unhex(t, binanceQuote), ChecksumIgnore), DomainMarketData, []error{ErrPayloadSizeMismatch}, ""},
	} {
		err := v.Validate(test.m, test.d, nowNs)
		if (err == nil) != (test.want == nil) {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		for _, want := range test.want {
			if !errors.Is(err, want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%s: %v, want %v, %q", test.name, err, want, test.text)
			}
		}
	}

	off, err := NewValidator(Limits{Preset: PresetDevelopment, MaxPayloadSystem: -1, MaxSequenceGap: -1})
	if err != nil || len(off.checks) != 1 {
		t.Fatalf("%v, %d checks", err, len(off.checks))
	}
	if err := off.Validate(big(1<<20, 3), DomainSystem, 0); err != nil {
		t.Error(err)
	}
	if err := off.Validate(big(1<<20, 3), DomainNone, 0); err != nil {
		t.Error(err)
	}
	any := ClockLimits{-1, -1}
	if any.Check(numbered(1, 0, 0), 0, nowNs) != nil || any.Check(numbered(1, 0, nowNs), 0, 0) != nil {
		t.Error("no limit limits")
	}

	m, failed := mustParse(t, unhex(t, krakenTrade), ChecksumRequire), error(nil)
	lax := TLVs{ModeBridge}
	v, _ = NewValidator(Limits{MaxSequenceGap: -1, TrackedSequences: -1}, KnownHeader{}, lax)
	if n := testing.AllocsPerRun(100, func() { failed = errors.Join(failed, v.Validate(m, DomainMarketData, nowNs)) }); n != 0 || failed != nil {
		t.Errorf("%v allocations, %v", n, failed)
	}
}

func TestGapOrDuplicateIsNotReported(t *testing.T) {
	type step struct {
		seq, ts uint64 // ts in seconds, as is now
		now     uint64
		want    error
		missed  uint64
	}
	for _, test := range []struct {
		name   string
		gap    int64
		track  int
		window time.Duration
		steps  []step
		want   SequenceStats
	}{
		{"in order", 0, 64, -1, []step{{5, 1, 1, nil, 0}, {6, 1, 1, nil, 0}, {7, 1, 1, nil, 0}},
			SequenceStats{Last: 7, Messages: 3}},
		{"0 is no number", 0, 64, -1, []step{{5, 1, 1, nil, 0}, {0, 1, 1, nil, 0}, {0, 1, 1, nil, 0}, {6, 1, 1, nil, 0}},
			SequenceStats{Last: 6, Messages: 2}},
		{"gap over the limit", 2, 64, -1, []step{{1, 1, 1, nil, 0}, {4, 1, 1, nil, 0}, {8, 1, 1, ErrSequenceGap, 3}, {9, 1, 1, nil, 0}},
			SequenceStats{Last: 9, Messages: 4, Gaps: 2, Missed: 5}},
		{"gap without a limit", -1, 64, -1, []step{{1, 1, 1, nil, 0}, {1 << 60, 1, 1, nil, 0}},
			SequenceStats{Last: 1 << 60, Messages: 2, Gaps: 1, Missed: 1<<60 - 2}},
		{"late ones fill a gap, once", 5, 64, -1, []step{{1, 1, 1, nil, 0}, {4, 2, 2, nil, 0}, {3, 3, 2, nil, 0}, {2, 1, 2, nil, 0}, {3, 1, 3, ErrDuplicateSequence, 0}},
			SequenceStats{Last: 4, Messages: 5, Gaps: 1, Late: 2, Duplicates: 1}},
		{"twice", 5, 64, -1, []step{{1, 1, 1, nil, 0}, {1, 1, 1, ErrDuplicateSequence, 0}, {2, 2, 2, nil, 0}, {1, 1, 2, ErrDuplicateSequence, 0}},
			SequenceStats{Last: 2, Messages: 4, Duplicates: 2}},
		{"before the first", 5, 64, -1, []step{{9, 2, 2, nil, 0}, {8, 1, 2, ErrDuplicateSequence, 0}},
			SequenceStats{Last: 9, Messages: 2, Duplicates: 1}},
		{"older than the window", 1000, 64, -1, []step{{1, 1, 1, nil, 0}, {500, 2, 2, nil, 0}, {436, 1, 2, ErrDuplicateSequence, 0}, {437, 1, 2, nil, 0}},
			SequenceStats{Last: 500, Messages: 4, Gaps: 1, Missed: 497, Late: 1, Duplicates: 1}},
		{"window wraps", 1000, 64, -1, []step{{63, 1, 1, nil, 0}, {66, 1, 1, nil, 0}, {64, 1, 1, nil, 0}, {65, 1, 1, nil, 0}, {64, 1, 1, ErrDuplicateSequence, 0}},
			SequenceStats{Last: 66, Messages: 5, Gaps: 1, Late: 2, Duplicates: 1}},
		{"restart", 5, 64, -1, []step{{1, 1, 1, nil, 0}, {2, 2, 2, nil, 0}, {3, 3, 3, nil, 0}, {1, 4, 4, ErrSequenceReset, 0}, {2, 5, 5, nil, 0}, {2, 5, 5, ErrDuplicateSequence, 0}},
			SequenceStats{Last: 2, Messages: 6, Duplicates: 1, Resets: 1}},
		{"restart after silence", 5, 64, 10 * time.Second, []step{{70, 1, 1, nil, 0}, {70, 1, 11, ErrDuplicateSequence, 0}, {70, 1, 22, nil, 0}, {71, 1, 22, nil, 0}},
			SequenceStats{Last: 71, Messages: 4, Duplicates: 1, Resets: 1}},
		{"duplicates do not matter", 5, 0, -1, []step{{3, 1, 1, nil, 0}, {3, 1, 1, nil, 0}, {2, 1, 1, nil, 0}, {10, 1, 1, ErrSequenceGap, 6}},
			SequenceStats{Last: 10, Messages: 4, Gaps: 1, Missed: 6, Duplicates: 2}},
		{"the largest number", 5, 64, -1, []step{{^uint64(0) - 1, 1, 1, nil, 0}, {^uint64(0), 1, 1, nil, 0}, {1, 1, 1, nil, 0}},
			SequenceStats{Last: 1, Messages: 3, Gaps: 1, Missed: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := NewSequenceTracker(test.gap, test.track, test.window)
			second := uint64(time.Second)
			for i, s := range test.steps {
				before, _ := tr.Stats(3)
				err := tr.Check(numbered(3, s.seq, s.ts*second), DomainMarketData, s.now*second)
				if !errors.Is(err, s.want) || (err == nil) != (s.want == nil) {
					t.Fatalf("step %d: %v, want %v", i, err, s.want)
				}
				var e *SequenceError
				if errors.As(err, &e) && (e.Missed() != s.missed || e.Source != 3 || e.Sequence != s.seq || e.Expected != before.Last+1 ||
					!strings.Contains(e.Error(), "source KrakenCollector") || s.missed > 0 != strings.Contains(e.Error(), "missing")) {
					t.Fatalf("step %d: %v, %+v, want %d missing", i, err, e, s.missed)
				}
			}
			if got, ok := tr.Stats(3); got != test.want || !ok {
				t.Errorf("%+v, want %+v", got, test.want)
			}
			if _, ok := tr.Stats(4); ok {
				t.Error("another source is known")
			}
			if err := tr.Check(numbered(4, 1, 1), 0, 1); err != nil {
				t.Errorf("another source: %v", err)
			}
		})
	}
}

func TestTrackerGrows(t *testing.T) {
	tr := NewSequenceTracker(100, 10_000, -1)
	m := numbered(3, 1, nowNs)
	_ = tr.Check(m, 0, nowNs)
	seq := uint64(1)
	if n := testing.AllocsPerRun(1000, func() {
		seq += 1 + seq%7
		le.PutUint64(m.bytes[offSequence:], seq)
		if err := tr.Check(m, 0, nowNs); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
