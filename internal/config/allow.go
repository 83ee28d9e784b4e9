package config

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// overflowID is what the kernel shows for a user or group that has no mapping in the
// registry's user namespace. It stands for anybody, so it is never admitted.
const overflowID = 65534

// A Principal is one entry of an allow-list: a user or a group, by number.
type Principal struct {
	Group bool   // ID is a gid; else a uid
	ID    uint32 // as the registry's host knows it
	Text  string // as written: "uid:1000", "group:trading", "alice"
}

// An AllowList says who may publish on a topic, or subscribe to it. nil leaves it to
// the registry's access rule; a list that is empty admits nobody.
type AllowList []Principal

// Allows reports whether the list admits a process of this user and these groups.
func (l AllowList) Allows(uid uint32, gids ...uint32) bool {
	if uid == overflowID {
		return false
	}
	return slices.ContainsFunc(l, func(p Principal) bool {
		if p.Group {
			return slices.Contains(gids, p.ID)
		}
		return p.ID == uid
	})
}

// ParsePrincipal reads "uid:N", "gid:N", "user:NAME", "group:NAME" or a user name, and
// looks names up on this host.
func ParsePrincipal(s string) (Principal, error) {
	p := Principal{Text: s}
	kind, name, ok := strings.Cut(s, ":")
	if !ok {
		kind, name = "user", s
	}
	p.Group = kind == "gid" || kind == "group"
	number := name
	var err error
	switch {
	case name == "":
		err = errors.New("the name is missing")
	case kind == "uid", kind == "gid":
	case kind == "user":
		var u *user.User
		if u, err = user.Lookup(name); err == nil {
			number = u.Uid
		} else if errors.As(err, new(user.UnknownUserError)) {
			err = errors.New("this host has no such user")
		}
	case kind == "group":
		var g *user.Group
		if g, err = user.LookupGroup(name); err == nil {
			number = g.Gid
		} else if errors.As(err, new(user.UnknownGroupError)) {
			err = errors.New("this host has no such group")
		}
	default:
		err = errors.New(`write "uid:N", "gid:N", "user:NAME", "group:NAME" or a user name`)
	}
	if err != nil {
		return Principal{}, fmt.Errorf("bad entry %q: %w", s, err)
	}
	id, err := strconv.ParseUint(number, 10, 32)
	switch {
	case err != nil || id == 1<<32-1:
		return Principal{}, fmt.Errorf("bad entry %q: %q is not a number from 0 to 4294967294", s, number)
	case id == overflowID:
		return Principal{}, fmt.Errorf("bad entry %q: %d stands for users unknown to this host and is never admitted", s, id)
	}
	p.ID = uint32(id)
	return p, nil
}
