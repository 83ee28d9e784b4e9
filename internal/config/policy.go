package config

import (
	"fmt"
	"strings"
	"time"
)

// PolicyKind says what a publisher does when a lossless subscriber is stuck and the
// ring is full.
type PolicyKind uint8

const (
	PolicyBlock PolicyKind = iota // wait for the subscriber up to the timeout, then fail the publish
	PolicyEvict                   // evict the subscriber after the timeout without progress
	PolicyFail                    // fail the publish at once
)

// Timeout of "block" and of "evict" written without one, and its range.
const (
	DefaultPolicyTimeout = time.Second
	minPolicyTimeout     = time.Millisecond
	maxPolicyTimeout     = time.Hour
)

var policyNames = []string{PolicyBlock: "block", PolicyEvict: "evict", PolicyFail: "fail"}

// Policy is what happens to a stuck lossless subscriber. The zero value is "block:1s".
type Policy struct {
	Kind    PolicyKind
	Timeout time.Duration // 0 = DefaultPolicyTimeout; not used by PolicyFail
}

// WithDefaults fills a zero timeout where the kind has one.
func (p Policy) WithDefaults() Policy {
	if p.Kind == PolicyFail {
		p.Timeout = 0
	} else if p.Timeout == 0 {
		p.Timeout = DefaultPolicyTimeout
	}
	return p
}

// String writes the policy as ParsePolicy reads it.
func (p Policy) String() string {
	p = p.WithDefaults()
	switch {
	case int(p.Kind) >= len(policyNames):
		return fmt.Sprintf("policy(%d)", p.Kind)
	case p.Kind == PolicyFail:
		return policyNames[p.Kind]
	}
	return policyNames[p.Kind] + ":" + formatDuration(p.Timeout)
}

// ParsePolicy reads "block", "block:500ms", "evict", "evict:1s" or "fail".
func ParsePolicy(s string) (Policy, error) {
	p, fs := parsePolicy(s)
	if fs == nil {
		fs = checkPolicy(p)
	}
	if fs != nil {
		return Policy{}, fs[0]
	}
	return p, nil
}

func parsePolicy(s string) (Policy, []fault) {
	name, timeout, timed := strings.Cut(s, ":")
	for kind, n := range policyNames {
		if name != n {
			continue
		}
		p := Policy{Kind: PolicyKind(kind)}
		if timed && p.Kind == PolicyFail {
			return p, []fault{{msg: fmt.Sprintf(`bad policy %q: "fail" takes no time`, s), hint: "fail"}}
		}
		if timed {
			d, err := time.ParseDuration(timeout)
			if err != nil {
				return p, faultf(`bad policy %q: write a time after the colon, as in "%s:500ms"`, s, name)
			}
			if d == 0 { // which would be the default
				return p, faultf("bad policy %q: the time must be from %s to %s", s, formatDuration(minPolicyTimeout), formatDuration(maxPolicyTimeout))
			}
			p.Timeout = d
		}
		return p.WithDefaults(), nil
	}
	f := fault{msg: fmt.Sprintf(`bad policy %q: use "block", "block:500ms", "evict", "evict:1s" or "fail"`, s)}
	if f.hint = Nearest(name, policyNames); f.hint != "" && timed {
		f.hint += ":" + timeout
	}
	return Policy{}, []fault{f}
}

func checkPolicy(p Policy) []fault {
	p = p.WithDefaults()
	switch {
	case int(p.Kind) >= len(policyNames):
		return faultf("%s is unknown", p)
	case p.Kind != PolicyFail && (p.Timeout < minPolicyTimeout || p.Timeout > maxPolicyTimeout):
		return faultf("bad policy %q: the time must be from %s to %s", p,
			formatDuration(minPolicyTimeout), formatDuration(maxPolicyTimeout))
	}
	return nil
}
