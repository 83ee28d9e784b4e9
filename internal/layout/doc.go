// Package layout is the one home of every offset and number in a Mycelium
// segment. It does no I/O: it encodes and checks headers over byte slices and
// names the positions that package shm, the directory and the tools read.
//
// A bus directory holds two kinds of segment, both little-endian, every field
// naturally aligned:
//
//	lane file   16 KiB header + ring      written by one publisher
//	cursor file  4 KiB header + slots     written by one subscriber
//
// docs/layout.md is the normative description, exact enough to write a reader
// in another language. A change of any number here is a new layout version.
//
// # Lane file
//
//	0x0000 +----------------------------+  page 0: immutable once Ready is stored
//	       | identity, geometry, names  |
//	0x03FC | CRC32C of [0,0x3FC)        |
//	0x0400 | ready                      |
//	0x1000 +----------------------------+  page 1: words the publisher changes
//	       | intent          (own line) |
//	0x1080 | tail hint: pos, seq        |
//	0x1100 | beat cell                  |
//	0x1140 | state, pid, start ticks    |
//	0x1180 | wake sequence   (futex)    |
//	0x1200 | metrics cell               |
//	0x2000 +----------------------------+
//	       | 128 eviction notices, 32 B |
//	0x3000 +----------------------------+
//	       | 256 index entries, 16 B    |
//	0x4000 +----------------------------+
//	       | ring[cap]                  |
//	       +----------------------------+
//
// # Cursor file
//
//	0x0000 +----------------------------+  immutable once Ready is stored
//	       | identity, pattern, name    |
//	0x03FC | CRC32C of [0,0x3FC)        |
//	0x0400 | ready                      |
//	0x0480 | sleeping        (own line) |
//	0x0500 | kick sequence   (futex)    |
//	0x0580 | beat cell                  |
//	0x0600 | metrics cell               |
//	0x1000 +----------------------------+
//	       | slot[lane number], 32 B    |
//	       +----------------------------+
//
// # Frame
//
//	0       8     12    14    15   16      24      32
//	+-------+-----+-----+-----+----+-------+-------+----------+
//	|commit | len |type |flags|hops|  seq  | ts ns | payload  | 0..31 pad
//	+-------+-----+-----+-----+----+-------+-------+----------+
//	commit = pos | kind<<1 | 1
package layout
