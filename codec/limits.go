package codec

import (
	"fmt"
	"time"
)

// Limits configure a Validator; they decode from TOML as they are. What is 0
// comes from the preset, so that the zero value is Torq's default:
//
//	                                  default    production    development
//	max_payload_market_data, bytes    4096       2048          8192
//	max_payload_signal                8192       4096          16384
//	max_payload_execution             16384      8192          32768
//	max_payload_system                32768      16384         65536
//	clock                             enforce    enforce       off
//	max_drift                         5s         2s            30s
//	max_age                           60s        30s           300s
//	max_sequence_gap                  100        50            1000
//	duplicate_window                  300s       600s          -
//	tracked_sequences                 10000      50000         -
//
// -1 (for a duration "-1ns") stands for no limit.
type Limits struct {
	Preset               Preset        `toml:"preset"`
	MaxPayloadMarketData int           `toml:"max_payload_market_data"` // bytes of TLVs
	MaxPayloadSignal     int           `toml:"max_payload_signal"`
	MaxPayloadExecution  int           `toml:"max_payload_execution"`
	MaxPayloadSystem     int           `toml:"max_payload_system"`
	Clock                ClockRule     `toml:"clock"`
	MaxDrift             time.Duration `toml:"max_drift"`         // of a timestamp into the future
	MaxAge               time.Duration `toml:"max_age"`           // of a timestamp
	MaxSequenceGap       int64         `toml:"max_sequence_gap"`  // missing sequences that are no fault
	DuplicateWindow      time.Duration `toml:"duplicate_window"`  // silence of a source after which it may begin anew
	TrackedSequences     int           `toml:"tracked_sequences"` // remembered of each source to tell duplicates
}

// Preset names a set of limits.
type Preset uint8

const (
	PresetDefault Preset = iota
	PresetProduction
	PresetDevelopment
)

var presetNames = []string{"default", "production", "development"}

// String returns "default", "production" or "development".
func (p Preset) String() string { return enumName(presetNames, uint8(p)) }

// UnmarshalText takes "default", "production" or "development".
func (p *Preset) UnmarshalText(text []byte) error {
	return parseEnum((*uint8)(p), "preset", string(text), presetNames)
}

// ClockRule says whether timestamps are checked.
type ClockRule uint8

const (
	ClockPreset ClockRule = iota // as the preset has it
	ClockEnforce
	ClockOff
)

var clockNames = []string{"preset", "enforce", "off"}

// String returns "preset", "enforce" or "off".
func (c ClockRule) String() string { return enumName(clockNames, uint8(c)) }

// UnmarshalText takes "preset", "enforce" or "off".
func (c *ClockRule) UnmarshalText(text []byte) error {
	return parseEnum((*uint8)(c), "clock", string(text), clockNames)
}

var presets = [...]Limits{
	PresetDefault: {PresetDefault, 4096, 8192, 16384, 32768, ClockEnforce, 5 * time.Second, time.Minute,
		100, 5 * time.Minute, 10_000},
	PresetProduction: {PresetProduction, 2048, 4096, 8192, 16384, ClockEnforce, 2 * time.Second, 30 * time.Second,
		50, 10 * time.Minute, 50_000},
	PresetDevelopment: {PresetDevelopment, 8192, 16384, 32768, 65536, ClockOff, 30 * time.Second, 5 * time.Minute,
		1000, -1, -1},
}

// maxTracked keeps the memory of a tracker below 32 MiB.
const maxTracked = 1 << 20

// Validate reports what makes no sense.
func (l Limits) Validate() error {
	switch {
	case int(l.Preset) >= len(presets):
		return fmt.Errorf("codec: limits: preset %v: want %v", l.Preset, presetNames)
	case int(l.Clock) >= len(clockNames):
		return fmt.Errorf("codec: limits: clock %v: want %v", l.Clock, clockNames)
	case l.TrackedSequences > maxTracked:
		return fmt.Errorf("codec: limits: tracked_sequences %d: at most %d are possible", l.TrackedSequences, maxTracked)
	}
	return nil
}

// WithDefaults returns l with what is 0 taken from the preset.
func (l Limits) WithDefaults() Limits {
	p := presets[l.Preset]
	or(&l.MaxPayloadMarketData, p.MaxPayloadMarketData)
	or(&l.MaxPayloadSignal, p.MaxPayloadSignal)
	or(&l.MaxPayloadExecution, p.MaxPayloadExecution)
	or(&l.MaxPayloadSystem, p.MaxPayloadSystem)
	or(&l.Clock, p.Clock)
	or(&l.MaxDrift, p.MaxDrift)
	or(&l.MaxAge, p.MaxAge)
	or(&l.MaxSequenceGap, p.MaxSequenceGap)
	or(&l.DuplicateWindow, p.DuplicateWindow)
	or(&l.TrackedSequences, p.TrackedSequences)
	return l
}

func or[T comparable](v *T, builtin T) {
	if *v == *new(T) {
		*v = builtin
	}
}

func (l Limits) size() SizeLimits {
	return SizeLimits{l.MaxPayloadMarketData, l.MaxPayloadSignal, l.MaxPayloadExecution, l.MaxPayloadSystem}
}
