package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// An Error holds every problem found in one configuration.
type Error struct {
	File     string // "" when no file was read
	Problems []Problem
}

// A Problem is one thing that is wrong, where, and what was probably meant.
type Problem struct {
	Origin string // where the value comes from, if not the file: a variable, --set, a flag
	Line   int    // from 1; 0 when Origin is set or the place is not known
	Col    int    // byte column, from 1
	Key    string // "registry.socket", "topic[0].ring"; "" for a syntax error
	Msg    string // complete in itself: names the key, the value and the rule
	Hint   string // nearest valid spelling, or ""
}

// Error gives one line per problem: file:line:column: message (did you mean "x"?).
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.in(e.File)
	}
	return strings.Join(lines, "\n")
}

func (p Problem) in(file string) string {
	var b strings.Builder
	if at := (place{p.Origin, p.Line, p.Col}).in(file); at != "" {
		b.WriteString(at + ": ")
	}
	b.WriteString(p.Msg)
	if p.Hint != "" {
		fmt.Fprintf(&b, " (did you mean %q?)", p.Hint)
	}
	return b.String()
}

// A place is where a value was set: a named origin, or a line of the file.
type place struct {
	origin    string
	line, col int
}

func (p place) in(file string) string {
	switch {
	case p.origin != "":
		return p.origin
	case p.line > 0:
		return fmt.Sprintf("%s:%d:%d", file, p.line, p.col)
	}
	return file
}

// A fault is a problem that does not know its place yet.
type fault struct {
	sub  string // what follows the key's path, as in "[2]"
	msg  string
	hint string
}

func (f fault) Error() string { return Problem{Msg: f.msg, Hint: f.hint}.in("") }

func faultf(format string, args ...any) []fault {
	return []fault{{msg: fmt.Sprintf(format, args...)}}
}

// report returns the problems as an error, in the order of the file; nil if there are none.
func report(file string, problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return &Error{File: file, Problems: problems}
}

// Nearest returns the candidate that word, which is none of them, most probably meant,
// or "".
func Nearest(word string, candidates []string) string {
	best, limit := "", min(3, len(word)/3+1)
	for _, c := range candidates {
		if d := distance(word, c); d > 0 && d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours that
// turn a into b.
func distance(a, b string) int {
	before, above := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			d := above[j]
			if a[i] != b[j] {
				d++
			}
			d = min(d, above[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, before[j-1]+1)
			}
			row[j+1] = d
		}
		before, above = above, row
	}
	return above[len(b)]
}
