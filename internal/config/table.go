package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/torq/mycelium/internal/topic"
)

// Other programs describe their files with the same tables of keys, and get the
// same errors with line and column.

// Key is one row of a table: all that is known about one key of a T.
type Key[T any] = key[T]

// Kind is a type of value.
type Kind[V any] = kind[V]

// NewKey makes a row for the field that at points to; defaults holds its default.
func NewKey[T, V any](name string, k Kind[V], defaults *T, at func(*T) *V, doc string) Key[T] {
	return newKey(name, k, defaults, at, doc)
}

// DefaultsTo describes a default that depends on other things, or that there is none.
func (k key[T]) DefaultsTo(phrase string) key[T] { return k.defaultsTo(phrase) }

// Durations are durations from lo to hi.
func Durations(lo, hi time.Duration) Kind[time.Duration] { return durations(lo, hi) }

// Counts are integers from lo to hi.
func Counts(lo, hi int) Kind[int] { return counts(lo, hi) }

// Sizes are sizes in bytes from lo to hi.
func Sizes(lo, hi uint64) Kind[uint64] { return sizes(lo, hi) }

// OneOf is one of these words.
func OneOf[V ~string](words ...V) Kind[V] { return oneOf(words...) }

// SocketPath is an absolute path for a Unix socket.
func SocketPath() Kind[string] { return absPath(maxSocketBytes) }

// Switches are booleans whose default is true: the field holds the opposite.
func Switches() Kind[bool] { return negated }

// Names are topic names, without wildcards.
func Names() Kind[string] {
	return kind[string]{"topic", parseString, func(s string) []fault {
		if err := topic.Check(s); err != nil {
			return faultf("%v", err)
		}
		return nil
	}, strconv.Quote}
}

// Patterns are topic names or patterns.
func Patterns() Kind[string] { return topicName }

// Texts are strings that check accepts; nil = any.
func Texts(check func(string) error) Kind[string] {
	return kind[string]{"string", parseString, func(s string) []fault {
		if check != nil {
			if err := check(s); err != nil {
				return faultf("%v", err)
			}
		}
		return nil
	}, strconv.Quote}
}

// PatternLists are arrays of topic names or patterns.
func PatternLists() Kind[[]string] {
	return kind[[]string]{"array of topics or patterns", func(v any) ([]string, []fault) {
		values, ok := v.([]any)
		if !ok {
			return nil, typeFault(`an array of topics or patterns, as in ["market.>"]`, v)
		}
		list, fs := []string{}, []fault(nil)
		for i, v := range values {
			s, bad := parseString(v)
			if bad == nil {
				bad = topicName.check(s)
			}
			if bad != nil {
				bad[0].sub = indexPath("", i)
				fs = append(fs, bad...)
				continue
			}
			list = append(list, s)
		}
		return list, fs
	}, nil, func(l []string) string {
		quoted := make([]string, len(l))
		for i, s := range l {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}}
}

// Fill stores the default in every zero field of t.
func Fill[T any](keys []Key[T], t *T) {
	for _, k := range keys {
		if k.isZero(t) {
			k.fill(t)
		}
	}
}

// Document describes a table of keys in Markdown.
func Document[T any](keys []Key[T]) string {
	var b strings.Builder
	b.WriteString("| Key | Type | Default | Meaning |\n|---|---|---|---|\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.name, k.typ, k.builtin, k.doc)
	}
	return b.String()
}

// Table is one table of a file, and where its values go.
type Table struct {
	name   string
	keys   []string
	decode func(l *loader, v any, at place)
}

// One is the table [name].
func One[T any](name string, keys []Key[T], into *T) Table {
	return Table{name, names(keys), func(l *loader, v any, at place) {
		table, ok := v.(map[string]any)
		if !ok {
			l.add(name, at, name+": "+typeFault(fmt.Sprintf("a table: write [%s]", name), v)[0].msg, "")
			return
		}
		decodeTable(l, name, name, table, keys, into)
	}}
}

// Many are the tables [[name]], which the decoder returns in one of two forms.
func Many[T any](name string, keys []Key[T], into *[]T) Table {
	return Table{name, names(keys), func(l *loader, v any, at place) {
		var entries []any
		switch v := v.(type) {
		case []map[string]any:
			for _, e := range v {
				entries = append(entries, e)
			}
		case []any:
			entries = v
		default:
			l.add(name, at, name+": "+typeFault(fmt.Sprintf("an array of tables: write [[%s]]", name), v)[0].msg, "")
		}
		*into = make([]T, len(entries))
		for i, e := range entries {
			path := indexPath(name, i)
			if table, ok := e.(map[string]any); ok {
				decodeTable(l, name, path, table, keys, &(*into)[i])
				continue
			}
			l.failed[path+".name"] = true
			l.add(path, l.spans.at(path, false), name+": "+typeFault(fmt.Sprintf("a table: write [[%s]]", name), e)[0].msg, "")
		}
	}}
}

// File is a file that was read into tables, with what is wrong in it.
type File struct{ l loader }

// ReadFile reads a file into tables. The error is that of reading it; what is
// wrong in it is in Err.
func ReadFile(name string, tables ...Table) (*File, error) {
	_, text, err := readFile(name, "", "")
	if err != nil {
		return nil, err
	}
	f := &File{loader{Config: &Config{File: name, origins: make(map[string]place)}, tables: tables, spans: spanMap{}, failed: make(map[string]bool)}}
	f.l.parse(strings.TrimPrefix(text, bom))
	return f, nil
}

// Set reports whether the file gives a key a value that could be read, as in
// "topic[0].name".
func (f *File) Set(key string) bool { _, ok := f.l.origins[key]; return ok }

// Failed reports whether the value of a key could not be used.
func (f *File) Failed(key string) bool { return f.l.failed[key] }

// Add notes that the value of a key is wrong for a reason that its kind does not know.
func (f *File) Add(key, msg string) {
	f.l.add(key, f.l.spans.at(key, f.Set(key)), msg, "")
}

// Err is an *Error with every problem in the order of the file, or nil.
func (f *File) Err() error { return report(f.l.File, slices.Clone(f.l.problems)) }
