package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "../../.." // this one

// The chart and the changelog of this module agree on a version.
func TestVersionsAgree(t *testing.T) {
	if v, err := versionOf(module); err != nil {
		t.Error(err)
	} else if !strings.HasPrefix(v, "0.") && !strings.HasPrefix(v, "1.") {
		t.Errorf("version %q", v)
	}
}

func TestAgree(t *testing.T) {
	chart := func(version, app string) string { return fmt.Sprintf("version: %s\nappVersion: %q\n", version, app) }
	for _, test := range []struct{ name, chart, changes, want string }{
		{"released", chart("1.2.3", "1.2.3"), "# Changelog\n\n## Unreleased\n\n## 1.2.3 (2026-01-01)\n## 1.2.2\n", "1.2.3"},
		{"in brackets", chart("1.2.3", "1.2.3"), "## [1.2.3] - 2026-01-01\n", "1.2.3"},
		{"not yet", chart("1.3.0", "1.3.0"), "## Unreleased\n\n## 1.2.3\n", "1.3.0-next"},
		{"nothing released", chart("0.1.0", "0.1.0"), "## Unreleased\n", "0.1.0-next"},
		{"10 is more than 9", chart("0.10.0", "0.10.0"), "## 0.9.0\n", "0.10.0-next"},
		{"the chart was forgotten", chart("1.2.3", "1.2.3"), "## 1.3.0\n", ""},
		{"the service was forgotten", chart("1.3.0", "1.2.3"), "## 1.3.0\n", ""},
		{"no version", chart("latest", "latest"), "## 1.3.0\n", ""},
		{"leading zero", chart("1.02.3", "1.02.3"), "## 1.2.3\n", ""},
		{"a pre-release in the changelog", chart("1.2.3", "1.2.3"), "## 1.2.3-rc1\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := agree([]byte(test.chart), []byte(test.changes))
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("version %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

// small makes a module with programs that are quickly built, and the documents
// and the chart of this one.
func small(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		p := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module catbird\n\ngo 1.26\n")
	write("internal/obs/obs.go", "package obs\n\nvar version string\n\nfunc Version() string { return version }\n")
	for _, p := range programs {
		write("cmd/"+p+"/main.go", "package main\n\nimport \"catbird/internal/obs\"\n\nfunc main() { println(obs.Version()) }\n")
	}
	for _, d := range documents {
		text, err := os.ReadFile(filepath.Join(module, d))
		if err != nil {
			t.Fatal(err)
		}
		write(d, string(text))
	}
	if err := os.CopyFS(filepath.Join(root, chartFolder), os.DirFS(filepath.Join(module, chartFolder))); err != nil {
		t.Fatal(err)
	}
	write(chartFolder+"/values.yaml.orig", "left by an editor")
	return root
}

func releaseTo(t *testing.T, root string) (out string) {
	t.Helper()
	out = filepath.Join(t.TempDir(), "dist")
	c := cli{Root: root, Out: out, Epoch: 1_700_000_000, On: []string{runtime.GOOS + "/" + runtime.GOARCH}}
	if err := c.release(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

// all returns the files of a folder.
func all(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if files[n.Name()], err = os.ReadFile(filepath.Join(dir, n.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// Two builds, of sources in different folders that were touched at different
// times, are the same to the byte.
func TestReleaseIsReproducible(t *testing.T) {
	one, other := all(t, releaseTo(t, small(t))), all(t, releaseTo(t, small(t)))
	if len(one) != 4 { // an archive, its parts, the chart, the sums
		t.Errorf("%d files", len(one))
	}
	for name, data := range one {
		if !bytes.Equal(data, other[name]) {
			t.Errorf("%s differs", name)
		}
	}
	sums := string(one["SHA256SUMS"])
	for name, data := range one {
		if line := fmt.Sprintf("%x  %s\n", sha256.Sum256(data), name); name != "SHA256SUMS" && !strings.Contains(sums, line) {
			t.Errorf("SHA256SUMS has no line %q", line)
		}
	}
}

// contents returns the files of an archive and their modes, in their order.
func contents(t *testing.T, file string) (names []string, data map[string][]byte) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data = map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, data
		}
		if err != nil {
			t.Fatal(err)
		}
		if program := slices.Contains(programs, filepath.Base(h.Name)); program != (h.Mode&0o111 != 0) || h.Mode&0o444 != 0o444 {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		if data[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestArchiveHoldsWhatInstallingNeeds(t *testing.T) {
	out := releaseTo(t, small(t))
	version, err := versionOf(module)
	if err != nil {
		t.Fatal(err)
	}
	folder := archiveName(version, runtime.GOOS+"/"+runtime.GOARCH)
	_, data := contents(t, filepath.Join(out, folder+".tar.gz"))
	for _, name := range append(slices.Clone(programs), documents...) {
		if len(data[folder+"/"+name]) == 0 {
			t.Errorf("the archive holds no %s", name)
		}
	}
	if !bytes.Contains(data[folder+"/catbirdctl"], []byte("v"+version)) {
		t.Error("the programs do not know their version")
	}
	var list bom
	text, err := os.ReadFile(filepath.Join(out, folder+".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &list); err != nil || list.Format != "CycloneDX" || len(list.Components) != len(programs)+1 {
		t.Errorf("the list of parts: %v, %+v", err, list)
	}
	for _, c := range list.Components {
		if sum := sha256.Sum256(data[folder+"/"+c.Name]); c.Type == "application" && c.Hashes[0].Content != fmt.Sprintf("%x", sum) {
			t.Errorf("the sum of %s is that of another file", c.Name)
		}
	}
}

// A list names the modules that are in a program; here, in this test.
func TestListNamesModules(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "list.json")
	if err := writeBOM(target, "1.2.3", []string{self}, time.Unix(0, 0).UTC()); err != nil {
		t.Fatal(err)
	}
	var list bom
	text, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	refs := map[string]bool{list.Metadata.Component.Ref: true}
	for _, c := range list.Components {
		if refs[c.Ref] {
			t.Errorf("%s is there twice", c.Ref)
		}
		refs[c.Ref] = true
	}
	kong, yaml := false, false
	for _, c := range list.Components {
		kong = kong || strings.HasPrefix(c.PURL, "pkg:golang/github.com/alecthomas/kong@v")
		yaml = yaml || strings.HasPrefix(c.PURL, "pkg:golang/gopkg.in/yaml.v3@v")
	}
	if !kong || !yaml || !refs["pkg:golang/std@"+strings.TrimPrefix(runtime.Version(), "go")] {
		t.Errorf("modules are missing: %v", refs)
	}
	for _, d := range list.Dependencies {
		for _, ref := range append(d.DependsOn, d.Ref) {
			if !refs[ref] {
				t.Errorf("%s depends on %s, which is no component", d.Ref, ref)
			}
		}
	}
}

func TestChartIsPackedWhole(t *testing.T) {
	out := releaseTo(t, small(t))
	version, err := versionOf(module)
	if err != nil {
		t.Fatal(err)
	}
	names, data := contents(t, filepath.Join(out, "catbird-"+version+".tgz"))
	if len(names) == 0 || names[0] != "catbird/Chart.yaml" {
		t.Errorf("the chart begins with %q", names)
	}
	chart := os.DirFS(filepath.Join(module, chartFolder))
	err = fs.WalkDir(chart, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		want, err := fs.ReadFile(chart, p)
		if got, ok := data["catbird/"+p]; !ok || !bytes.Equal(got, want) {
			t.Errorf("the package lacks %s, or has another", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := data["catbird/values.yaml.orig"]; ok {
		t.Error("the package holds what .helmignore names")
	}
}

func TestRulesOfWhatIsLeftOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".helmignore")
	set := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("# a comment\n\n*.tgz\n.git/\n")
	rules, err := ignoreRules(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a.tgz": true, ".git": false, ".git/": true, "Chart.yaml": false} {
		if got := rules.match(strings.TrimSuffix(name, "/"), strings.HasSuffix(name, "/")); got != want {
			t.Errorf("%s is left out: %v, want %v", name, got, want)
		}
	}
	for _, bad := range []string{"!keep", "a/b", "[", "**/c"} {
		set(bad)
		if _, err := ignoreRules(file); err == nil {
			t.Errorf("the rule %q is taken for one that is understood", bad)
		}
	}
}

func TestBuildThatFails(t *testing.T) {
	root := small(t)
	for _, c := range []cli{
		{Root: root, Out: t.TempDir(), On: []string{"linux"}},
		{Root: root, Out: t.TempDir(), On: []string{"plan10/amd64"}},
		{Root: t.TempDir(), Out: t.TempDir()},
	} {
		if err := c.release(t.Context()); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
	if code := run([]string{"--root", root}); code == 0 {
		t.Error("without a time for the files it succeeds")
	}
}
