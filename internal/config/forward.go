package config

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/torq/mycelium/internal/topic"
)

// Forward is the configuration of a forwarder: a TOML file with one [forward] and a
// [[link]] for each connection. Zero fields mean defaults; [ForwardReference] explains
// every key.
type Forward struct {
	Node     string
	Listen   []string
	Registry string
	Control  string
	Cert     string
	Key      string
	CA       string
	Keep     time.Duration
	MaxBody  uint64
	Beat     time.Duration
	Dead     time.Duration
	Spin     time.Duration
	LogLevel string

	Links []Link

	File    string
	origins map[string]place
}

// Link holds the keys of one [[link]].
type Link struct {
	Name        string
	Peer        string
	Address     string
	Export      []string
	ExportLossy []string
	Import      []string
	Transit     bool
	Start       string
	Compression string
	Insecure    bool
}

// DefaultForwardFile is where a forwarder's configuration is looked for, "" if there is
// no such place.
func DefaultForwardFile(uid int, getenv func(string) string) string {
	file := DefaultPaths(uid, getenv).ConfigFile
	if file == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(file), "forward.toml")
}

// ForwardControl is where a forwarder of that name takes orders, beside the registry's
// socket.
func ForwardControl(socket, node string) string {
	return filepath.Join(filepath.Dir(socket), "forward."+node+".sock")
}

var builtinForward = Forward{
	Keep:     time.Hour,
	MaxBody:  128 << 10,
	Beat:     250 * time.Millisecond,
	Dead:     time.Second,
	Spin:     50 * time.Microsecond,
	LogLevel: "info",
}

var builtinLink = Link{Name: "main", Start: "latest", Compression: "off"}

var forwardKeys = func() []key[Forward] {
	d := &builtinForward
	type F = Forward
	return []key[F]{
		newKey("node", nodeName, d, func(f *F) *string { return &f.Node },
			"Name of this host: the DNS name in its certificate, and what the other side calls `peer`.").defaultsTo("none: required"),
		newKey("listen", listOf("an address", checkAddress), d, func(f *F) *[]string { return &f.Listen },
			"Addresses, `host:port`, on which links are accepted; `[::]:7373` is all of them.").defaultsTo("none: only links that are dialled"),
		newKey("registry", absPath(maxSocketBytes), d, func(f *F) *string { return &f.Registry },
			"Socket of the registry whose topics are forwarded.").defaultsTo("this user's bus"),
		newKey("control", absPath(maxSocketBytes), d, func(f *F) *string { return &f.Control },
			"Unix socket, of mode 0600, for `myceliumctl forward list` and the like.").defaultsTo("`forward.NODE.sock` beside the registry's socket"),
		newKey("cert", absPath(4000), d, func(f *F) *string { return &f.Cert },
			"Certificate of this host, PEM. Read again when it changes, without a link going down.").defaultsTo("none: links on this host only, or with `insecure`"),
		newKey("key", absPath(4000), d, func(f *F) *string { return &f.Key }, "Its private key, PEM.").defaultsTo("none"),
		newKey("ca", absPath(4000), d, func(f *F) *string { return &f.CA }, "Authorities that sign the certificates of the peers, PEM.").defaultsTo("none"),
		newKey("keep", durations(time.Second, 7*24*time.Hour), d, func(f *F) *time.Duration { return &f.Keep },
			"How long publishers are held for this forwarder while it is not running, under the policy of each topic."),
		newKey("max_body", sizes(4096, 64<<20), d, func(f *F) *uint64 { return &f.MaxBody },
			"Longest piece that is taken from a peer: bounds memory, and must hold the longest message."),
		newKey("beat", durations(10*time.Millisecond, time.Minute), d, func(f *F) *time.Duration { return &f.Beat },
			"How often a sign of life is sent."),
		newKey("dead_after", durations(50*time.Millisecond, 10*time.Minute), d, func(f *F) *time.Duration { return &f.Dead },
			"A peer that sent nothing for so long is cut off, and dialled again. More than `beat` of the other side."),
		newKey("spin", durations(0, time.Second), d, func(f *F) *time.Duration { return &f.Spin },
			"How long a link that has nothing to do looks for work before it sleeps. A wake-up takes some 40 us; longer spinning costs processor time that nobody else wants."),
		newKey("log_level", oneOf("debug", "info", "warn", "error"), d, func(f *F) *string { return &f.LogLevel },
			"Least important messages to log."),
	}
}()

