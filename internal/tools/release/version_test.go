package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tag, the chart, the changelog, the manifests and the manuals of this
// module agree.
func TestVersionsAgree(t *testing.T) {
	version := versionIn(t, module)
	if err := check(t.Context(), module, version); err != nil {
		t.Error(err)
	}
	// What both an image's tag and a label may be.
	if !regexp.MustCompile(`^\d+\.\d+\.\d+[0-9A-Za-z.-]*$`).MatchString(version) || len(version) > 63 {
		t.Errorf("the version is %q", version)
	}
}

func chartOf(version, app string) string {
	return fmt.Sprintf("version: %s\nappVersion: %q\n", version, app)
}

func TestAgree(t *testing.T) {
	const next = "1.3.0-next.20260101000000.g0123456789ab"
	for _, test := range []struct{ name, chart, changes, version, wrong string }{
		{"released", chartOf("1.2.3", "1.2.3"), "# Changelog\n\n## Unreleased\n\n## 1.2.3 (2026-01-01)\n\n- A.\n\n## 1.2.2\n", "1.2.3", ""},
		{"in brackets", chartOf("1.2.3", "1.2.3"), "## [Unreleased]\n\n## [1.2.3] - 2026-01-01\n", "1.2.3", ""},
		{"after a release", chartOf("1.2.3", "1.2.3"), "## Unreleased\n\n- B.\n\n## 1.2.3\n", "1.2.4-next", ""},
		{"before one", chartOf("1.3.0", "1.3.0"), "## Unreleased\n\n- B.\n\n## 1.2.3\n", next, ""},
		{"before the first", chartOf("0.1.0", "0.1.0"), "## Unreleased\n\n- A.\n", "0.1.0-next", ""},
		{"10 is more than 9", chartOf("0.10.0", "0.10.0"), "## 0.9.0\n", "0.10.0-next", ""},
		{"a candidate", chartOf("1.3.0", "1.3.0"), "## Unreleased\n\n- B.\n\n## 1.2.3\n", "1.3.0-rc.1", ""},
		{"a candidate too late", chartOf("1.3.0", "1.3.0"), "## 1.3.0\n", "1.3.0-rc.1", "has a section for 1.3.0"},
		{"the chart was forgotten", chartOf("1.2.3", "1.2.3"), "## 1.3.0\n", next, "set its version and appVersion to 1.3.0"},
		{"the service was forgotten", chartOf("1.3.0", "1.2.3"), "## 1.3.0\n", next, "set both to the same"},
		{"a tag without its chart", chartOf("1.2.3", "1.2.3"), "## 1.2.3\n", "1.3.0", "set its version and appVersion to 1.3.0"},
		{"a tag without its section", chartOf("1.3.0", "1.3.0"), "## Unreleased\n\n- B.\n\n## 1.2.3\n", "1.3.0", `call what is under Unreleased "## 1.3.0`},
		{"a tag on what came later", chartOf("1.2.3", "1.2.3"), "## Unreleased\n\n### Added\n\n## 1.2.3\n", "1.2.3", `move it below "## 1.2.3"`},
		{"no version", chartOf("latest", "latest"), "## 1.3.0\n", next, `"latest" is not MAJOR.MINOR.PATCH`},
		{"leading zero", chartOf("1.02.3", "1.02.3"), "## 1.2.3\n", next, `"1.02.3" is not`},
		{"a candidate in the changelog", chartOf("1.2.3", "1.2.3"), "## 1.2.3-rc1\n", next, `"1.2.3-rc1" is not`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := agree([]byte(test.chart), []byte(test.changes), test.version)
			if (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("%v; want %q", err, test.wrong)
			}
		})
	}
}

// history is a repository that knows how to say its version.
type history struct {
	t    *testing.T
	root string
}

func begin(t *testing.T, chart, changes string) history {
	t.Helper()
	h := history{t, t.TempDir()}
	h.write(versionScript, fileOf(t, versionScript))
	h.write(chartFile, chartOf(chart, chart))
	h.write(changelogFile, changes)
	return h
}

func (h history) write(name, text string) {
	h.t.Helper()
	p := filepath.Join(h.root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// git runs git in h, whoever is at this machine and however they set it up.
func (h history) git(args ...string) string {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), "git", args...)
	cmd.Dir = h.root
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org",
		"GIT_AUTHOR_DATE=2026-01-31T13:00:00+0100", "GIT_COMMITTER_DATE=2026-01-31T13:00:00+0100")
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (h history) commit() {
	h.t.Helper()
	h.git("init", "-q")
	h.git("add", ".")
	h.git("commit", "-q", "--allow-empty", "-m", "a commit")
}

// says fails unless the version is want, in which HASH stands for the commit's.
func (h history) says(want string) {
	h.t.Helper()
	if strings.Contains(want, "HASH") {
		want = strings.ReplaceAll(want, "HASH", "g"+h.git("rev-parse", "HEAD")[:12])
	}
	if got := versionIn(h.t, h.root); got != want {
		h.t.Errorf("the version is %s, want %s", got, want)
	}
}

