// Package tests holds what is true of the whole tree: this package its rules, the
// packages below it the tests of whole systems.
package tests

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = ".."
	module = "github.com/torq/mycelium"
)

// layers are the packages of the module, lowest first: a package imports only from
// earlier lines. "name/..." is all packages below name. Every package has a line.
var layers = [][]string{
	{"seqlock", "codec", "internal/failpoint", "internal/topic", "internal/layout", "internal/clock", "internal/lines"},
	{"internal/segment", "internal/control", "internal/config", "internal/coinbase"},
	{"internal/directory"},
	{"shm"},
	{"registry"},
	{"transport/tcp", "torqbridge"},
	{"internal/bench"},
	{"cmd/..."},
}

// forTests are imported by tests only.
var forTests = []string{"internal/testproc", "internal/model/..."}

// external are the modules that a package may depend on, itself or through others,
// beside the standard library. Packages without a line may use all of go.mod.
var external = map[string][]string{
	"seqlock": {"golang.org/x/sys"},
	"codec":   {"golang.org/x/sys"},
	"shm":     {"golang.org/x/sys", "github.com/edsrzf/mmap-go"},
}

// forPrograms are the modules that only cmd depends on: a library neither prints nor
// reads a command line.
var forPrograms = []string{"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/jedib0t/go-pretty/v6", "golang.org/x/term"}

// never are imports that the layers would allow.
var never = map[string][]string{
	"seqlock": {"codec"},
	"shm":     {"codec", "internal/config"},
}

type pkg struct {
	ImportPath, Name string
	Standard         bool
	Imports, Deps    []string
	Module           *struct{ Path string }
}

// list returns what the go command knows of the packages and all that they import.
func list(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", "failpoint",
		"-json=ImportPath,Name,Standard,Imports,Deps,Module", "./...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
	return all
}

func ours(importPath string) (short string, ok bool) {
	return strings.CutPrefix(importPath, module+"/")
}

func covers(pattern, short string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return short == prefix || strings.HasPrefix(short, prefix+"/")
	}
	return pattern == short
}

func layerOf(short string) int {
	return slices.IndexFunc(layers, func(l []string) bool {
		return slices.ContainsFunc(l, func(p string) bool { return covers(p, short) })
	})
}

func isForTests(short string) bool {
	return covers("tests/...", short) || slices.ContainsFunc(forTests, func(p string) bool { return covers(p, short) })
}

func TestImportsPointOneWay(t *testing.T) {
	all := list(t)
	if _, ok := all[module+"/shm"]; !ok {
		t.Fatal("go list does not know shm")
	}
	for _, p := range all {
		short, ok := ours(p.ImportPath)
		if !ok || isForTests(short) {
			continue
		}
		at := layerOf(short)
		if at < 0 {
			t.Errorf("%s has no layer: give it one in tests/arch_test.go", short)
			continue
		}
		for _, imp := range p.Imports {
			other, ok := ours(imp)
			if !ok {
				continue
			}
			inside := slices.ContainsFunc(layers[at], func(p string) bool { return covers(p, short) && covers(p, other) })
			if isForTests(other) || layerOf(other) >= at && !inside || slices.Contains(never[short], other) {
				t.Errorf("%s imports %s: the layers of tests/arch_test.go do not allow it", short, other)
			}
		}
		for _, dep := range p.Deps {
			if other, ok := ours(dep); ok && slices.Contains(never[short], other) {
				t.Errorf("%s depends on %s", short, other)
			}
		}
	}
}

func TestDataPlaneDependsOnLittle(t *testing.T) {
	all := list(t)
	for short, modules := range external {
		for _, dep := range all[module+"/"+short].Deps {
			d := all[dep]
			if d.Standard || d.Module == nil || d.Module.Path == module || slices.Contains(modules, d.Module.Path) {
				continue
			}
			t.Errorf("%s depends on %s of %s: allowed are the standard library and %v", short, dep, d.Module.Path, modules)
		}
	}
}

func TestOnlyProgramsDependOnWhatPrints(t *testing.T) {
	all := list(t)
	for _, p := range all {
		short, ok := ours(p.ImportPath)
		if !ok || covers("cmd/...", short) {
			continue
		}
		for _, dep := range p.Deps {
			if m := all[dep].Module; m != nil && slices.Contains(forPrograms, m.Path) {
				t.Errorf("%s depends on %s: only cmd may", short, dep)
			}
		}
	}
}

// ignored are the top-level names that git ignores.
var ignored = regexp.MustCompile(`^(\.git|bin|out|.*\.(test|prof)|coverage.*\.out)$`)

func TestTopLevelHoldsWhatItShould(t *testing.T) {
	allowed := strings.Fields(`cmd shm seqlock registry transport codec torqbridge scripts tests docs internal
		go.mod go.sum Makefile README.md CHANGELOG.md LICENSE staticcheck.conf .ci .github .gitignore`)
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !ignored.MatchString(e.Name()) && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s does not belong at the top of the tree", e.Name())
		}
	}
}

