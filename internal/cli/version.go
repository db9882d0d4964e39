package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is the version of this source.
const release = "0.1.0-dev"

// version is the release and, if the build recorded it, the revision.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return release + "+" + s.Value[:12]
		}
	}
	return release
}

type versionCmd struct {
	jsonFlag
}

// Run prints the version.
func (c versionCmd) Run(std Streams) error {
	if c.JSON {
		return printJSON(std.Out, map[string]string{"version": version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
	}
	_, err := fmt.Fprintf(std.Out, "grahak %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
