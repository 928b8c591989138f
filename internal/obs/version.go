package obs

import (
	"runtime/debug"
	"strings"
)

// version is set by the linker: -X catbird/internal/obs.version=1.2.3.
var version string

// Version returns the version of this build, without a v: what the linker was
// told, else the one that go build has from git, else "dev".
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	return versionFrom(info)
}

func versionFrom(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		// 1.2.3, or 1.2.4-0.20260131120000-0123456789ab+dirty where there is no tag.
		return strings.TrimPrefix(v, "v")
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "-dirty"
			}
		}
	}
	if revision == "" {
		return "dev"
	}
	return "dev-" + revision + dirty
}
