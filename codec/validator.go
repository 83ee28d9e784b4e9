package codec

import (
	"errors"
	"time"
)

// Check is one rule about whole messages. Check is called with a message that
// Parse has accepted, the domain that it came in on and the time in nanoseconds
// since the Unix epoch; it returns nil, or an error that says what is wrong and
// with which numbers. It refers to nothing of the message afterwards.
type Check interface {
	Check(m Message, d Domain, nowNs uint64) error
}

// Validator applies checks one after the other. It does no I/O and asks no
// clock. What to do with a message that fails is the caller's matter.
type Validator struct {
	checks []Check
}

// NewValidator makes the checks that limits ask for, and adds more after them.
// With limits it is for one goroutine at a time, since it tracks sequences.
func NewValidator(limits Limits, more ...Check) (*Validator, error) {
	if err := limits.Validate(); err != nil {
		return nil, err
	}
	l := limits.WithDefaults()
	v := &Validator{checks: []Check{l.size()}}
	if l.Clock == ClockEnforce {
		v.checks = append(v.checks, ClockLimits{l.MaxDrift, l.MaxAge})
	}
	if l.MaxSequenceGap >= 0 || l.TrackedSequences > 0 {
		v.checks = append(v.checks, NewSequenceTracker(l.MaxSequenceGap, l.TrackedSequences, l.DuplicateWindow))
	}
	v.checks = append(v.checks, more...)
	return v, nil
}

// Validate returns nil if every check is content, else the one error or all of
// them joined: test with errors.Is. It allocates only for errors.
func (v *Validator) Validate(m Message, d Domain, nowNs uint64) error {
	var all error
	for _, c := range v.checks {
		if err := c.Check(m, d, nowNs); err != nil {
			if all == nil {
				all = err
			} else {
				all = errors.Join(all, err)
			}
		}
	}
	return all
}

// Reasons for which checks find fault, beside those of Parse and Cursor.
var (
	ErrTimestampInFuture   = errors.New("TimestampInFuture")
	ErrTimestampTooOld     = errors.New("TimestampTooOld")
	ErrUnknownSource       = errors.New("UnknownSource")
	ErrRelayDomainMismatch = errors.New("RelayDomainMismatch")
)

// SizeLimits are the bytes of TLVs that a message of a domain may have, -1 =
// any. A message of DomainNone may have as many as the largest domain.
type SizeLimits struct {
	MarketData, Signal, Execution, System int
}

// Of returns the limit of a domain, -1 = none.
func (s SizeLimits) Of(d Domain) int {
	switch d {
	case DomainMarketData:
		return s.MarketData
	case DomainSignal:
		return s.Signal
	case DomainExecution:
		return s.Execution
	case DomainSystem:
		return s.System
	}
	if min(s.MarketData, s.Signal, s.Execution, s.System) < 0 {
		return -1
	}
	return max(s.MarketData, s.Signal, s.Execution, s.System)
}

// Check returns an *Error with ErrPayloadTooLarge.
func (s SizeLimits) Check(m Message, d Domain, _ uint64) error {
	got := len(m.bytes) - HeaderSize
	if want := s.Of(d); want >= 0 && got > want {
		return &Error{Reason: ErrPayloadTooLarge, Offset: offPayloadSize, Got: uint64(got), Want: uint64(want)}
	}
	return nil
}

// ClockLimits are how far a header's timestamp may be from now.
type ClockLimits struct {
	MaxDrift time.Duration // into the future; negative = any
	MaxAge   time.Duration // into the past; negative = any
}

// Check returns an *Error with ErrTimestampInFuture or ErrTimestampTooOld, its
// numbers being nanoseconds since the Unix epoch: the timestamp, and the last or
// first that would be right.
func (c ClockLimits) Check(m Message, _ Domain, nowNs uint64) error {
	at := m.Header().TimestampNs
	switch {
	case at > nowNs && c.MaxDrift >= 0 && at-nowNs > uint64(c.MaxDrift):
		return &Error{Reason: ErrTimestampInFuture, Offset: offTimestamp, Got: at, Want: nowNs + uint64(c.MaxDrift)}
	case at < nowNs && c.MaxAge >= 0 && nowNs-at > uint64(c.MaxAge):
		return &Error{Reason: ErrTimestampTooOld, Offset: offTimestamp, Got: at, Want: nowNs - uint64(c.MaxAge)}
	}
	return nil
}

// KnownHeader wants the version to be Version, the source to have a name in the
// dialect, and the header's domain to be the one that the message came in on
// unless that is DomainNone. Torq's own producers fail it now and then (see
// StateInvalidation): it is for looking into things rather than for refusing.
type KnownHeader struct {
	Dialect Dialect
}

// Check returns an *Error with ErrUnsupportedVersion, ErrUnknownSource or ErrRelayDomainMismatch.
func (k KnownHeader) Check(m Message, d Domain, _ uint64) error {
	h := m.Header()
	if h.Version != Version {
		return &Error{Reason: ErrUnsupportedVersion, Offset: offVersion, Got: uint64(h.Version), Want: Version}
	}
	if _, ok := k.Dialect.Source(h.Source); !ok {
		return &Error{Reason: ErrUnknownSource, Offset: offSource, Got: uint64(h.Source)}
	}
	if want, _ := k.Dialect.WireDomain(d); d != DomainNone && h.Domain != want {
		return &Error{Reason: ErrRelayDomainMismatch, Offset: offDomain, Got: uint64(h.Domain), Want: uint64(want)}
	}
	return nil
}

// TLVs walks the TLVs of a message in a mode.
type TLVs struct {
	Mode Mode
}

// Check returns what Cursor.Err would.
func (t TLVs) Check(m Message, _ Domain, _ uint64) error {
	c := m.Cursor(t.Mode)
	for c.Next() {
	}
	return c.Err()
}
