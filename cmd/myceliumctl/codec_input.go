package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// inputForms are the ways in which bytes are given; auto is the first that fits.
var inputForms = []string{"auto", "hex", "base64", "raw"}

const (
	inputPeek = 4096 // most bytes whose look tells the form
	minBase64 = 43   // digits of a header: what is shorter is taken for other text
)

// openInput returns the bytes that args name: a file, "-" or nothing for stdin,
// or else the text of a message itself. name is for errors.
func openInput(cmd *cobra.Command, args []string, form string) (r io.Reader, name string, done func(), err error) {
	done = func() {}
	switch {
	case len(args) == 0 || len(args) == 1 && args[0] == "-":
		r, name = cmd.InOrStdin(), "stdin"
	case len(args) > 1 && textForm([]byte(strings.Join(args, " "))) == "raw":
		return nil, "", done, usagef("%d arguments: want one file, - for stdin, or a message in hex or base64", len(args))
	case len(args) > 1:
		r, name = strings.NewReader(strings.Join(args, " ")), "argument"
	default:
		f, err := os.Open(args[0])
		switch {
		case err == nil:
			r, name, done = f, args[0], func() { _ = f.Close() }
		case form != "raw" && isText(err) && textForm([]byte(args[0])) != "raw":
			r, name = strings.NewReader(args[0]), "argument"
		case errors.Is(err, fs.ErrNotExist):
			if form == "raw" {
				return nil, "", done, withHint(err, "name a file, or - for stdin")
			}
			return nil, "", done, withHint(err, "INPUT is a file, - for stdin, or a message in hex or base64")
		default:
			return nil, "", done, err
		}
	}
	b := bufio.NewReaderSize(&interruptible{ctx: cmd.Context(), r: r}, inputPeek)
	if form == "auto" {
		if _, err := b.Peek(1); err != nil && err != io.EOF {
			return nil, "", done, err
		}
		head, _ := b.Peek(b.Buffered()) // what has come: a socket may wait long for more
		form = textForm(head)
	}
	switch form {
	case "hex":
		return &hexReader{r: b, name: name}, name, done, nil
	case "base64":
		return newBase64Reader(b, name), name, done, nil
	}
	return b, name, done, nil
}

// isText reports whether opening a file failed in a way in which opening a
// message's text does: there is none, or the name is too long for one.
func isText(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(err.Error(), "file name too long") || strings.HasSuffix(err.Error(), "not a directory")
}

// textForm guesses the form of an input from its first bytes.
func textForm(head []byte) string {
	hexDigits, base64Digits := true, true
	for _, word := range bytes.Fields(head) {
		digits := word
		if len(word) > 1 && word[0] == '0' && isX(word[1]) {
			digits = word[2:]
		}
		for _, c := range digits {
			hexDigits = hexDigits && unhex(c) >= 0
		}
		for _, c := range bytes.TrimRight(word, "=") {
			base64Digits = base64Digits && isBase64(c)
		}
	}
	switch {
	case hexDigits:
		return "hex"
	case base64Digits && len(head) >= minBase64:
		return "base64"
	}
	return "raw"
}

func isBase64(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("+/-_", c) >= 0
}

// unhex returns the value of a hex digit, -1 for anything else.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func isX(c byte) bool { return c == 'x' || c == 'X' }

// hexReader reads hex digits with any white space, and "0x" before each word.
type hexReader struct {
	r    *bufio.Reader
	name string
	at   int // bytes read
}

func (h *hexReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if n > 0 && h.r.Buffered() == 0 { // hand over what is there before waiting for more
			return n, nil
		}
		hi, err := h.digit(true)
		if err != nil {
			return n, err
		}
		lo, err := h.digit(false)
		if err == io.EOF {
			err = fmt.Errorf("%s: an odd number of hex digits", h.name)
		}
		if err != nil {
			return n, err
		}
		p[n] = byte(hi<<4 | lo)
		n++
	}
	return n, nil
}

func (h *hexReader) digit(first bool) (int, error) {
	for {
		c, err := h.r.ReadByte()
		if err != nil {
			return 0, err
		}
		h.at++
		v := unhex(c)
		switch {
		case v >= 0:
			if next, _ := h.r.Peek(1); first && c == '0' && len(next) == 1 && isX(next[0]) {
				_, _ = h.r.Discard(1)
				h.at++
				continue
			}
			return v, nil
		case strings.IndexByte(" \t\r\n\v\f", c) < 0:
			return 0, fmt.Errorf("%s: byte %d: %q is no hex digit", h.name, h.at-1, c)
		}
	}
}

// maxWord is the longest run of base64 digits without white space, in bytes.
const maxWord = 64 << 20

// base64Reader reads base64 in the usual and the URL's alphabet, each word by
// itself, padded or not.
type base64Reader struct {
	words *bufio.Scanner
	name  string
	at    int // words read
	rest  []byte
}

func newBase64Reader(r io.Reader, name string) *base64Reader {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxWord)
	s.Split(bufio.ScanWords)
	return &base64Reader{words: s, name: name}
}

func (b *base64Reader) Read(p []byte) (n int, err error) {
	for len(b.rest) == 0 {
		if !b.words.Scan() {
			if err := b.words.Err(); err != nil {
				return 0, fmt.Errorf("%s: word %d: %w", b.name, b.at+1, err)
			}
			return 0, io.EOF
		}
		b.at++
		word := bytes.TrimRight(b.words.Bytes(), "=")
		for i, c := range word {
			switch c {
			case '-':
				word[i] = '+'
			case '_':
				word[i] = '/'
			}
		}
		b.rest = make([]byte, base64.RawStdEncoding.DecodedLen(len(word)))
		if _, err := base64.RawStdEncoding.Decode(b.rest, word); err != nil {
			return 0, fmt.Errorf("%s: word %d: no base64: %w", b.name, b.at, err)
		}
	}
	n = copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}
