package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table lines cells up in columns, two blanks apart. Columns whose title begins
// with '>' go to the right.
type table struct {
	right []bool
	rows  [][]string
}

func newTable(titles ...string) *table {
	t := &table{}
	header := make([]string, len(titles))
	for i, s := range titles {
		name, right := strings.CutPrefix(s, ">")
		header[i] = name
		t.right = append(t.right, right)
	}
	t.rows = [][]string{header}
	return t
}

// row appends cells; there may be fewer than titles.
func (t *table) row(cells ...any) {
	r := make([]string, len(cells))
	for i, c := range cells {
		r[i] = fmt.Sprint(c)
	}
	t.rows = append(t.rows, r)
}

// write prints the table, its titles through paint, with indent before each line.
func (t *table) write(w io.Writer, indent string, paint func(string) string) {
	width := make([]int, len(t.right))
	for _, r := range t.rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for n, r := range t.rows {
		var b strings.Builder
		for i, c := range r {
			fill := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			switch {
			case t.right[i]:
				b.WriteString(fill + c + "  ")
			default:
				b.WriteString(c + fill + "  ")
			}
		}
		line := strings.TrimRight(b.String(), " ")
		if n == 0 {
			line = paint(line)
		}
		fmt.Fprintln(w, indent+line)
	}
}

// title paints a table's titles for stdout.
func (a *app) title(s string) string { return a.paint(bold, s, a.stdoutTTY) }
