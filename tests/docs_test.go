package tests

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/torqbridge"
)

var update = flag.Bool("update", false, "write generated documents anew")

func TestConfigReferenceIsCurrent(t *testing.T) {
	generated(t, "config.md", "<!-- Generated from internal/config by \"make docs\". -->\n\n"+config.Reference())
}

func TestBridgeReferenceIsCurrent(t *testing.T) {
	generated(t, "torq.md", "<!-- Generated from torqbridge by \"make docs\". -->\n\n"+torqbridge.ConfigReference())
}

func TestTypeReferenceIsCurrent(t *testing.T) {
	generated(t, "tlv.md", "<!-- Generated from codec by \"make docs\". -->\n\n"+typeReference())
}

// generated compares a document with what makes it.
func generated(t *testing.T, name, want string) {
	t.Helper()
	file := filepath.Join(root, "docs", name)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the code says: run make docs", file)
	}
}

// typeReference is the table of TLV types, the layouts and the names, as Markdown.
func typeReference() string {
	var b strings.Builder
	b.WriteString("# TLV types\n\n" +
		"What is known of the types of Protocol V2 messages; `myceliumctl codec types` prints the same. Sizes are the payload's in\n" +
		"bytes as Torq's registry has them; where a layout is known, its size is what is on the wire. All integers are\n" +
		"little-endian. 64-bit and wider numbers are strings in JSON; addresses and `bytes8` are hex.\n\n" +
		"| numbers | group | domain |\n|---|---|---|\n")
	for _, r := range codec.Ranges() {
		domain := "that of the message"
		if r.Domain != codec.DomainNone {
			domain = r.Domain.String()
		}
		fmt.Fprintf(&b, "| %d-%d | %s | %s |\n", uint8(r.First), uint8(r.Last), r.Group, domain)
	}
	b.WriteString("\n| # | name | registry size | layout |\n|---:|---|---|---|\n")
	for _, info := range codec.Types() {
		layout := "opaque"
		if info.Layout != nil {
			layout = fmt.Sprintf("[%d bytes](#%s)", info.Layout.Size, strings.ToLower(info.Name))
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", uint8(info.Type), info.Name, info.Size, layout)
	}
	b.WriteString("\n## Layouts\n\nBytes that no field names are padding: 0 from all known producers but where Torq leaves them uninitialised, and in\n" +
		"`padding`, in hex, where they are not.\n")
	for _, info := range codec.Types() {
		if info.Layout == nil {
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n| offset | kind | field |\n|---:|---|---|\n", info.Name)
		for _, f := range info.Layout.Fields {
			name := f.Name
			if f.List != nil {
				name = fmt.Sprintf("%s: a u16 count, then from %d on %d elements of %d bytes", f.Name, f.List.Slots, f.List.Max, f.List.Element.Size)
				for i, e := range f.List.Element.Fields {
					separator := ", "
					if i == 0 {
						separator = ": "
					}
					name += strings.TrimRight(fmt.Sprintf("%s%v %s", separator, e.Kind, e.Name), " ")
				}
			}
			fmt.Fprintf(&b, "| %d | %v | %s |\n", f.Offset, f.Kind, name)
		}
	}
	b.WriteString("\n## Names\n\nTorq numbers them in two dialects; producers use `types`, the relays' own code and configuration `codec`.\n")
	for _, names := range []struct {
		title        string
		types, codec []codec.Named
	}{
		{"Domain", codec.DialectTypes.Domains(), codec.DialectCodec.Domains()},
		{"Source", codec.DialectTypes.Sources(), codec.DialectCodec.Sources()},
		{"Venue", codec.DialectTypes.Venues(), codec.DialectCodec.Venues()},
		{"Asset type", codec.DialectTypes.AssetTypes(), codec.DialectCodec.AssetTypes()},
		{"Pool type", codec.DialectTypes.PoolTypes(), codec.DialectCodec.PoolTypes()},
	} {
		fmt.Fprintf(&b, "\n| %s | types | codec |\n|---|---:|---:|\n", names.title)
		number := func(list []codec.Named, name string) string {
			for _, n := range list {
				if n.Name == name {
					return fmt.Sprint(n.Number)
				}
			}
			return ""
		}
		seen := map[string]bool{}
		for _, n := range append(names.types, names.codec...) {
			if !seen[n.Name] {
				seen[n.Name] = true
				fmt.Fprintf(&b, "| %s | %s | %s |\n", n.Name, number(names.types, n.Name), number(names.codec, n.Name))
			}
		}
	}
	return b.String()
}

// The forwarder's keys stand at the end of docs/forwarding.md.
func TestForwardReferenceIsCurrent(t *testing.T) {
	file := filepath.Join(root, "docs", "forwarding.md")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, got, found := strings.Cut(string(b), "\n## Keys\n\n")
	if !found {
		t.Fatalf("%s has no section of keys", file)
	}
	want := config.ForwardReference()
	if *update {
		if err := os.WriteFile(file, []byte(head+"\n## Keys\n\n"+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("the keys in %s are not what internal/config says: run make docs", file)
	}
}

// TestDecisionsAreListed keeps the index of docs/adr in step with its files.
func TestDecisionsAreListed(t *testing.T) {
	dir := filepath.Join(root, "docs", "adr")
	index, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "[0-9]*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no decision found: %v", err)
	}
	numbers := map[string]string{}
	for _, f := range files {
		name := filepath.Base(f)
		if other := numbers[name[:4]]; other != "" {
			t.Errorf("%s and %s have the same number", name, other)
		}
		numbers[name[:4]] = name
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		title, _, _ := strings.Cut(string(b), "\n")
		title = strings.TrimPrefix(title, "# ")
		if line := "- [" + title + "](" + name + ")"; !strings.Contains(string(index), line+"\n") {
			t.Errorf("docs/adr/README.md lacks the line %q", line)
		}
		for _, part := range []string{"## Context", "## Decision", "## Consequence", "## Figure"} {
			if !strings.Contains(string(b), "\n"+part+"\n") {
				t.Errorf("%s has no part %q", name, part)
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

func TestLinksBetweenDocumentsLead(t *testing.T) {
	walk(t, func(name string) {
		if filepath.Ext(name) != ".md" {
			return
		}
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(b, -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), string(m[1]))); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
	})
}

// TestCodeInDocumentsCompiles finds the Go of documents in examples, which are compiled
// with the tests beside them.
func TestCodeInDocumentsCompiles(t *testing.T) {
	for document, source := range map[string]string{
		"README.md":         "registry/example_test.go",
		"docs/migration.md": "torqbridge/example_test.go",
	} {
		text, err := os.ReadFile(filepath.Join(root, document))
		if err != nil {
			t.Fatal(err)
		}
		example, err := os.ReadFile(filepath.Join(root, source))
		if err != nil {
			t.Fatal(err)
		}
		blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
		if len(blocks) < 2 {
			t.Errorf("%d blocks of Go in %s", len(blocks), document)
		}
		for _, b := range blocks {
			code := "\t" + strings.ReplaceAll(strings.TrimSpace(b[1]), "\n", "\n\t")
			code = strings.ReplaceAll(code, "\n\t\n", "\n\n")
			if !strings.Contains(string(example), code) {
				t.Errorf("%s shows, and %s lacks:\n%s", document, source, code)
			}
		}
	}
}