const (
	someUnreleased = "# Changelog\n\n## Unreleased\n\n- B.\n\n## 1.2.3 (2026-01-01)\n\n- A.\n"
	allReleased    = "# Changelog\n\n## Unreleased\n\n## 1.2.3 (2026-01-01)\n\n- A.\n"
)

func TestVersionIsThatOfTheTag(t *testing.T) {
	h := begin(t, "1.2.3", allReleased)
	h.commit()
	h.says("1.2.4-next.20260131120000.HASH")
	for _, other := range []string{"1.2.3", "v1.2", "v01.2.3", "nightly", "v1.2.3+build"} {
		h.git("tag", other)
	}
	h.says("1.2.4-next.20260131120000.HASH")
	h.git("tag", "v1.2.3-rc.1")
	h.says("1.2.3-rc.1")
	h.git("tag", "-a", "-m", "a release", "v1.2.3")
	h.says("1.2.3")
	h.write("main.go", "package main")
	h.says("1.2.4-next.20260131120000.HASH.dirty")
	h.commit()
	h.says("1.2.4-next.20260131120000.HASH")
	if err := os.Remove(filepath.Join(h.root, "main.go")); err != nil {
		t.Fatal(err)
	}
	h.says("1.2.4-next.20260131120000.HASH.dirty")
}

func TestVersionOfTheNextOneIsThatOfTheChart(t *testing.T) {
	h := begin(t, "1.3.0", someUnreleased)
	h.commit()
	h.says("1.3.0-next.20260131120000.HASH")
}

// As an image is built: some files are left out, and others may be changed.
func TestVersionOfAPartOfTheTree(t *testing.T) {
	h := begin(t, "1.2.3", allReleased)
	h.write("main.go", "package main")
	h.write("manual.md", "# Manual")
	h.commit()
	h.git("tag", "v1.2.3")
	if err := os.Remove(filepath.Join(h.root, "manual.md")); err != nil {
		t.Fatal(err)
	}
	partial := func() string {
		out, err := output(t.Context(), h.root, "sh", versionScript, "partial")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := partial(); got != "1.2.3" {
		t.Errorf("the version is %s without a manual", got)
	}
	h.write("main.go", "package other")
	if got := partial(); !strings.HasSuffix(got, ".dirty") {
		t.Errorf("the version is %s with another program", got)
	}
}

func TestVersionWithoutGit(t *testing.T) {
	begin(t, "1.2.3", allReleased).says("1.2.3")
	begin(t, "1.2.3", someUnreleased).says("1.2.4-next")
	begin(t, "1.3.0", someUnreleased).says("1.3.0-next")

	// A worktree that was copied alone has a file that leads nowhere.
	h := begin(t, "1.3.0", someUnreleased)
	h.write(".git", "gitdir: /nowhere/worktrees/a\n")
	h.says("1.3.0-next")

	// The repository around it is another's.
	outer := begin(t, "1.2.3", allReleased)
	outer.commit()
	outer.git("tag", "v1.2.3")
	inner := history{t, filepath.Join(outer.root, "vendored")}
	inner.write(versionScript, fileOf(t, versionScript))
	inner.write(chartFile, chartOf("0.3.0", "0.3.0"))
	inner.write(changelogFile, "## Unreleased\n\n- A.\n")
	inner.says("0.3.0-next")
}

func TestMisspeltTagsAreFound(t *testing.T) {
	h := begin(t, "1.2.3", allReleased)
	h.commit()
	h.git("tag", "nightly")
	if err := tags(t.Context(), h.root); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"1.2.3", "v1.2", "1.2.3-rc.1"} {
		h.git("tag", bad)
		if err := tags(t.Context(), h.root); err == nil || !strings.Contains(err.Error(), "the tag "+bad+" ") {
			t.Errorf("the tag %s: %v", bad, err)
		}
		h.git("tag", "-d", bad)
	}
}

func TestManualsOfAnotherVersionAreFound(t *testing.T) {
	root := small(t)
	chart := regexp.MustCompile(`(?m)^version: (.*)$`).FindStringSubmatch(fileOf(t, chartFile))[1]
	h := history{t, root}
	for text, wrong := range map[string]bool{
		"catbird:" + chart: false, "catbird_" + chart + "_linux_amd64.tar.gz": false, "catbird-nodes and catbird:100": false,
		"registry.example.org/catbird:v" + chart: true, "catbird-99.0.0.tgz": true,
	} {
		h.write("docs/manual.md", "# Manual\n\n"+text+"\n")
		if err := mentions(root, chart); (err != nil) != wrong || wrong && !strings.Contains(err.Error(), "docs/manual.md:3 says") {
			t.Errorf("%s: %v", text, err)
		}
	}
	h.write("docs/manual.md", "# Manual\n")
	if err := mentions(root, "99.0.0"); err == nil || !strings.Contains(err.Error(), "run `make chart`") {
		t.Errorf("manifests of another version: %v", err)
	}
}

func TestVersionThatCannotBeTold(t *testing.T) {
	if _, err := versionOf(t.Context(), t.TempDir()); err == nil {
		t.Error("a version of nothing")
	}
	h := begin(t, "1.2.3", allReleased)
	h.commit()
	ended, end := context.WithCancel(t.Context())
	end()
	if err := tags(ended, h.root); err == nil {
		t.Error("git was not asked, and no error")
	}
}
