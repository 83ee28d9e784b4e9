package codec

import (
	"hash/crc32"
	"runtime"
)

// Checksum computes the checksum of one message, header included, leaving
// out the field itself. It returns 0 if msg is shorter than a header.
func Checksum(msg []byte) uint32 {
	if len(msg) < HeaderSize {
		return 0
	}
	return update(update(0, msg[:offChecksum]), msg[HeaderSize:])
}

// vectorBytes is from where on the standard library has better than tables on
// amd64: what is shorter it takes 8 bytes at a time, update takes 16.
const vectorBytes = 64

// update is crc32.Update with IEEETable.
func update(sum uint32, p []byte) uint32 {
	if len(p) >= vectorBytes || runtime.GOARCH == "arm64" { // which has an instruction
		return crc32.Update(sum, crc32.IEEETable, p)
	}
	return tableCRC(sum, p)
}

// sliced[i][b] is the CRC of byte b followed by i zero bytes, for looking up
// 16 bytes at a time that do not depend on each other.
var sliced = func() (t [16]crc32.Table) {
	t[0] = *crc32.IEEETable
	for i := 1; i < len(t); i++ {
		for b := range t[i] {
			before := t[i-1][b]
			t[i][b] = t[0][byte(before)] ^ before>>8
		}
	}
	return t
}()

// tableCRC is update by tables alone.
func tableCRC(sum uint32, p []byte) uint32 {
	crc := ^sum
	t := &sliced
	for len(p) >= 16 {
		a, b := le.Uint64(p)^uint64(crc), le.Uint64(p[8:])
		crc = t[15][byte(a)] ^ t[14][byte(a>>8)] ^ t[13][byte(a>>16)] ^ t[12][byte(a>>24)] ^
			t[11][byte(a>>32)] ^ t[10][byte(a>>40)] ^ t[9][byte(a>>48)] ^ t[8][byte(a>>56)] ^
			t[7][byte(b)] ^ t[6][byte(b>>8)] ^ t[5][byte(b>>16)] ^ t[4][byte(b>>24)] ^
			t[3][byte(b>>32)] ^ t[2][byte(b>>40)] ^ t[1][byte(b>>48)] ^ t[0][byte(b>>56)]
		p = p[16:]
	}
	if len(p) >= 8 {
		a := le.Uint64(p) ^ uint64(crc)
		crc = t[7][byte(a)] ^ t[6][byte(a>>8)] ^ t[5][byte(a>>16)] ^ t[4][byte(a>>24)] ^
			t[3][byte(a>>32)] ^ t[2][byte(a>>40)] ^ t[1][byte(a>>48)] ^ t[0][byte(a>>56)]
		p = p[8:]
	}
	if len(p) >= 4 {
		a := le.Uint32(p) ^ crc
		crc = t[3][byte(a)] ^ t[2][byte(a>>8)] ^ t[1][byte(a>>16)] ^ t[0][byte(a>>24)]
		p = p[4:]
	}
	for _, c := range p {
		crc = t[0][byte(crc)^c] ^ crc>>8
	}
	return ^crc
}
