package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

type versionInfo struct {
	Version        string `json:"version"`
	Revision       string `json:"revision"` // "" = not built from a checkout
	Modified       bool   `json:"modified"`
	LayoutVersion  string `json:"layout_version"`
	ControlVersion int    `json:"control_version"`
	Go             string `json:"go"`
	Platform       string `json:"platform"`
}

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of this program, the layout and the control protocol",
		Example: `  myceliumctl version -o json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versionInfo{LayoutVersion: fmt.Sprintf("%d.%d", layout.Major, layout.Minor), ControlVersion: control.Version,
				Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Version: "(devel)"}
			if b, ok := debug.ReadBuildInfo(); ok {
				v.Version = cmp.Or(b.Main.Version, v.Version)
				for _, s := range b.Settings {
					switch s.Key {
					case "vcs.revision":
						v.Revision = s.Value
					case "vcs.modified":
						v.Modified = s.Value == "true"
					}
				}
			}
			return a.print(cmd, "version", v, func(w io.Writer) {
				fmt.Fprintf(w, "myceliumctl %s\n", v.Version)
				if v.Revision != "" {
					fmt.Fprintf(w, "revision  %s%s\n", v.Revision, map[bool]string{true: " (modified)"}[v.Modified])
				}
				fmt.Fprintf(w, "layout    %s\ncontrol   %d\ngo        %s %s\n", v.LayoutVersion, v.ControlVersion, v.Go, v.Platform)
			})
		},
	}
}
