package torqbridge

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

const stateSuffix = ".state"

// state is what a bridge must know of the one before it: the mode that was set live,
// and whether it crashed. It is a JSON file beside the control socket, replaced as a
// whole.
type state struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	Domains map[string]*domainState `json:"domains"`
}

type domainState struct {
	Mode       Mode        `json:"mode"`
	Configured Mode        `json:"configured"`  // the file's mode at that time: one that has changed since wins
	Running    bool        `json:"running"`     // false = ended in order
	HandedBack bool        `json:"handed_back"` // it ended in mode bus, and the relay has the socket since
	Crashes    []time.Time `json:"crashes"`     // of bridges in mode bus, as the next start noted them
}

// loadState reads the file; one that is absent or spoiled is empty.
func loadState(path string, log *slog.Logger) *state {
	s := &state{path: path, log: log}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("torqbridge: the state of the last run is of no use: modes are as configured", "error", err)
	}
	if s.Domains == nil {
		s.Domains = map[string]*domainState{}
	}
	return s
}

// begin returns the mode in which a domain starts, and why that is not bus if it
// would have been. mayTake: that the relay has the socket is the bridge's own doing.
func (s *state) begin(name string, configured Mode, now time.Time, c *Config) (mode Mode, mayTake bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.Domains[name]
	if d == nil {
		d = &domainState{Mode: configured, Configured: configured}
		s.Domains[name] = d
	}
	if d.Running && d.Mode == ModeBus {
		d.Crashes = append(d.Crashes, now)
		if n := len(d.Crashes); n > c.MaxCrashes {
			d.Crashes = d.Crashes[n-c.MaxCrashes:]
		}
	}
	if d.Configured != configured {
		d.Mode, d.Configured, d.Crashes = configured, configured, nil
	}
	mayTake, d.HandedBack = d.HandedBack, false
	d.Running = true
	if d.Mode == ModeBus && !c.NoAutoRollback && crashed(d.Crashes, now, c.MaxCrashes, c.CrashWindow) {
		d.Mode, d.Crashes = ModeShadow, nil
		return d.Mode, false, "automatic: the bridge has crashed repeatedly"
	}
	return d.Mode, mayTake, ""
}

// save writes the modes.
func (s *state) save(modes map[string]Mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, m := range modes {
		if d := s.Domains[name]; d != nil {
			d.Mode = m
		}
	}
	s.write()
}

// end notes an end in order; handedBack are the domains whose relay has the socket again.
func (s *state) end(handedBack []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, d := range s.Domains {
		d.Running, d.HandedBack = false, slices.Contains(handedBack, name)
	}
	s.write()
}

func (s *state) write() {
	b, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(s.path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(s.path+".new", s.path)
	}
	if err != nil {
		s.log.Error("torqbridge: the modes cannot be kept for the next start", "error", err)
	}
}
