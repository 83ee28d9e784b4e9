package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// LoadOptions say where to look. The zero value reads what MYCELIUM_CONFIG names, or
// the default file if there is one.
type LoadOptions struct {
	File     string            // must exist; "" = MYCELIUM_CONFIG, else the default file, which may be absent
	Flags    map[string]string // values of command-line flags by key, as in "registry.socket"
	Set      []string          // "key=value", the later ones win
	Environ  []string          // "NAME=value"; nil = os.Environ()
	KnownEnv []string          // further MYCELIUM_ variables that mean something to the caller
	Strict   bool              // an unknown MYCELIUM_ variable is an error (daemons), not a warning (tools)
}

const (
	envPrefix    = "MYCELIUM_"
	envConfig    = "MYCELIUM_CONFIG"
	maxFileBytes = 1 << 20
	bom          = "\ufeff"
)

// envNames are the short names of keys; MYCELIUM_SECTION__KEY works for all others.
var envNames = map[string]string{
	"MYCELIUM_REGISTRY":   "registry.socket",
	"MYCELIUM_SHM_DIR":    "registry.shm_dir",
	"MYCELIUM_LOG_LEVEL":  "registry.log_level",
	"MYCELIUM_LOG_FORMAT": "registry.log_format",
}

// toolEnv are variables that only the tools read.
var toolEnv = []string{envConfig, "MYCELIUM_OUTPUT", "MYCELIUM_CONTEXT"}

// Load reads the configuration. A flag wins over the environment, that over --set, that
// over the file, and that over the built-in defaults. An environment variable that is
// empty counts as not set. Values that are wrong are refused even if others win over
// them.
//
// The error is an *Error with all problems, or wraps the error of reading the file.
func Load(opts LoadOptions) (*Config, error) {
	environ := opts.Environ
	if environ == nil {
		environ = os.Environ()
	}
	env := make(map[string]string)
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && value != "" {
			env[name] = value
		}
	}
	paths := DefaultPaths(os.Getuid(), func(name string) string { return env[name] })

	name, text, err := readFile(opts.File, env[envConfig], paths.ConfigFile)
	if err != nil {
		return nil, err
	}
	return load(name, text, env, paths, opts)
}

// load lays the environment and the options over the text of a file.
func load(name, text string, env map[string]string, paths Paths, opts LoadOptions) (*Config, error) {
	l := loader{
		Config: &Config{File: name, origins: make(map[string]place)},
		spans:  spanMap{},
		failed: make(map[string]bool),
	}
	l.tables = []Table{One("registry", registryKeys, &l.Registry), Many("topic", topicKeys, &l.Topics)}
	l.parse(strings.TrimPrefix(text, bom))
	for _, s := range opts.Set {
		if key, value, ok := strings.Cut(s, "="); ok {
			l.text("--set "+key, key, value)
		} else {
			l.add("", place{origin: "--set " + s}, fmt.Sprintf("%q is not of the form key=value", s), "")
		}
	}
	l.environment(env, opts)
	for _, key := range slices.Sorted(maps.Keys(opts.Flags)) {
		l.text("flag for "+key, key, opts.Flags[key])
	}

	l.Registry = l.Registry.withDefaults(paths)
	l.crossCheck(func(key string) bool { return !l.failed[key] }, func(key, msg, hint string) {
		at, ok := l.origins[key]
		if !ok {
			at = l.spans.at(key, false)
		}
		l.add(key, at, msg, hint)
	})
	for i := range l.Topics {
		l.Topics[i] = l.Topics[i].WithDefaults()
	}
	if err := report(l.File, l.problems); err != nil {
		return nil, err
	}
	return l.Config, nil
}

// A loader is a configuration in the making.
type loader struct {
	*Config
	tables   []Table
	spans    spanMap
	failed   map[string]bool // keys whose value could not be used
	problems []Problem
}

func (l *loader) add(key string, at place, msg, hint string) {
	l.problems = append(l.problems, Problem{Origin: at.origin, Line: at.line, Col: at.col, Key: key, Msg: msg, Hint: hint})
}

// readFile reads the first file that is named. Only the default one may be absent. It
// returns one byte more than is allowed of a file that is too long.
func readFile(flag, env, fallback string) (name, text string, err error) {
	name = cmp.Or(flag, env, fallback)
	if name == "" {
		return "", "", nil
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) && flag == "" && env == "" {
		return "", "", nil
	}
	if err == nil {
		defer f.Close()
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1)); err == nil {
			return name, string(data), nil
		}
	}
	return "", "", fmt.Errorf("configuration file: %w", err)
}

