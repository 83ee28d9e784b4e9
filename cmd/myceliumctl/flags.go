package main

import (
	"errors"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/torq/mycelium/internal/config"
)

// flagError is a flag that cannot be read, with the way out.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		if near := config.Nearest(unknown.GetSpecifiedName(), names); near != "" {
			return withHint(err, "did you mean --"+near+"?")
		}
	}
	return withHint(err, "see "+c.CommandPath()+" --help")
}

var (
	exclusive = regexp.MustCompile(`^if any flags in the group \[.*\] are set none of the others can be; \[(.*)\] were all set$`)
	required  = regexp.MustCompile(`^required flag\(s\) "(.*)" not set$`)
)

// plainFlags says in plain words what cobra says of flags that exclude each
// other, or are missing.
func plainFlags(err error) error {
	if m := exclusive.FindStringSubmatch(err.Error()); m != nil {
		return errors.New("--" + strings.Join(strings.Fields(m[1]), " and --") + " exclude each other: give one of them")
	}
	if m := required.FindStringSubmatch(err.Error()); m != nil {
		return errors.New("--" + strings.ReplaceAll(m[1], `", "`, " and --") + " is missing")
	}
	return err
}

// above0 refuses flags that were given as 0 where no flag means the default.
func above0(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f.Changed && (f.Value.String() == "0" || f.Value.String() == "0s") {
			return usagef("--%s %s: must be above 0", name, f.Value)
		}
	}
	return nil
}
