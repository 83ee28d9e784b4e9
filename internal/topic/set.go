package topic

import (
	"iter"
	"slices"
	"sort"
)

// A Set holds one value per pattern and finds those that apply to a name: exact names
// by hash, patterns by a scan in order of precedence. The zero value is an empty set.
// Not safe for concurrent use.
type Set[T any] struct {
	exact    map[string]T
	patterns []entry[T] // most specific first
}

type entry[T any] struct {
	pattern string
	value   T
}

// Put stores the value of a pattern, replacing the one it had.
//
// Preconditions: CheckPattern(pattern) == nil.
func (s *Set[T]) Put(pattern string, value T) {
	if !IsPattern(pattern) {
		if s.exact == nil {
			s.exact = make(map[string]T)
		}
		s.exact[pattern] = value
		return
	}
	i, found := sort.Find(len(s.patterns), func(i int) int { return compare(pattern, s.patterns[i].pattern) })
	if !found {
		s.patterns = slices.Insert(s.patterns, i, entry[T]{})
	}
	s.patterns[i] = entry[T]{pattern, value}
}

// Lookup returns the most specific pattern that matches name, and its value.
//
// Preconditions: Check(name) == nil.
func (s *Set[T]) Lookup(name string) (pattern string, value T, ok bool) {
	for pattern, value := range s.Matching(name) {
		return pattern, value, true
	}
	return "", value, false
}

// Matching yields every pattern that matches name with its value, most specific
// first. The set must not change during the iteration.
//
// Preconditions: Check(name) == nil.
func (s *Set[T]) Matching(name string) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		if v, ok := s.exact[name]; ok && !yield(name, v) {
			return
		}
		for _, e := range s.patterns {
			if Match(e.pattern, name) && !yield(e.pattern, e.value) {
				return
			}
		}
	}
}
