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

// Mode says how strictly messages are checked: whose reader to be like. All
// modes check that TLVs stay inside the message.
//
//	          checksum             payload of a standard TLV whose type has a fixed size
//	bridge    verify-if-nonzero    that size, or that of its layout
//	strict    require              that size
//	relay     ignore               any
//
// The one type whose fixed size and layout differ is Quote, and QuoteUpdate:
// 52 bytes in the registry, 56 from all producers. Extended TLVs and types
// without a fixed size may have any size in every mode.
type Mode uint8

const (
	ModeBridge Mode = iota // takes what Torq's producers send and refuses what is broken
	ModeStrict             // refuses what Torq's own parser refuses
	ModeRelay              // takes what Torq's relays pass on
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
