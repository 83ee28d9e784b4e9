package tcp

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/layout"
)

// Edge is topics that go from one host to another over one link, by the configurations
// of both.
type Edge struct {
	From    string   `json:"from"`
	To      string   `json:"to"`
	Link    string   `json:"link"`
	Topics  []string `json:"topics"`
	Lossy   []string `json:"topics_lossy"`
	Transit bool     `json:"transit"` // also what came to From from elsewhere
	Known   bool     `json:"known"`   // the receiving side's configuration was given, and takes them
}

// Finding is something that is wrong between configurations.
type Finding struct {
	Kind  string `json:"kind"`  // loop, double, unmatched, overlap
	Fatal bool   `json:"fatal"` // else it is worth a look
	Text  string `json:"text"`
	At    string `json:"at"` // file:line:column of one of the rules
}

// Topology is what the configurations of several hosts make together.
type Topology struct {
	Nodes    []string  `json:"nodes"`
	Edges    []Edge    `json:"edges"`
	Findings []Finding `json:"findings"`
}

// Survey puts the configurations of several hosts together, before anything starts.
func Survey(all []*config.Forward) *Topology {
	t := &Topology{Edges: []Edge{}, Findings: []Finding{}}
	byNode := map[string]*config.Forward{}
	for _, c := range all {
		if other := byNode[c.Node]; other != nil {
			t.find("unmatched", true, c.Origin("forward.node"), "two hosts are called %s: %s and %s", c.Node, other.File, c.File)
			continue
		}
		byNode[c.Node] = c
		t.Nodes = append(t.Nodes, c.Node)
	}
	slices.Sort(t.Nodes)
	for _, name := range t.Nodes {
		c := byNode[name]
		for i := range c.Links {
			t.link(c, i, byNode)
		}
	}
	slices.SortFunc(t.Edges, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Link, b.Link))
	})
	for _, name := range t.Nodes {
		t.follow(byNode, name)
	}
	slices.SortStableFunc(t.Findings, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Text, b.Text)) })
	t.Findings = slices.Compact(t.Findings)
	return t
}

func (t *Topology) find(kind string, fatal bool, at, format string, a ...any) {
	t.Findings = append(t.Findings, Finding{kind, fatal, fmt.Sprintf(format, a...), at})
}

// link adds the edge of one link, and compares its two ends.
func (t *Topology) link(c *config.Forward, i int, byNode map[string]*config.Forward) {
	l := &c.Links[i]
	at := func(key string) string { return c.Origin(fmt.Sprintf("link[%d].%s", i, key)) }
	both := slices.Concat(l.Export, l.ExportLossy)
	for k, p := range both {
		for _, q := range both[:k] {
			if overlaps(p, q) {
				t.find("overlap", false, at("export"), "%s: %s and %s of the link to %s overlap: the more specific applies", c.Node, q, p, l.Peer)
			}
		}
	}
	e := Edge{From: c.Node, To: l.Peer, Link: l.Name, Topics: l.Export, Lossy: l.ExportLossy, Transit: l.Transit}
	if peer := byNode[l.Peer]; peer != nil {
		k := slices.IndexFunc(peer.Links, func(o config.Link) bool { return o.Peer == c.Node && o.Name == l.Name })
		if k < 0 {
			t.find("unmatched", true, at("peer"), "%s has a link %q with %s, which has none with it", c.Node, l.Name, l.Peer)
		} else {
			other := &peer.Links[k]
			e.Known = true
			for _, p := range both {
				if !slices.ContainsFunc(other.Import, func(q string) bool { return overlaps(p, q) }) {
					t.find("unmatched", false, at("export"), "%s exports %s to %s, which does not import it", c.Node, p, l.Peer)
				}
			}
			for _, p := range other.Import {
				if !slices.ContainsFunc(both, func(q string) bool { return overlaps(p, q) }) {
					t.find("unmatched", false, peer.Origin(fmt.Sprintf("link[%d].import", k)), "%s imports %s from %s, which does not export it", l.Peer, p, c.Node)
				}
			}
			if l.Address == "" && other.Address == "" {
				t.find("unmatched", true, at("peer"), "nobody dials the link %q between %s and %s", l.Name, c.Node, l.Peer)
			}
			if l.Insecure != other.Insecure {
				t.find("unmatched", true, at("insecure"), "the link %q between %s and %s is insecure on one side only", l.Name, c.Node, l.Peer)
			}
			e.Topics, e.Lossy = taken(l.Export, other.Import), taken(l.ExportLossy, other.Import)
		}
	}
	if len(e.Topics)+len(e.Lossy) > 0 {
		t.Edges = append(t.Edges, e)
	}
}

