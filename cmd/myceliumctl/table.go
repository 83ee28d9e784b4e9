package main

import (
	"fmt"
	"io"
	"strings"

	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// plainStyle draws nothing: columns lie two blanks apart.
var plainStyle = pretty.Style{
	Box:    pretty.BoxStyle{PaddingRight: "  "},
	Format: pretty.FormatOptions{HeaderAlign: text.AlignLeft, RowAlign: text.AlignLeft},
}

// table lines cells up in columns. Those whose title begins with '>' go to the right.
type table struct{ pretty.Writer }

// newTable begins a table; without titles it has only rows.
func newTable(titles ...string) *table {
	t := &table{pretty.NewWriter()}
	t.SetStyle(plainStyle)
	header, columns := make(pretty.Row, len(titles)), make([]pretty.ColumnConfig, len(titles))
	for i, s := range titles {
		name, right := strings.CutPrefix(s, ">")
		align := text.AlignLeft
		if right {
			align = text.AlignRight
		}
		header[i], columns[i] = name, pretty.ColumnConfig{Number: i + 1, Align: align, AlignHeader: align}
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(columns)
	return t
}

// row appends cells; there may be fewer than titles.
func (t *table) row(cells ...any) {
	r := make(pretty.Row, len(cells))
	for i, c := range cells {
		r[i] = fmt.Sprint(c) // a number would go to the right by itself
	}
	t.AppendRow(r)
}

// write prints the table, its first line through paint, with indent before each.
func (t *table) write(w io.Writer, indent string, paint func(string) string) {
	for n, line := range strings.Split(t.Render(), "\n") {
		if line = strings.TrimRight(line, " "); n == 0 {
			line = paint(line)
		}
		fmt.Fprintln(w, indent+line)
	}
}

// title paints a table's titles for stdout.
func (a *app) title(s string) string { return a.paint(bold, s, a.stdoutTTY) }
