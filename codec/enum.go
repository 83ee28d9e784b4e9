package codec

import (
	"fmt"
	"slices"
	"strings"
)

// enumName returns the name of a small number, or the number.
func enumName(names []string, v uint8) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprint(v)
}

// parseEnum sets v to the place of text in names.
func parseEnum(v *uint8, what, text string, names []string) error {
	i := slices.Index(names, text)
	if i < 0 {
		return fmt.Errorf("codec: %s %q: want %s", what, text, strings.Join(names, ", "))
	}
	*v = uint8(i)
	return nil
}