// taken are the exports of which something is imported.
func taken(exports, imports []string) []string {
	out := []string{}
	for _, p := range exports {
		if slices.ContainsFunc(imports, func(q string) bool { return overlaps(p, q) }) {
			out = append(out, p)
		}
	}
	return out
}

func (e *Edge) patterns() []string { return slices.Concat(e.Topics, e.Lossy) }

// follow walks the ways that what a host publishes can go: one that comes back is a
// loop, two that meet bring it twice. The forwarders refuse both while they run.
func (t *Topology) follow(byNode map[string]*config.Forward, origin string) {
	type way struct {
		nodes    []string
		patterns []string // one of each edge; all overlap
	}
	first := map[string][]way{} // by where they lead
	var walk func(w way)
	walk = func(w way) {
		here := w.nodes[len(w.nodes)-1]
		if len(w.nodes) > layout.MaxHops {
			return
		}
		for _, e := range t.Edges {
			if e.From != here || here != origin && !e.Transit {
				continue
			}
			for _, p := range e.patterns() {
				if slices.ContainsFunc(w.patterns, func(q string) bool { return !overlaps(p, q) }) {
					continue
				}
				next := way{append(slices.Clone(w.nodes), e.To), append(slices.Clone(w.patterns), p)}
				path := strings.Join(next.nodes, " -> ")
				if e.To == origin {
					if len(next.nodes) > 2 { // straight back is what every link refuses
						t.find("loop", false, byNode[origin].File, "%s of %s comes back: %s; the last link refuses it", p, origin, path)
					}
					continue
				}
				if slices.Contains(w.nodes, e.To) {
					continue
				}
				for _, o := range first[e.To] {
					if !slices.ContainsFunc(o.patterns, func(q string) bool { return !overlaps(p, q) }) && !slices.Equal(o.nodes, next.nodes) {
						t.find("double", false, byNode[origin].File, "%s of %s reaches %s by %s and by %s: one of them is refused", p, origin, e.To, strings.Join(o.nodes, " -> "), path)
					}
				}
				first[e.To] = append(first[e.To], next)
				walk(next)
			}
		}
	}
	walk(way{nodes: []string{origin}})
	// Two links between the same hosts, of the origin's own topics.
	for i, a := range t.Edges {
		for _, b := range t.Edges[:i] {
			if a.From != origin || b.From != origin || a.To != b.To {
				continue
			}
			for _, p := range a.patterns() {
				for _, q := range b.patterns() {
					if overlaps(p, q) {
						t.find("double", true, byNode[origin].File, "%s goes to %s over link %q, and %s over link %q: take one of them out", p, a.To, a.Link, q, b.Link)
					}
				}
			}
		}
	}
}

// overlaps reports whether some topic matches both patterns.
func overlaps(p, q string) bool {
	a, b := strings.Split(p, "."), strings.Split(q, ".")
	for i := 0; ; i++ {
		switch {
		case i == len(a) || i == len(b):
			return len(a) == len(b)
		case a[i] == ">" || b[i] == ">":
			return true
		case a[i] != b[i] && a[i] != "*" && b[i] != "*":
			return false
		}
	}
}

// Fatal is how many findings keep the forwarders from working as configured.
func (t *Topology) Fatal() (n int) {
	for _, f := range t.Findings {
		if f.Fatal {
			n++
		}
	}
	return n
}
