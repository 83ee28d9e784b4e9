package codec

import "bytes"

// DefaultMaxPayload is the largest payload_size that a Splitter believes, in
// bytes, unless its options say otherwise.
const DefaultMaxPayload = 1 << 20

// SplitterOptions of NewSplitter; the zero value is the default.
type SplitterOptions struct {
	MaxPayload uint32 `toml:"max_payload"` // bytes of TLVs in a message; 0 = DefaultMaxPayload
}

// Splitter cuts a byte stream into messages. Torq's sockets carry messages back
// to back without any framing of their own, so a message's end is known from
// its header only.
//
//	                 magic, payload_size <= cap
//	        +------+ -------------------------> a message, then the byte after it
//	start ->| step |
//	        +------+ <-----------------------+
//	           | anything else               | magic, payload_size <= cap and version 1
//	           v                             |
//	        +------+ ------------------------+
//	        | lost | ----> one byte further: skipped
//	        +------+
//
// In step any version is taken; who is lost wants version 1 too, since the
// bytes of the magic may stand in a payload. Of a header or a message that is
// not complete the splitter waits for the rest: nothing is decided early, and
// how the stream was cut into reads changes nothing.
//
//	for {
//		n, err := conn.Read(s.Room(64 << 10))
//		s.Filled(n)
//		for p, ok := s.Next(); ok; p, ok = s.Next() {
//			use(p)
//		}
//		if err != nil { ... } // s.Pending() bytes were not complete
//	}
//
// The buffer holds at most one message that is not complete, and what one read
// added; it grows with the bytes that have arrived, never by what a header
// says. Once grown it is kept: nothing is allocated after that. A Splitter is
// for one goroutine at a time.
type Splitter struct {
	max        uint32
	buf        []byte
	start, end int    // of what is not cut yet, in buf
	offset     uint64 // of buf[start] in the stream
	lost       bool
	why        error // for which it is lost
	stats      SplitterStats
}

// SplitterStats are what a Splitter has cut so far.
type SplitterStats struct {
	Messages     uint64
	MessageBytes uint64
	Skips        uint64 // times it was lost
	SkippedBytes uint64
}

// Piece is a message or bytes that were skipped.
type Piece struct {
	Offset  uint64 // of the first byte in the stream
	Message []byte // a whole message, valid until the next Room, Write or Reset; nil if bytes were skipped
	Skipped int    // bytes
	Reason  error  // of a skip: ErrInvalidMagic, ErrPayloadTooLarge or ErrUnsupportedVersion, of its first byte
}

// NewSplitter returns a Splitter at the start of a stream.
func NewSplitter(o SplitterOptions) *Splitter {
	s := &Splitter{max: o.MaxPayload}
	if s.max == 0 {
		s.max = DefaultMaxPayload
	}
	return s
}

// Reset makes ready for another stream and keeps the buffer.
func (s *Splitter) Reset() { *s = Splitter{max: s.max, buf: s.buf} }

// Stats returns what was cut so far.
func (s *Splitter) Stats() SplitterStats { return s.stats }

// Pending returns the bytes that wait for more: the end of a stream that stops
// inside a message.
func (s *Splitter) Pending() int { return s.end - s.start }

// Room returns at least n bytes to read into; Filled says how many were.
func (s *Splitter) Room(n int) []byte {
	if s.start == s.end {
		s.start, s.end = 0, 0
	}
	if len(s.buf)-s.end < n {
		buf := s.buf
		if size := s.Pending() + n; size > len(buf)/2 { // half stays free, so that moving is rare
			buf = make([]byte, 2*size)
		}
		s.end = copy(buf, s.buf[s.start:s.end])
		s.start, s.buf = 0, buf
	}
	return s.buf[s.end:]
}

// Filled takes the first n bytes of the last Room.
func (s *Splitter) Filled(n int) { s.end += n }

// Write takes a copy of b. It never fails.
func (s *Splitter) Write(b []byte) (int, error) {
	s.Filled(copy(s.Room(len(b)), b))
	return len(b), nil
}

// Next returns the next piece; ok is false if more bytes are needed.
func (s *Splitter) Next() (p Piece, ok bool) {
	for skipped := 0; ; {
		rest := s.buf[s.start:s.end]
		if s.lost {
			n := bytes.IndexByte(rest[skipped:], Magic&0xFF)
			if n < 0 {
				return s.skip(len(rest))
			}
			skipped += n
		}
		n, reason := s.look(rest[skipped:])
		switch {
		case reason != nil:
			if !s.lost {
				s.lost, s.why = true, reason
				s.stats.Skips++
			}
			skipped++
		case skipped > 0 || n == 0:
			return s.skip(skipped) // what comes next is a message, or may become one
		default:
			s.lost = false
			p = Piece{Offset: s.offset, Message: rest[:n:n]}
			s.stats.Messages++
			s.stats.MessageBytes += uint64(n)
			s.advance(n)
			return p, true
		}
	}
}

// look judges whether a message starts at rest: its length, or 0 if that takes
// more bytes, or why there is none.
func (s *Splitter) look(rest []byte) (n int, reason error) {
	if len(rest) < HeaderSize {
		if !bytes.HasPrefix(magicBytes[:], rest[:min(len(rest), len(magicBytes))]) {
			return 0, ErrInvalidMagic
		}
		return 0, nil
	}
	size := le.Uint32(rest[offPayloadSize:])
	switch {
	case le.Uint32(rest) != Magic:
		return 0, ErrInvalidMagic
	case size > s.max:
		return 0, ErrPayloadTooLarge
	case s.lost && rest[offVersion] != Version:
		return 0, ErrUnsupportedVersion
	case uint64(len(rest)) < HeaderSize+uint64(size):
		return 0, nil
	}
	return HeaderSize + int(size), nil
}

var magicBytes = [4]byte{Magic & 0xFF, Magic >> 8 & 0xFF, Magic >> 16 & 0xFF, Magic >> 24}

func (s *Splitter) skip(n int) (p Piece, ok bool) {
	if n == 0 {
		return Piece{}, false
	}
	p = Piece{Offset: s.offset, Skipped: n, Reason: s.why}
	s.stats.SkippedBytes += uint64(n)
	s.advance(n)
	return p, true
}

func (s *Splitter) advance(n int) {
	s.start += n
	s.offset += uint64(n)
}

// greeting is what Torq's RelayOutput writes after every connect, whatever the relay.
var greeting = [HeaderSize]byte{0xEF, 0xBE, 0xAD, 0xDE, 1, 1, 2}

// IsGreeting reports whether msg is what Torq's producers write after they have
// connected: a header without payload that is no data.
func IsGreeting(msg []byte) bool { return bytes.Equal(msg, greeting[:]) }
