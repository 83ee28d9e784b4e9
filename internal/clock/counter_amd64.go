package clock

// cpuid returns two registers of a CPUID leaf.
//
//go:noescape
func cpuid(leaf uint32) (eax, edx uint32)

// invariant reports whether the counter ticks at one rate in all power states.
func invariant() bool {
	const (
		highestExtended = 0x80000000
		powerManagement = 0x80000007
		invariantTSC    = 1 << 8 // in EDX
	)
	if highest, _ := cpuid(highestExtended); highest < powerManagement {
		return false
	}
	_, edx := cpuid(powerManagement)
	return edx&invariantTSC != 0
}
