// Package codec reads and writes Torq Protocol V2 messages.
//
// # Message
//
// A message is one 32-byte header followed by TLVs, back to back, with no
// alignment, padding, terminator or trailer. All integers are little-endian.
//
//	 0        4   5   6   7   8               16              24      28      32
//	+--------+---+---+---+---+---------------+---------------+-------+-------+----------
//	| magic  |dom|ver|src|flg| sequence      | timestamp ns  |payload|check- | TLVs ...
//	|        |   |   |   |   |               |               |size   |sum    |
//	+--------+---+---+---+---+---------------+---------------+-------+-------+----------
//	 EF BE AD DE                                             = bytes from 32 to the end
//
// The checksum is CRC-32 (IEEE) over bytes 0..27 and 32..end: its own four
// bytes are left out, not replaced by zeros. Torq's collectors leave the field
// at 0 ("not computed"), hence the three policies of [ChecksumPolicy].
//
// # TLV
//
//	standard, payload 0..255 bytes         extended, payload 0..65535 bytes
//	 0      1      2                        0      1      2      3         5
//	+------+------+-----------+            +------+------+------+---------+-----------+
//	| type | L    | L bytes   |            | 0xFF | 0x00 | type | L (u16) | L bytes   |
//	+------+------+-----------+            +------+------+------+---------+-----------+
//
// The extended form is accepted at any length and written only where the
// standard form cannot hold the payload. Unknown types pass with any length.
//
// # Reading and writing
//
// [Parse] checks the header and yields a [Message], a view over the caller's
// bytes; [Message.Cursor] and [Message.TLVs] walk its TLVs in a [Mode]. For
// every payload with a known layout there is a struct, from [Trade] to
// [RecoveryRequest], whose Parse copies a payload out and whose Put writes it;
// all other payloads are bytes. [Builder] writes a message straight into the
// caller's bytes, such as those of a claim. None of them allocates unless it
// fails.
//
// Parse takes exactly one message: a byte stream is cut by a [Splitter] first,
// since a message has no end but the one that its header tells, and the
// checksum covers whatever the slice holds. Every length is read once and
// checked against the slice before use, so bytes that change under a Message
// (an in-place view of a ring) can give wrong values but never a panic.
// A Cursor, Builder, Splitter or Validator is for one goroutine at a time; all
// else is safe for concurrent use.
//
// What sizes, ages and sequences are right is a matter of policy and apart from
// all that: a [Validator] applies one [Check] after the other, as [Limits] ask.
//
// # One table
//
// [TLVType.Info] tells everything that is known of a type, from one table: its
// name, the domain of its number, the sizes that Torq's registry gives it, and
// the fields of its payload. [Message.AppendJSON] and [AppendMessage] read and
// write JSON by those fields, and the structs are tested against them.
//
// # Dialects
//
// Torq numbers domains, sources, venues and asset types in two ways, and a
// header does not tell which. The constants here follow its "types" library, as
// all of its producers do (MarketData 0, Coinbase 2, Kraken 3); a [Dialect]
// translates. Numbers that have no name are carried unchanged.
//
// # Coinbase
//
// A Coinbase match becomes a Trade with domain [DomainMarketData], source
// [SourceCoinbase] and checksum 0. Its instrument is [CoinbaseInstrument]: a
// coin on [VenueCoinbase] whose symbol is the whole product id with '-'
// written as '/' ("BTC-USD" gives "BTC/USD"), cut to 8 bytes as every symbol
// is. Price and size are [ParseFixed8] of the decimal text, the side is the
// match's own ("buy" gives [SideBuy]), the execution time is the match's time
// in nanoseconds since the Unix epoch.
package codec