// walk calls f for every file of the tree, by its path below root.
func walk(t *testing.T, f func(name string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if err != nil || file == root {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(file, root+string(filepath.Separator)))
		if ignored.MatchString(name) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if e.Type().IsRegular() {
			f(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// source is one parsed Go file.
type source struct {
	name, base string
	test       bool
	*ast.File
}

var fset = token.NewFileSet()

func sources(t *testing.T) (all []source) {
	t.Helper()
	walk(t, func(name string) {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			return
		}
		f, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		base := strings.TrimSuffix(path.Base(name), ".go")
		stem, test := strings.CutSuffix(base, "_test")
		all = append(all, source{name: name, base: stem, test: test, File: f})
	})
	if len(all) == 0 {
		t.Fatal("no Go file found")
	}
	return all
}

func (s source) imports(name string) bool {
	return slices.ContainsFunc(s.Imports, func(i *ast.ImportSpec) bool {
		p, _ := strconv.Unquote(i.Path.Value)
		return p == name
	})
}

func TestDangerousImportsShowInFileNames(t *testing.T) {
	for _, s := range sources(t) {
		parts := strings.Split(s.base, "_")
		if s.imports("unsafe") && !slices.Contains(parts, "unsafe") {
			t.Errorf("%s imports unsafe: only files named *_unsafe.go do", s.name)
		}
		for _, p := range []string{"golang.org/x/sys/unix", "github.com/edsrzf/mmap-go"} {
			if s.imports(p) && parts[len(parts)-1] != "linux" {
				t.Errorf("%s imports %s: only files named *_linux.go do", s.name, p)
			}
		}
	}
}

func TestAssemblyStaysInItsThreePackages(t *testing.T) {
	homes := []string{"seqlock", "internal/clock", "internal/lines"}
	walk(t, func(name string) {
		if path.Ext(name) == ".s" && !slices.Contains(homes, path.Dir(name)) {
			t.Errorf("%s: assembly belongs in seqlock (fences), internal/clock (counters) or internal/lines (cache lines)", name)
		}
	})
}

// TestLibraryNeverPrintsNorAsksTheSlowClock looks at the packages on the data path.
func TestLibraryNeverPrintsNorAsksTheSlowClock(t *testing.T) {
	banned := regexp.MustCompile(`^(time\.(Now|Since)|fmt\.Print(|f|ln)|log\..*|print|println)$`)
	for _, s := range sources(t) {
		dir := path.Dir(s.name)
		if s.test || dir != "shm" && dir != "seqlock" && dir != "codec" {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			called := ""
			switch f := call.Fun.(type) {
			case *ast.Ident:
				called = f.Name
			case *ast.SelectorExpr:
				if x, ok := f.X.(*ast.Ident); ok {
					called = x.Name + "." + f.Sel.Name
				}
			}
			if banned.MatchString(called) {
				t.Errorf("%s: %s: time comes from internal/clock, and the library prints nothing", fset.Position(call.Pos()), called)
			}
			return true
		})
	}
}

// wellKnown methods need no comment: their interface says it all.
var wellKnown = strings.Fields("Error Unwrap Is String MarshalText UnmarshalText MarshalJSON UnmarshalJSON Len Less Swap Push Pop Idle")

func TestExportedNamesAreDocumented(t *testing.T) {
	documented := map[string]bool{} // directories with a package comment
	dirs := map[string]token.Position{}
	for _, s := range sources(t) {
		dir := path.Dir(s.name)
		if s.test && !covers("tests/...", dir) {
			continue
		}
		if dirs[dir] = fset.Position(s.Package); s.Doc != nil {
			documented[dir] = true
		}
		if s.test || s.Name.Name == "main" {
			continue
		}
		for _, d := range s.Decls {
			checkDoc(t, d)
		}
	}
	for dir, at := range dirs {
		if !documented[dir] {
			t.Errorf("%s: no file of package %s has a package comment", at, dir)
		}
	}
}

func checkDoc(t *testing.T, d ast.Decl) {
	missing := func(id *ast.Ident) { t.Errorf("%s: %s has no comment", fset.Position(id.Pos()), id.Name) }
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && ast.IsExported(receiver(d)) &&
			(d.Recv == nil || !slices.Contains(wellKnown, d.Name.Name)) {
			missing(d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					missing(spec.Name)
				}
			case *ast.ValueSpec: // one comment may serve a group
				if spec.Names[0].IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil && !d.Lparen.IsValid() {
					missing(spec.Names[0])
				}
			}
		}
	}
}

// receiver returns the name of a method's type, and an exported one for a function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return "Function"
	}
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// TestNoPathOfSomebodysMachine: a path that exists on one machine only is a leftover.
func TestNoPathOfSomebodysMachine(t *testing.T) {
	machine := regexp.MustCompile(`(^|[\s"'=:(` + "`" + `])/(work|root|home/[a-z]{2,}|Users)/`)
	walk(t, func(name string) {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(b, 0) >= 0 {
			return // not text
		}
		for i, line := range bytes.Split(b, []byte("\n")) {
			if machine.Match(line) {
				t.Errorf("%s:%d: %s", name, i+1, bytes.TrimSpace(line))
			}
		}
	})
}
