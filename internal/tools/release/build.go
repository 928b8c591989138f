package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// programs are what is published.
var programs = []string{"catbird-server", "catbirdctl", "catbird-load"}

// build compiles the programs for a platform, such as linux/arm64, into dir and
// returns the files. Nothing of this machine gets into them: no paths, no state
// of the checkout, no C library.
func build(ctx context.Context, root, dir, on, version string) ([]string, error) {
	system, machine, ok := strings.Cut(on, "/")
	if !ok {
		return nil, fmt.Errorf("%q is not system/machine", on)
	}
	args := []string{
		"build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X catbird/internal/obs.version=" + version, "-o", dir + string(filepath.Separator),
	}
	var files []string
	for _, p := range programs {
		args = append(args, "./cmd/"+p)
		files = append(files, filepath.Join(dir, p))
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOTOOLCHAIN=local", "GOAMD64=v1", "GOARM64=v8.0", "GOOS="+system, "GOARCH="+machine)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return files, nil
}

func archiveName(version, on string) string {
	return "catbird_" + version + "_" + strings.ReplaceAll(on, "/", "_")
}

// entriesOf returns what an archive holds, all of it in one folder.
func entriesOf(folder, root, version string, binaries []string) ([]entry, error) {
	var all []entry
	for _, b := range binaries {
		all = append(all, entry{name: folder + "/" + filepath.Base(b), file: b, mode: 0o755})
	}
	files, err := documents(root)
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		data, err := read(filepath.Join(root, filepath.FromSlash(name)), name, version)
		if err != nil {
			return nil, err
		}
		all = append(all, entry{name: folder + "/" + name, data: data, mode: 0o644})
	}
	return all, nil
}
