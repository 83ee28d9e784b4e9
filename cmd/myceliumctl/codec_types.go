package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/codec"
)

type typeList struct {
	Dialect    string       `json:"dialect"`
	Types      []typeEntry  `json:"types"`
	Ranges     []rangeEntry `json:"ranges"`
	Domains    []nameEntry  `json:"domains"`
	Sources    []nameEntry  `json:"sources"`
	Venues     []nameEntry  `json:"venues"`
	AssetTypes []nameEntry  `json:"asset_types"`
	PoolTypes  []nameEntry  `json:"pool_types"`
}

type typeEntry struct {
	Type     uint8        `json:"type"`
	Name     string       `json:"name"` // "" = the registry has none
	Group    string       `json:"group"`
	Domain   string       `json:"domain"` // "" = the number decides nothing
	Size     string       `json:"size"`   // rule of the registry, in bytes
	MinBytes int          `json:"min_bytes"`
	MaxBytes int          `json:"max_bytes"`
	Layout   int          `json:"layout_bytes"` // 0 = opaque
	Fields   []fieldEntry `json:"fields,omitempty"`
}

type fieldEntry struct {
	Offset  int          `json:"offset"`
	Kind    string       `json:"kind"`
	Name    string       `json:"name,omitempty"`
	Slots   int          `json:"slots_offset,omitempty"` // of a list
	Max     int          `json:"max_elements,omitempty"`
	Element []fieldEntry `json:"element,omitempty"`
}

type rangeEntry struct {
	First  uint8  `json:"first"`
	Last   uint8  `json:"last"`
	Group  string `json:"group"`
	Domain string `json:"domain"`
}

type nameEntry struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
}