var linkKeys = func() []key[Link] {
	d := &builtinLink
	type L = Link
	return []key[L]{
		newKey("name", nodeName, d, func(l *L) *string { return &l.Name },
			"Tells several links with one peer apart; the same on both sides."),
		newKey("peer", nodeName, d, func(l *L) *string { return &l.Peer },
			"The other side's `node`. Nobody else may be at the end of this link.").defaultsTo("none: required"),
		newKey("address", kind[string]{"host:port", parseString, checkAddress, strconv.Quote}, d, func(l *L) *string { return &l.Address },
			"Where to dial. One side of a link dials, the other listens.").defaultsTo("none: the peer dials"),
		newKey("export", listOf("a topic or pattern", checkPattern), d, func(l *L) *[]string { return &l.Export },
			"Topics and patterns that are sent, losslessly: publishers are held, as their topic's policy says, until the peer has each message.").defaultsTo("none"),
		newKey("export_lossy", listOf("a topic or pattern", checkPattern), d, func(l *L) *[]string { return &l.ExportLossy },
			"The same without holding anybody: what the link cannot take appears there as a gap, exactly. Of several patterns that match a topic the most specific applies.").defaultsTo("none"),
		newKey("import", listOf("a topic or pattern", checkPattern), d, func(l *L) *[]string { return &l.Import },
			"Topics and patterns that are taken from the peer; everything else is refused.").defaultsTo("none"),
		newKey("transit", yesNo, d, func(l *L) *bool { return &l.Transit },
			"Also send what came from other hosts. A full mesh needs it nowhere."),
		newKey("start", oneOf("latest", "oldest"), d, func(l *L) *string { return &l.Start },
			"Where the first start begins: `latest`, with what is published then, or `oldest`, with what the rings have still. Later starts go on where the last one was."),
		newKey("compression", oneOf("off", "zstd", "s2"), d, func(l *L) *string { return &l.Compression },
			"Of what this side sends, where it saves a tenth or more."),
		newKey("insecure", yesNo, d, func(l *L) *bool { return &l.Insecure },
			"Use no TLS: anybody on the way can read and write. It is logged and counted."),
	}
}()

var yesNo = kind[bool]{"boolean", func(v any) (bool, []fault) {
	b, ok := v.(bool)
	if !ok {
		return false, typeFault("true or false", v)
	}
	return b, nil
}, nil, strconv.FormatBool}

var nodeName = kind[string]{"name", parseString, func(s string) []fault {
	bad := strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	})
	if s == "" || len(s) > 200 || bad {
		return faultf("%.64q is no name: use letters, digits, dots, dashes and underscores, as a DNS name has", s)
	}
	return nil
}, strconv.Quote}

func checkPattern(s string) []fault {
	if err := topic.CheckPattern(s); err != nil {
		return faultf("%v", err)
	}
	return nil
}

func checkAddress(s string) []fault {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return faultf("%.64q is no address: write host:port, and an IPv6 host in brackets", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return faultf("port %.16q of %.64q: want 0 to 65535", port, s)
	}
	return nil
}

