package tests

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

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

// TestReadmeCodeCompiles finds the README's Go in registry's example, which is
// compiled with the tests.
func TestReadmeCodeCompiles(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(filepath.Join(root, "registry", "example_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 2 {
		t.Fatalf("%d blocks of Go in README.md", len(blocks))
	}
	for _, b := range blocks {
		code := "\t" + strings.ReplaceAll(strings.TrimSpace(b[1]), "\n", "\n\t")
		if !strings.Contains(string(example), code) {
			t.Errorf("registry/example_test.go lacks:\n%s", code)
		}
	}
}
