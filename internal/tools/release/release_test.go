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
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "../../.." // this one

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
	write(versionScript, fileOf(t, versionScript))
	write("go.mod", "module catbird\n\ngo 1.26\n")
	write("internal/obs/obs.go", "package obs\n\nvar version string\n\nfunc Version() string { return version }\n")
	for _, p := range programs {
		write("cmd/"+p+"/main.go", "package main\n\nimport \"catbird/internal/obs\"\n\nfunc main() { println(obs.Version()) }\n")
	}
	write(chartFolder+"/.helmignore", fileOf(t, chartFolder+"/.helmignore"))
	for _, d := range shipped(t) {
		write(d, fileOf(t, d))
	}
	write(chartFolder+"/values.yaml.orig", "left by an editor")
	return root
}

// fileOf returns a file of this module.
func fileOf(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(module, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// shipped returns what goes beside the programs of this module.
func shipped(t *testing.T) []string {
	t.Helper()
	files, err := documents(module)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// versionIn returns the version of what is in root.
func versionIn(t *testing.T, root string) string {
	t.Helper()
	version, err := versionOf(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	return version
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
	root := small(t)
	out, version := releaseTo(t, root), versionIn(t, root)
	folder := archiveName(version, runtime.GOOS+"/"+runtime.GOARCH)
	_, data := contents(t, filepath.Join(out, folder+".tar.gz"))
	for _, name := range append(slices.Clone(programs), shipped(t)...) {
		if len(data[folder+"/"+name]) == 0 {
			t.Errorf("the archive holds no %s", name)
		}
	}
	if !bytes.Contains(data[folder+"/catbirdctl"], []byte(version)) {
		t.Error("the programs do not know their version")
	}
	if text := data[folder+"/k8s/base/statefulset-catbird.yaml"]; !bytes.Contains(text, []byte("image: catbird:"+version+"\n")) {
		t.Error("the manifests ask for another image")
	}
	if text := data[folder+"/docker-compose.yml"]; !bytes.Contains(text, []byte("image: ${IMAGE:-catbird}:${VERSION:-"+version+"}\n")) {
		t.Error("docker compose asks for another image")
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
	root := small(t)
	out, version := releaseTo(t, root), versionIn(t, root)
	names, data := contents(t, filepath.Join(out, "catbird-"+version+".tgz"))
	if len(names) == 0 || names[0] != "catbird/Chart.yaml" {
		t.Errorf("the chart begins with %q", names)
	}
	chart := os.DirFS(filepath.Join(module, chartFolder))
	err := fs.WalkDir(chart, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		want, err := fs.ReadFile(chart, p)
		if p == "Chart.yaml" { // what helm says of a package is what it is called
			want = regexp.MustCompile(`(?m)^(version: |appVersion: ")[0-9.]+`).ReplaceAll(want, []byte("${1}"+version))
		}
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
	if err := os.WriteFile(filepath.Join(root, changelogFile), []byte("## 99.0.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := cli{Root: root, Out: filepath.Join(t.TempDir(), "dist"), On: []string{runtime.GOOS + "/" + runtime.GOARCH}}
	if err := c.release(t.Context()); err == nil || !strings.Contains(err.Error(), "is still at") {
		t.Errorf("a chart that was forgotten is released: %v", err)
	}
	if _, err := os.Stat(c.Out); err == nil {
		t.Error("something was built of it")
	}
	if code := run([]string{"--root", root}); code == 0 {
		t.Error("without a time for the files it succeeds")
	}
}
