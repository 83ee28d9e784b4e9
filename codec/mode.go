package codec

// ChecksumPolicy says what Parse does with the checksum field.
type ChecksumPolicy uint8

const (
	ChecksumIgnore          ChecksumPolicy = iota // do not look at it
	ChecksumVerifyIfNonzero                       // 0 means not computed, anything else must be right
	ChecksumRequire                               // must be right; a 0 is wrong unless the checksum is 0
)

var policyNames = []string{"ignore", "verify-if-nonzero", "require"}

// String returns "ignore", "verify-if-nonzero" or "require".
func (p ChecksumPolicy) String() string { return enumName(policyNames, uint8(p)) }

// UnmarshalText takes what String returns.
func (p *ChecksumPolicy) UnmarshalText(text []byte) error {
	return parseEnum((*uint8)(p), "checksum policy", string(text), policyNames)
}

// Mode says how strictly messages are checked: whose reader to be like.
//
//	          checksum             sizes of TLVs
//	bridge    verify-if-nonzero    left to who parses payloads
//	strict    require              as the registry has them
//	relay     ignore               left to who parses payloads
type Mode uint8

const (
	// ModeBridge takes what Torq's producers send and refuses what is broken.
	ModeBridge Mode = iota
	// ModeStrict refuses what Torq's own parser refuses: also a checksum of 0, and a standard TLV
	// whose type has a fixed size in the registry and whose payload has another. That includes a
	// Quote of 56 bytes, which producers send and the registry lists as 52. Extended TLVs are not
	// size-checked.
	ModeStrict
	// ModeRelay takes what Torq's relays pass on: magic and length are right.
	ModeRelay
)

var modeNames = []string{"bridge", "strict", "relay"}

// String returns "bridge", "strict" or "relay".
func (m Mode) String() string { return enumName(modeNames, uint8(m)) }

// UnmarshalText takes "bridge", "strict" or "relay".
func (m *Mode) UnmarshalText(text []byte) error {
	return parseEnum((*uint8)(m), "mode", string(text), modeNames)
}

// Checksum returns the policy for Parse that belongs to the mode.
func (m Mode) Checksum() ChecksumPolicy {
	switch m {
	case ModeStrict:
		return ChecksumRequire
	case ModeRelay:
		return ChecksumIgnore
	}
	return ChecksumVerifyIfNonzero
}
