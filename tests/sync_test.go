package tests

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ends is where a SYNC tag was found.
type ends struct{ stores, loads []string }

var (
	tagged  = regexp.MustCompile(`^(.*\S.*)// SYNC ([a-z0-9/,_ -]+)`) // code, then names
	stores  = regexp.MustCompile(`Store|CompareAndSwap|swapSet`)
	loads   = regexp.MustCompile(`Load|ReadAt`)
	tagName = regexp.MustCompile("^\\| `([a-z/-]+)` \\|")
)

// syncTags collects the tags of all code but tests and the model, whose tags
// stand on steps and not on loads and stores.
func syncTags(t *testing.T) map[string]*ends {
	t.Helper()
	all := map[string]*ends{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path == "../internal/model" || path != ".." && strings.HasPrefix(name, ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || d.Name() == "doc.go" { // doc.go: the protocols told again
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			m := tagged.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			store, load := stores.MatchString(m[1]), loads.MatchString(m[1])
			if !store && !load {
				t.Errorf("%s: a SYNC tag on neither a store nor a load: %s", path, strings.TrimSpace(line))
			}
			for name := range strings.SplitSeq(m[2], ", ") {
				name, _, _ = strings.Cut(strings.TrimSpace(name), " ")
				e := all[name]
				if e == nil {
					e = &ends{}
					all[name] = e
				}
				if store {
					e.stores = append(e.stores, path)
				} else {
					e.loads = append(e.loads, path)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Fear: one end of an acquire/release pair goes away, or is never written.
func TestEverySyncTagHasBothEnds(t *testing.T) {
	all := syncTags(t)
	if len(all) < 10 {
		t.Fatalf("only %d tags found", len(all))
	}
	for name, e := range all {
		if len(e.stores) == 0 || len(e.loads) == 0 {
			t.Errorf("SYNC %s: stored in %v, loaded in %v: tag the other end", name, e.stores, e.loads)
		}
	}
}

// Fear: docs/protocol.md names pairs that are gone, or not those that matter.
func TestProtocolDocNamesEveryPair(t *testing.T) {
	b, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if m := tagName.FindStringSubmatch(line); m != nil {
			told[m[1]] = true
		}
	}
	all := syncTags(t)
	for name := range told {
		if all[name] == nil {
			t.Errorf("docs/protocol.md tells of SYNC %s, which the code does not have", name)
		}
	}
	for name, e := range all {
		for _, path := range e.stores {
			if dir := filepath.Dir(path); (dir == "../shm" || dir == "../seqlock") && !told[name] {
				t.Errorf("docs/protocol.md does not tell of SYNC %s (%s)", name, path)
			}
		}
	}
	for _, m := range regexp.MustCompile(`SYNC ([a-z]+[/-][a-z]+(?:, [a-z]+[/-][a-z]+)*)`).FindAllStringSubmatch(string(b), -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			if !told[name] {
				t.Errorf("docs/protocol.md: a diagram has SYNC %s, the table of pairs does not", name)
			}
		}
	}
}
