package config

import (
	"fmt"
	"strings"
)

// Effective returns the whole configuration as TOML, defaults included, each line with
// the origin of its value as a comment. Load reads it back.
func (c *Config) Effective() string {
	var b strings.Builder
	r := c.Registry.WithDefaults()
	b.WriteString("[registry]\n")
	for _, k := range registryKeys {
		c.writeKey(&b, k.name, k.format(&r), "registry."+k.name)
	}
	for i, t := range c.Topics {
		t = t.WithDefaults()
		b.WriteString("\n[[topic]]\n")
		for _, k := range topicKeys {
			c.writeKey(&b, k.name, k.format(&t), indexPath("topic", i)+"."+k.name)
		}
	}
	return b.String()
}

func (c *Config) writeKey(b *strings.Builder, name, value, path string) {
	if value == "" {
		return
	}
	// An origin may be a path or a flag with any characters in it.
	origin := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(c.Origin(path), "?"))
	fmt.Fprintf(b, "%s = %s # %s\n", name, value, origin)
}

// Reference returns the documentation of every key and variable as Markdown.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Generated from the table of keys in ` + "`internal/config`" + `; do not edit.

The registry reads the file given with ` + "`--config`" + `, else the one named by
` + "`MYCELIUM_CONFIG`" + `, else ` + "`/etc/mycelium/mycelium.toml`" + ` for root and
` + "`$XDG_CONFIG_HOME/mycelium/mycelium.toml`" + ` for other users, if it exists.
A flag wins over the environment, that over ` + "`--set key=value`" + `, that over the file, and
that over the default. Unknown keys are refused. ` + "`myceliumctl config check FILE`" + ` reports
every problem with file, line and column.

Sizes are integers in bytes or strings such as ` + "`\"64KiB\"`" + ` (B, KiB, MiB, GiB, TiB);
durations are strings such as ` + "`\"500ms\"`" + ` or ` + "`\"1m30s\"`" + `. On reload, keys marked *restart* keep their
old value until the registry starts again; the others apply at once, those of a topic to
lanes and subscribers that attach from then on.

## [registry]

`)
	writeTable(&b, registryKeys)
	b.WriteString("\n## [[topic]]\n\nOne entry for each topic or pattern; a name may not occur twice.\n\n")
	writeTable(&b, topicKeys)
	b.WriteString(`
## Environment

Any key of ` + "`[registry]`" + ` can be set by ` + "`MYCELIUM_REGISTRY__KEY`" + `, as in
` + "`MYCELIUM_REGISTRY__MAX_LANES=100`" + `. An empty variable counts as not set. The registry
refuses to start with an unknown ` + "`MYCELIUM_`" + ` variable; tools only warn.

| Variable | Meaning |
|---|---|
| ` + "`MYCELIUM_CONFIG`" + ` | configuration file |
`)
	for _, name := range []string{"MYCELIUM_REGISTRY", "MYCELIUM_SHM_DIR", "MYCELIUM_LOG_LEVEL", "MYCELIUM_LOG_FORMAT"} {
		fmt.Fprintf(&b, "| `%s` | `%s` |\n", name, envNames[name])
	}
	b.WriteString("| `MYCELIUM_OUTPUT` | output format of the tools |\n| `MYCELIUM_CONTEXT` | context of the tools |\n")
	return b.String()
}

func writeTable[T any](b *strings.Builder, keys []key[T]) {
	b.WriteString("| Key | Type | Default | Applies | Meaning |\n|---|---|---|---|---|\n")
	for _, k := range keys {
		applies := "live"
		if k.restart {
			applies = "restart"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", k.name, k.typ, k.builtin, applies, k.doc)
	}
}
