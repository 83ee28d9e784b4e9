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
	i, found := s.find(pattern)
	if !found {
		s.patterns = slices.Insert(s.patterns, i, entry[T]{})
	}
	s.patterns[i] = entry[T]{pattern, value}
}

// Delete removes a pattern and its value, if there.
func (s *Set[T]) Delete(pattern string) {
	delete(s.exact, pattern)
	if i, found := s.find(pattern); found {
		s.patterns = slices.Delete(s.patterns, i, i+1)
	}
}

// Get returns the value stored for exactly this pattern.
func (s *Set[T]) Get(pattern string) (value T, ok bool) {
	if i, found := s.find(pattern); found {
		return s.patterns[i].value, true
	}
	value, ok = s.exact[pattern]
	return value, ok
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

// Len returns the number of patterns, exact names included.
func (s *Set[T]) Len() int { return len(s.exact) + len(s.patterns) }

// find returns where the pattern is, or where it belongs.
func (s *Set[T]) find(pattern string) (int, bool) {
	return sort.Find(len(s.patterns), func(i int) int { return compare(pattern, s.patterns[i].pattern) })
}