// parse reads the text of a file.
func (l *loader) parse(text string) {
	if len(text) > maxFileBytes {
		l.add("", place{line: 1, col: 1}, fmt.Sprintf("the file has more than %s", FormatSize(maxFileBytes)), "")
		return
	}
	for i, r := range text {
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)) {
			l.add("", placeOf(text, i), fmt.Sprintf("byte %#x: the file must be UTF-8", text[i]), "")
			return
		}
	}
	spans, stop := scan(text)
	l.spans = spans
	if stop != nil {
		l.problems = append(l.problems, *stop)
		return
	}
	root := make(map[string]any)
	if _, err := toml.Decode(text, &root); err != nil {
		at, msg := place{line: 1, col: 1}, err.Error()
		var pe toml.ParseError
		if errors.As(err, &pe) { // its Line and Col are off by a line at times, Start is right
			at, msg = placeOf(text, pe.Position.Start), pe.Message
		}
		l.add("", at, "syntax error: "+msg, "")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(root)) {
		path := joinPath("", name)
		at := l.spans.at(path, false)
		if i := slices.IndexFunc(l.tables, func(t Table) bool { return t.name == name }); i >= 0 {
			l.tables[i].decode(l, root[name], at)
		} else {
			l.unknown(path, "", name, at)
		}
	}
}

// unknown reports a key that does not exist in a table, "" being the top level.
func (l *loader) unknown(path, table, name string, at place) {
	var top, here []string
	hint := ""
	for _, t := range l.tables {
		top = append(top, t.name)
		if t.name == table {
			here = t.keys
		}
	}
	if table == "" {
		here = top
	}
	hint = Nearest(name, here)
	for _, other := range l.tables {
		if hint == "" && slices.Contains(other.keys, name) {
			hint = other.name + "." + name
		}
	}
	l.add(path, at, fmt.Sprintf("unknown key %q", joinPath(table, name)), hint)
}

func names[T any](keys []key[T]) (all []string) {
	for _, k := range keys {
		all = append(all, k.name)
	}
	return all
}

// decodeTable stores the values of one table in t. label is the table's name, path also
// has its index.
func decodeTable[T any](l *loader, label, path string, table map[string]any, keys []key[T], t *T) {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		keyPath, keyLabel := joinPath(path, name), joinPath(label, name)
		i := slices.IndexFunc(keys, func(k key[T]) bool { return k.name == name })
		if i < 0 {
			l.unknown(keyPath, label, name, l.spans.at(keyPath, false))
			continue
		}
		fs := keys[i].set(t, table[name])
		for _, f := range fs {
			l.failed[keyPath] = true
			l.add(keyPath+f.sub, l.spans.at(keyPath+f.sub, true), keyLabel+": "+f.msg, f.hint)
		}
		if fs == nil {
			l.origins[keyPath] = l.spans.at(keyPath, true)
		}
	}
}

// text stores a value that is given as text for a key of [registry].
func (l *loader) text(origin, path, value string) {
	at := place{origin: origin}
	table, name, _ := strings.Cut(path, ".")
	if table == "topic" || strings.HasPrefix(table, "topic[") {
		l.add(path, at, "topics can be set in the file only", "")
		return
	}
	i := slices.IndexFunc(registryKeys, func(k key[Registry]) bool { return k.name == name })
	if table != "registry" || i < 0 {
		if table != "registry" || name == "" {
			table, name = "", path
		}
		l.unknown(path, table, name, at)
		return
	}
	var v any = value
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && registryKeys[i].typ == "integer" {
		v = n
	}
	fs := registryKeys[i].set(&l.Registry, v)
	for _, f := range fs {
		l.failed[path] = true
		l.add(path, at, path+": "+f.msg, f.hint)
	}
	if fs == nil {
		l.origins[path] = at
	}
}

// environment stores the values of MYCELIUM_ variables.
func (l *loader) environment(env map[string]string, opts LoadOptions) {
	known := slices.Concat(toolEnv, opts.KnownEnv)
	setBy := make(map[string]string) // key -> variable
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) {
			continue
		}
		key, ok := envNames[name]
		if !ok {
			key, ok = envKey(name)
		}
		if !ok {
			p := Problem{Origin: "environment", Msg: "unknown variable " + name, Hint: Nearest(name, envAll())}
			if opts.Strict {
				l.problems = append(l.problems, p)
			} else {
				l.Warnings = append(l.Warnings, p.in(""))
			}
			continue
		}
		if other, twice := setBy[key]; twice && env[other] != env[name] {
			l.add(key, place{origin: name}, fmt.Sprintf("%s is set differently by %s; unset one of them", key, other), "")
			continue
		}
		setBy[key] = name
		l.text(name, key, env[name])
	}
}

// envKey returns the key of MYCELIUM_SECTION__KEY.
func envKey(name string) (string, bool) {
	for _, k := range registryKeys {
		if envName(k.name) == name {
			return "registry." + k.name, true
		}
	}
	return "", false
}

func envName(key string) string { return envPrefix + "REGISTRY__" + strings.ToUpper(key) }

// envAll lists every variable with a meaning.
func envAll() []string {
	all := slices.Concat(slices.Sorted(maps.Keys(envNames)), toolEnv)
	for _, k := range registryKeys {
		all = append(all, envName(k.name))
	}
	return all
}