// listOf is an array of strings, each of which check approves.
func listOf(what string, check func(string) []fault) kind[[]string] {
	return kind[[]string]{"array of strings", func(v any) ([]string, []fault) {
		values, ok := v.([]any)
		if !ok {
			return nil, typeFault("an array of strings, each "+what, v)
		}
		list, fs := []string{}, []fault(nil)
		for i, v := range values {
			s, bad := parseString(v)
			if bad == nil {
				bad = check(s)
			}
			if bad == nil && slices.Contains(list, s) {
				bad = faultf("%q is there twice", s)
			}
			if bad != nil {
				bad[0].sub = indexPath("", i)
				fs = append(fs, bad...)
				continue
			}
			list = append(list, s)
		}
		return list, fs
	}, nil, func(l []string) string {
		if l == nil {
			return ""
		}
		texts := make([]string, len(l))
		for i, s := range l {
			texts[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(texts, ", ") + "]"
	}}
}

// LoadForward reads a forwarder's configuration. The error is an *Error with every
// problem, or wraps the error of reading the file.
func LoadForward(file string) (*Forward, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("forwarder configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("forwarder configuration: %w", err)
	}
	return parseForward(file, string(data))
}

func parseForward(file, text string) (*Forward, error) {
	c := &Forward{File: file, origins: make(map[string]place)}
	l := loader{
		Config: &Config{File: file, origins: c.origins},
		tables: []Table{One("forward", forwardKeys, c), Many("link", linkKeys, &c.Links)},
		spans:  spanMap{},
		failed: make(map[string]bool),
	}
	l.parse(strings.TrimPrefix(text, bom))
	unread := slices.ContainsFunc(l.problems, func(p Problem) bool { return p.Key == "" }) // no TOML
	Fill(forwardKeys, c)
	for i := range c.Links {
		Fill(linkKeys, &c.Links[i])
	}
	if !unread {
		c.crossCheck(&l)
	}
	if err := report(file, l.problems); err != nil {
		return nil, err
	}
	return c, nil
}

// crossCheck finds what is wrong between keys that are right by themselves.
func (c *Forward) crossCheck(l *loader) {
	add := func(key, format string, a ...any) {
		if !l.failed[key] {
			l.add(key, l.spans.at(key, true), fmt.Sprintf(format, a...), "")
		}
	}
	if c.Node == "" && !l.failed["forward.node"] {
		add("forward.node", "forward.node: this host has no name")
	}
	if n := len(slices.DeleteFunc([]string{c.Cert, c.Key, c.CA}, func(s string) bool { return s == "" })); n == 1 || n == 2 {
		add("forward.cert", "forward: cert, key and ca belong together: give all three, or none")
	}
	if c.Dead <= c.Beat {
		add("forward.dead_after", "forward.dead_after: %v is not more than beat, which is %v", c.Dead, c.Beat)
	}
	if c.MaxBody%8 != 0 {
		add("forward.max_body", "forward.max_body: %d bytes is no multiple of 8", c.MaxBody)
	}
	if len(c.Links) == 0 {
		add("link", "no link: write [[link]]")
	}
	first := map[string]int{}
	for i := range c.Links {
		k := &c.Links[i]
		path := indexPath("link", i)
		id := k.Peer + "\x00" + k.Name
		if j, twice := first[id]; twice && k.Peer != "" {
			add(path+".peer", "link: a second link %q with %s, the first is entry %d: give one another name", k.Name, k.Peer, j+1)
		} else {
			first[id] = i
		}
		switch {
		case k.Peer == "":
			add(path+".peer", "link.peer: a link has no peer")
		case k.Peer == c.Node:
			add(path+".peer", "link.peer: %q is this host", k.Peer)
		}
		if k.Address == "" && len(c.Listen) == 0 {
			add(path, "link with %s: nobody dials it: give it an address, or forward.listen", k.Peer)
		}
		unread := l.failed[path+".export"] || l.failed[path+".export_lossy"] || l.failed[path+".import"]
		if !unread && len(k.Export)+len(k.ExportLossy)+len(k.Import) == 0 {
			add(path, "link with %s: it exports and imports nothing", k.Peer)
		}
		for n, p := range k.ExportLossy {
			if slices.Contains(k.Export, p) {
				add(path+".export_lossy"+indexPath("", n), "link.export_lossy: %q is in export, too", p)
			}
		}
		if host, _, err := net.SplitHostPort(k.Address); err == nil && c.Cert == "" && !k.Insecure {
			if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
				add(path+".address", "link with %s: %s is not this host, and there is no certificate: set forward.cert, key and ca, or insecure = true", k.Peer, k.Address)
			}
		}
	}
}

// Origin tells where a key was set, as Config.Origin does.
func (c *Forward) Origin(key string) string {
	if p, ok := c.origins[key]; ok {
		return p.in(c.File)
	}
	return "default"
}

// ForwardReference returns the documentation of every key as Markdown.
func ForwardReference() string {
	return "### [forward]\n\n" + Document(forwardKeys) + "\n### [[link]]\n\n" + Document(linkKeys)
}
