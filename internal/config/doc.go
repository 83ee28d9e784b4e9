// Package config reads the registry's configuration: a TOML file, the environment,
// --set and flags, laid over built-in defaults.
//
// One Go table of keys (keys.go) gives each key its type, range, default and
// explanation; decoding, checking, [Config.Effective], [Diff] and [Reference] all read
// it, so they cannot disagree.
//
// [Load] either returns a complete configuration or an [*Error] with every problem that
// it found, each with file, line and column. Lines and columns count from 1, columns in
// bytes.
//
// Sizes are in bytes, written as 65536 or "64KiB" (units B, KiB, MiB, GiB, TiB);
// durations are written as in Go, "500ms" or "1m30s".
package config
