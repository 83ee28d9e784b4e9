package config

import (
	"fmt"
	"path/filepath"
)

// Paths are the places used when nothing else is configured.
type Paths struct {
	Socket     string // control socket of the registry
	ShmDir     string // bus directory
	ConfigFile string // read if it exists; "" when there is no home directory
}

// DefaultPaths returns the system's places for root and private ones for everybody
// else. Without XDG_RUNTIME_DIR the socket lies in the bus directory, which only its
// owner can enter.
func DefaultPaths(uid int, getenv func(string) string) Paths {
	if uid == 0 {
		return Paths{
			Socket:     "/run/mycelium/registry.sock",
			ShmDir:     "/dev/shm/mycelium",
			ConfigFile: "/etc/mycelium/mycelium.toml",
		}
	}
	p := Paths{ShmDir: fmt.Sprintf("/dev/shm/mycelium-%d", uid)}
	p.Socket = filepath.Join(p.ShmDir, "registry.sock")
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		p.Socket = filepath.Join(dir, "mycelium", "registry.sock")
	}
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		p.ConfigFile = filepath.Join(dir, "mycelium", "mycelium.toml")
	} else if home := getenv("HOME"); filepath.IsAbs(home) {
		p.ConfigFile = filepath.Join(home, ".config", "mycelium", "mycelium.toml")
	}
	return p
}
