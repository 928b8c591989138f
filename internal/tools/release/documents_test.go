package main

import (
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// What the manuals of an archive link to is in it.
func TestLinksLeadIntoTheArchive(t *testing.T) {
	all, n := shipped(t), 0
	for _, name := range all {
		if path.Ext(name) != ".md" {
			continue
		}
		for _, m := range regexp.MustCompile(`\]\(([^)\s#]+)(?:#[^)\s]*)?\)`).FindAllStringSubmatch(fileOf(t, name), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			n++
			if target := path.Join(path.Dir(name), m[1]); !slices.ContainsFunc(all, func(f string) bool {
				return f == target || strings.HasPrefix(f, target+"/")
			}) {
				t.Errorf("%s links to %s, which is not shipped", name, m[1])
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d links were found", n)
	}
}

// What the manual for operators tells them to install, check or start is shipped.
func TestFilesThatOperatorsAreToldOfAreShipped(t *testing.T) {
	all, n := shipped(t), 0
	for _, name := range []string{"docs/operations.md", "docs/migration.md", "docs/runbooks.md", "k8s/README.md", "charts/catbird/README.md"} {
		for _, m := range regexp.MustCompile("(?m)(?:^|[ `])((?:deploy|charts|k8s|docs)/[a-z0-9/_.-]*[a-z])").FindAllStringSubmatch(fileOf(t, name), -1) {
			n++
			told := m[1]
			if !slices.ContainsFunc(all, func(f string) bool { return f == told || strings.HasPrefix(f, told+"/") }) {
				t.Errorf("%s tells of %s, which is not shipped", name, told)
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d were found", n)
	}
}

func TestNothingLeftByEditorsIsShipped(t *testing.T) {
	root := small(t)
	h := history{t, root}
	h.write("docs/manual.md.orig", "left by an editor")
	h.write("deploy/.DS_Store", "left by a file manager")
	out, version := releaseTo(t, root), versionIn(t, root)
	names, _ := contents(t, filepath.Join(out, archiveName(version, runtime.GOOS+"/"+runtime.GOARCH)+".tar.gz"))
	for _, name := range names {
		if strings.HasSuffix(name, ".orig") || strings.HasSuffix(name, ".DS_Store") {
			t.Errorf("the archive holds %s", name)
		}
	}
}
