package config

import (
	"fmt"
	"strconv"
	"strings"
)

// The TOML decoder does not tell where a key stands. scan walks the text a second time
// and notes it. It reads valid TOML exactly and anything else loosely: what it notes is
// used only after the decoder has accepted the text.

// maxPathBytes bounds the path of any key or array element, and with it how deeply they
// nest and how much memory they take. The longest valid path is much shorter.
const maxPathBytes = 255

// A span is where a key and its value begin.
type span struct{ key, val place }

// A spanMap has one span per key, array element and table, by path: "registry.socket",
// "topic[0].publish[1]". Parts that are not bare keys are quoted.
type spanMap map[string]span

// at returns the place of the value at path, or of its key, or of the nearest parent.
func (m spanMap) at(path string, value bool) place {
	for path != "" {
		if s, ok := m[path]; ok {
			if value && s.val.line > 0 {
				return s.val
			}
			return s.key
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return place{line: 1, col: 1}
}

// placeOf returns the place of a byte of the text.
func placeOf(text string, i int) place {
	before := text[:min(max(i, 0), len(text))]
	return place{line: 1 + strings.Count(before, "\n"), col: len(before) - strings.LastIndexByte(before, '\n')}
}

func joinPath(parent, name string) string {
	if name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		name = strconv.Quote(name)
	}
	if parent == "" {
		return name
	}
	return parent + "." + name
}

func indexPath(parent string, i int) string { return parent + "[" + strconv.Itoa(i) + "]" }

type scanner struct {
	text  string
	i     int // next byte
	line  int // of text[i], from 1
	bol   int // index of the first byte of that line
	spans spanMap
	array map[string]int // elements of each array of tables so far
	stop  *Problem       // why the scan ended early
}

// scan returns the places of all keys, and a problem if one is too long or nested too
// deeply: then the text must not go to the decoder, whose stack and memory have no bound.
func scan(text string) (spanMap, *Problem) {
	s := &scanner{text: text, line: 1, spans: make(spanMap), array: make(map[string]int)}
	table := ""
	for s.blank(true); s.more(); s.blank(true) {
		if s.text[s.i] == '[' {
			table = s.header()
		} else {
			s.keyValue(table)
		}
	}
	if s.stop != nil && s.stop.Msg == "" {
		return s.spans, nil
	}
	return s.spans, s.stop
}

func (s *scanner) more() bool { return s.stop == nil && s.i < len(s.text) }

func (s *scanner) here() place { return place{line: s.line, col: s.i - s.bol + 1} }

func (s *scanner) next(prefix string) bool { return strings.HasPrefix(s.text[s.i:], prefix) }

// halt ends the scan. Without a message the decoder will have one.
func (s *scanner) halt(at place, msg string) {
	if s.stop == nil {
		s.stop = &Problem{Line: at.line, Col: at.col, Msg: msg}
	}
}

func (s *scanner) skip(n int) {
	for ; n > 0; n-- {
		if s.text[s.i] == '\n' {
			s.line, s.bol = s.line+1, s.i+1
		}
		s.i++
	}
}

// blank skips spaces and comments, and line ends if asked to.
func (s *scanner) blank(lines bool) {
	for s.more() {
		switch c := s.text[s.i]; {
		case c == ' ', c == '\t', lines && (c == '\n' || c == '\r'):
			s.skip(1)
		case c == '#':
			s.until("\n")
		default:
			return
		}
	}
}

// until skips to the first byte of the set, or to the end.
func (s *scanner) until(set string) {
	n := strings.IndexAny(s.text[s.i:], set)
	if n < 0 {
		n = len(s.text) - s.i
	}
	s.skip(n)
}

// header reads [a.b] or [[a.b]] and returns the path of the table that it opens.
func (s *scanner) header() string {
	double, end := s.next("[["), "]"
	if double {
		end = "]]"
	}
	s.skip(len(end))
	path := ""
	names, places := s.key()
	for n, name := range names {
		path = joinPath(path, name)
		if !s.enter(path, places[n]) {
			return ""
		}
		if count := s.array[path]; double && n == len(names)-1 {
			s.array[path]++
			path = indexPath(path, count)
			s.enter(path, places[n])
		} else if count > 0 {
			path = indexPath(path, count-1)
		}
	}
	if !s.next(end) {
		s.halt(s.here(), "")
		return ""
	}
	s.skip(len(end))
	return path
}

// enter notes where the key of a path stands, unless it is known already.
func (s *scanner) enter(path string, key place) bool {
	if len(path) > maxPathBytes {
		s.halt(key, fmt.Sprintf("%q... is too long or nested too deeply: its path has more than %d bytes", path[:32], maxPathBytes))
		return false
	}
	if _, ok := s.spans[path]; !ok {
		s.spans[path] = span{key: key}
	}
	return true
}

// keyValue reads one "key = value" of the table.
func (s *scanner) keyValue(table string) {
	path := table
	names, places := s.key()
	for n, name := range names {
		path = joinPath(path, name)
		if !s.enter(path, places[n]) {
			return
		}
	}
	if !s.next("=") {
		s.halt(s.here(), "")
		return
	}
	s.skip(1)
	s.blank(false)
	s.value(path)
}

// key reads a dotted key and the blanks after it.
func (s *scanner) key() (names []string, places []place) {
	for s.more() {
		s.blank(false)
		at, start := s.here(), s.i
		var name string
		if s.next(`"`) || s.next(`'`) {
			s.quoted()
			name = s.text[start:s.i]
			if n, err := strconv.Unquote(name); err == nil && name[0] == '"' {
				name = n
			} else if len(name) > 1 {
				name = name[1 : len(name)-1]
			}
		} else {
			s.until("=.[]{},#\"' \t\r\n")
			name = s.text[start:s.i]
		}
		names, places = append(names, name), append(places, at)
		s.blank(false)
		if !s.next(".") {
			break
		}
		s.skip(1)
	}
	return names, places
}

// value reads one value, and notes the places within arrays and inline tables.
func (s *scanner) value(path string) {
	at := s.here()
	if !s.enter(path, at) { // an array element has no key of its own
		return
	}
	s.spans[path] = span{key: s.spans[path].key, val: at}
	switch {
	case s.next(`"`), s.next(`'`):
		s.quoted()
	case s.next("["):
		s.list("]", func(i int) { s.value(indexPath(path, i)) })
	case s.next("{"):
		s.list("}", func(int) { s.keyValue(path) })
	default:
		start := s.i
		s.until(",]}#\r\n")
		if s.i == start {
			s.halt(s.here(), "")
		}
	}
}

// list reads items between brackets, separated by commas.
func (s *scanner) list(end string, item func(i int)) {
	s.skip(1)
	for i := 0; ; i++ {
		s.blank(true)
		if !s.more() || s.next(end) {
			break
		}
		item(i)
		s.blank(true)
		if s.next(",") {
			s.skip(1)
		} else if !s.next(end) {
			s.halt(s.here(), "")
		}
	}
	if s.more() {
		s.skip(1)
	}
}

// quoted skips a string of any of the four kinds.
func (s *scanner) quoted() {
	quote := s.text[s.i : s.i+1]
	if triple := strings.Repeat(quote, 3); s.next(triple) {
		quote = triple
	}
	s.skip(len(quote))
	for s.more() && !s.next(quote) {
		if s.next(`\`) && quote[0] == '"' && s.i+1 < len(s.text) {
			s.skip(1)
		}
		s.skip(1)
	}
	if !s.more() {
		s.halt(s.here(), "")
		return
	}
	s.skip(len(quote))
	for n := 0; n < 2 && len(quote) == 3 && s.next(quote[:1]); n++ {
		s.skip(1) // up to two quotes may precede the closing three
	}
}
