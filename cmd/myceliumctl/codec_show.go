package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/torq/mycelium/codec"
)

// writeMessage shows a message to people: a line for each field, with what its
// number stands for.
func (a *app) writeMessage(w io.Writer, m codec.Message, at uint64, d codec.Dialect) {
	h := m.Header()
	title := fmt.Sprintf("message of %d bytes at %d", len(m.Bytes()), at)
	if codec.IsGreeting(m.Bytes()) {
		title += ": the greeting of a producer, no data"
	}
	fmt.Fprintln(w, a.title(title))
	rows := newTable()
	rows.row("relay_domain", uint8(h.Domain), d.DomainName(h.Domain))
	rows.row("version", h.Version, versionState(h.Version))
	rows.row("source", uint8(h.Source), d.SourceName(h.Source))
	rows.row("flags", h.Flags)
	rows.row("sequence", h.Sequence)
	rows.row("timestamp", h.TimestampNs, timeOf(h.TimestampNs))
	rows.row("payload_size", h.PayloadSize)
	rows.row("checksum", fmt.Sprintf("0x%08X", h.Checksum), checksumState(m, h.Checksum))
	plain := func(s string) string { return s }
	rows.write(w, "  ", plain)

	c := m.Cursor(codec.ModeRelay)
	for c.Next() {
		t := &c.TLV
		form := "standard"
		if t.Extended {
			form = "extended"
		}
		fmt.Fprintf(w, "  %s\n", a.title(fmt.Sprintf("TLV %d %s at %d, %s, %d bytes", uint8(t.Type), t.Type, t.Offset, form, len(t.Payload))))
		rows := newTable()
		id, hasID := codec.InstrumentOf(t.Type, t.Payload)
		for name, value := range t.Fields() {
			meaning := fieldMeaning(t.Type, name, value, d)
			if name == "asset_id" && hasID {
				meaning, _ = id.Symbol()
			}
			rows.row(name, value, meaning)
		}
		if rows.Length() == 0 {
			writeHex(w, t.Payload)
			continue
		}
		rows.write(w, "    ", plain)
	}
	if err := c.Err(); err != nil {
		fmt.Fprintf(w, "  %v\n", err)
	}
}

// versionState tells a version that no producer writes and no reader of Torq's looks at.
func versionState(v uint8) string {
	if v == codec.Version {
		return ""
	}
	return fmt.Sprintf("unusual, Torq writes %d", codec.Version)
}

func checksumState(m codec.Message, stored uint32) string {
	switch sum := codec.Checksum(m.Bytes()); {
	case stored == sum:
		return "right"
	case stored == 0:
		return "not computed"
	default:
		return fmt.Sprintf("wrong, should be 0x%08X", sum)
	}
}

func timeOf(ns uint64) string {
	if ns > math.MaxInt64 {
		return ""
	}
	return rfc3339(time.Unix(0, int64(ns)))
}

// fieldMeaning is what a field's number stands for, "" where it is just a number.
func fieldMeaning(typ codec.TLVType, name, value string, d codec.Dialect) string {
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case strings.HasSuffix(name, "timestamp_ns"):
		if u, err := strconv.ParseUint(value, 10, 64); err == nil {
			return timeOf(u)
		}
	case err != nil:
	case strings.HasSuffix(name, "_e8"), strings.HasSuffix(name, "_q8"):
		return codec.FormatFixed8(n)
	case typ == codec.TypeGasPrice:
	case name == "venue", name == "venue_id", strings.HasSuffix(name, "_venue"):
		return d.VenueName(codec.VenueID(n))
	case name == "asset_type":
		return d.AssetTypeName(codec.AssetType(n))
	case name == "pool_type":
		return d.PoolTypeName(codec.PoolType(n))
	case name == "source_service", name == "service_type":
		return d.SourceName(codec.Source(n))
	case name == "reason":
		return codec.InvalidationReason(n).String()
	case name == "side" && n < 2:
		return [...]string{"buy", "sell"}[n]
	case name == "valid_until":
		return rfc3339(time.Unix(n, 0))
	}
	return ""
}

// hexRow is the bytes of an opaque payload on one line, hexRows the lines shown.
const hexRow, hexRows = 32, 64

func writeHex(w io.Writer, b []byte) {
	for i := 0; len(b) > 0; i++ {
		if i == hexRows {
			fmt.Fprintf(w, "    ... %s more (-o json shows all)\n", count(len(b), "byte", "bytes"))
			return
		}
		n := min(len(b), hexRow)
		fmt.Fprintf(w, "    %x\n", b[:n])
		b = b[n:]
	}
}