func newCodecTypesCommand(a *app) *cobra.Command {
	var d codec.Dialect
	c := &cobra.Command{
		Use:   "types [TYPE]",
		Short: "List the TLV types, or the fields of one",
		Long: `List the TLV types that have a name: to which domain their numbers belong, what
sizes Torq's registry gives them, and the size of the payload where its layout is
known. -o wide shows the numbers without a name, too, and all numbers of domains,
sources, venues, asset types and pool types in a dialect; so does -o json.

TYPE is a number or a name; it shows every field with its offset and kind.`,
		Example: `  myceliumctl codec types
  myceliumctl codec types PoolSwap
  myceliumctl codec types -o json | jq '.types[] | select(.layout_bytes > 0) | .name'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeType,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				t, err := typeNamed(args[0])
				if err != nil {
					return err
				}
				e := typeEntryOf(t.Info())
				return a.print(cmd, "codec_type", e, func(w io.Writer) { a.writeType(w, &e) })
			}
			l := typeList{Dialect: d.String(), Domains: namesOf(d.Domains()), Sources: namesOf(d.Sources()), Venues: namesOf(d.Venues()),
				AssetTypes: namesOf(d.AssetTypes()), PoolTypes: namesOf(d.PoolTypes())}
			for _, t := range codec.Types() {
				l.Types = append(l.Types, typeEntryOf(t))
			}
			for _, r := range codec.Ranges() {
				l.Ranges = append(l.Ranges, rangeEntry{uint8(r.First), uint8(r.Last), r.Group, domainName(r.Domain)})
			}
			return a.print(cmd, "codec_types", l, func(w io.Writer) { a.writeTypes(w, &l) })
		},
	}
	dialectFlag(c, &d)
	return c
}

// typeNamed finds a type by its number or name.
func typeNamed(text string) (codec.TLVType, error) {
	if n, err := strconv.ParseUint(text, 0, 8); err == nil {
		return codec.TLVType(n), nil
	}
	for _, t := range codec.Types() {
		if strings.EqualFold(t.Name, text) {
			return t.Type, nil
		}
	}
	return 0, &usageError{withHint(fmt.Errorf("%q is neither a number from 0 to 255 nor the name of a type", text), "myceliumctl codec types lists them")}
}

func completeType(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, t := range codec.Types() {
		names = append(names, t.Name)
	}
	if len(args) > 0 {
		names = nil
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func domainName(d codec.Domain) string {
	if d == codec.DomainNone {
		return ""
	}
	return d.String()
}

func namesOf(list []codec.Named) []nameEntry {
	entries := make([]nameEntry, len(list))
	for i, n := range list {
		entries[i] = nameEntry{n.Number, n.Name}
	}
	return entries
}

func typeEntryOf(t codec.TypeInfo) typeEntry {
	e := typeEntry{Type: uint8(t.Type), Name: t.Name, Group: t.Group, Domain: domainName(t.Domain), Size: t.Size.String(), MinBytes: t.Size.Min, MaxBytes: t.Size.Max}
	if t.Layout != nil {
		e.Layout, e.Fields = t.Layout.Size, fieldEntries(t.Layout)
	}
	return e
}

func fieldEntries(l *codec.Layout) []fieldEntry {
	var all []fieldEntry
	for _, f := range l.Fields {
		e := fieldEntry{Offset: f.Offset, Kind: f.Kind.String(), Name: f.Name}
		if f.List != nil {
			e.Slots, e.Max, e.Element = f.List.Slots, f.List.Max, fieldEntries(&f.List.Element)
		}
		all = append(all, e)
	}
	return all
}

func (a *app) writeTypes(w io.Writer, l *typeList) {
	t := newTable(">TYPE", "NAME", "DOMAIN", ">SIZE", ">LAYOUT", "GROUP")
	add := func(e *typeEntry) {
		layout := "opaque"
		if e.Layout > 0 {
			layout = strconv.Itoa(e.Layout)
		}
		t.row(e.Type, e.Name, e.Domain, e.Size, layout, e.Group)
	}
	for i := range l.Types {
		add(&l.Types[i])
	}
	t.write(w, "", a.title)
	if a.output != "wide" {
		return
	}
	fmt.Fprintln(w)
	r := newTable(">FIRST", ">LAST", "DOMAIN", "GROUP")
	for _, e := range l.Ranges {
		r.row(e.First, e.Last, e.Domain, e.Group)
	}
	r.write(w, "", a.title)
	for _, list := range []struct {
		title   string
		entries []nameEntry
	}{{"DOMAIN", l.Domains}, {"SOURCE", l.Sources}, {"VENUE", l.Venues}, {"ASSET TYPE", l.AssetTypes}, {"POOL TYPE", l.PoolTypes}} {
		fmt.Fprintln(w)
		n := newTable(">"+list.title, "NAME IN DIALECT "+strings.ToUpper(l.Dialect))
		for _, e := range list.entries {
			n.row(e.Number, e.Name)
		}
		n.write(w, "", a.title)
	}
}

func (a *app) writeType(w io.Writer, e *typeEntry) {
	name, domain := e.Name, e.Domain
	if name == "" {
		name = "no name"
	}
	if domain == "" {
		domain = "no domain of its own"
	}
	fmt.Fprintf(w, "%s: %s, %s, registry size %s\n", a.title(fmt.Sprintf("%d %s", e.Type, name)), e.Group, domain, e.Size)
	if e.Layout == 0 {
		fmt.Fprintln(w, "the payload is opaque: it has no known layout")
		return
	}
	fmt.Fprintf(w, "%d bytes; what no field names is padding\n", e.Layout)
	t := newTable(">OFFSET", "KIND", "NAME")
	for _, f := range e.Fields {
		if f.Max == 0 {
			t.row(f.Offset, f.Kind, f.Name)
			continue
		}
		t.row(f.Offset, f.Kind, fmt.Sprintf("%s: u16 count, then %d elements from %d", f.Name, f.Max, f.Slots))
		for _, x := range f.Element {
			t.row(fmt.Sprintf("+%d", x.Offset), x.Kind, strings.TrimSuffix(f.Name+"[]."+x.Name, "."))
		}
	}
	t.write(w, "  ", a.title)
}
