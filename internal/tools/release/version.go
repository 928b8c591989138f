package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

const (
	chartFolder   = "charts/catbird"
	chartFile     = chartFolder + "/Chart.yaml"
	changelogFile = "CHANGELOG.md"
	// versionScript is the one place that says what the version is.
	versionScript = "tools/version.sh"
	// upcoming is in the version of what is not released.
	upcoming = "-next"
)

// versionOf returns the version of what is in root.
func versionOf(ctx context.Context, root string) (string, error) {
	out, err := output(ctx, root, "sh", versionScript)
	if err != nil {
		return "", fmt.Errorf("asking %s for the version: %w", versionScript, err)
	}
	return out, nil
}

// output runs a program and returns what it prints.
func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%w: %s", err, bytes.TrimSpace(failed.Stderr))
	}
	return string(bytes.TrimSpace(out)), err
}

// check returns where what is in root contradicts its version or itself.
func check(ctx context.Context, root, version string) error {
	chart, err := os.ReadFile(filepath.Join(root, chartFile))
	if err != nil {
		return fmt.Errorf("reading the chart's version: %w", err)
	}
	changes, err := os.ReadFile(filepath.Join(root, changelogFile))
	if err != nil {
		return fmt.Errorf("reading the changelog: %w", err)
	}
	own, err := agree(chart, changes, version)
	if err != nil {
		return err
	}
	return errors.Join(mentions(root, own), tags(ctx, root))
}

var (
	// section is the heading of a version in the changelog.
	section = regexp.MustCompile(`(?m)^## \[?(\d+\.\d+\.\d+[^\]\s]*)\]?`)
	// unreleased is what the changelog says of no version yet.
	unreleased = regexp.MustCompile(`(?ms)^## \[?Unreleased\]?[^\n]*\n(.*?)(?:^## |\z)`)
)

// agree returns the chart's version, or what must be changed for the chart, the
// changelog and version to agree. The chart is at what was released last, or at
// what comes next; where version was released, at that, and nothing is left over
// in the changelog.
func agree(chart, changes []byte, version string) (string, error) {
	var c struct {
		Version    string `yaml:"version"`
		AppVersion string `yaml:"appVersion"`
	}
	if err := yaml.Unmarshal(chart, &c); err != nil {
		return "", fmt.Errorf("reading %s: %w", chartFile, err)
	}
	own, err := parseVersion(c.Version)
	switch {
	case err != nil:
		return "", fmt.Errorf("version in %s: %w", chartFile, err)
	case c.AppVersion != c.Version:
		return "", fmt.Errorf("%s has version %s and appVersion %s: they are released together, so set both to the same", chartFile, c.Version, c.AppVersion)
	}
	newest := ""
	if m := section.FindSubmatch(changes); m != nil {
		newest = string(m[1])
		released, err := parseVersion(newest)
		if err != nil {
			return "", fmt.Errorf("newest version in %s: %w", changelogFile, err)
		}
		if own.before(released) {
			return "", fmt.Errorf("%s has a section for %s, and %s is still at %s: set its version and appVersion to %[2]s, and run `make chart`",
				changelogFile, newest, chartFile, c.Version)
		}
	}
	if strings.Contains(version, upcoming) {
		return c.Version, nil
	}
	core, _, isCandidate := strings.Cut(version, "-")
	left := unreleased.FindSubmatch(changes)
	switch {
	case core != c.Version:
		return "", fmt.Errorf("the tag is v%s, and %s is at %s: set its version and appVersion to %s, run `make chart`, commit, and tag that commit",
			version, chartFile, c.Version, core)
	case isCandidate && newest == core:
		return "", fmt.Errorf("the tag is v%s, and %s has a section for %s, which comes after it: take away the section or the tag", version, changelogFile, core)
	case !isCandidate && newest != core:
		return "", fmt.Errorf("the tag is v%s, and the newest version in %s is %q: call what is under Unreleased \"## %[1]s (DATE)\", commit, and tag that commit",
			version, changelogFile, newest)
	case !isCandidate && left != nil && len(bytes.TrimSpace(left[1])) > 0:
		return "", fmt.Errorf("the tag is v%s, and %s still has something under Unreleased: move it below \"## %[1]s\", commit, and tag that commit",
			version, changelogFile)
	}
	return c.Version, nil
}

// mention is a version of an image or an archive.
var mention = regexp.MustCompile(`\bcatbird[:_-](v?\d+\.\d+\.\d+)\b`)

// mentions looks for versions other than own in what is published beside the
// programs. Nobody who follows a manual is to get another version than its.
func mentions(root, own string) error {
	files, err := documents(root)
	if err != nil {
		return err
	}
	var wrong []error
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return fmt.Errorf("looking for versions: %w", err)
		}
		if name == changelogFile { // it is about all of them
			continue
		}
		for _, m := range mention.FindAllSubmatchIndex(text, -1) {
			if said := string(text[m[2]:m[3]]); said != own {
				todo := "write " + own
				if strings.HasPrefix(name, "k8s/") {
					todo = "run `make chart`"
				}
				line := 1 + bytes.Count(text[:m[0]], []byte("\n"))
				wrong = append(wrong, fmt.Errorf("%s:%d says %s, and %s is at %s: %s", name, line, text[m[0]:m[1]], chartFile, own, todo))
			}
		}
	}
	return errors.Join(wrong...)
}

var (
	versionTag = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)
	likeOne    = regexp.MustCompile(`^v?\d+\.\d`)
)

// tags looks for a tag that is meant for a version and is not taken for one.
func tags(ctx context.Context, root string) error {
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		return nil // an archive, or a part of something else
	}
	out, err := output(ctx, root, "git", "tag", "--points-at", "HEAD")
	if err != nil {
		return fmt.Errorf("looking for tags: %w", err)
	}
	for tag := range strings.FieldsSeq(out) {
		if likeOne.MatchString(tag) && !versionTag.MatchString(tag) {
			return fmt.Errorf("the tag %s is not taken for a version: call it vMAJOR.MINOR.PATCH", tag)
		}
	}
	return nil
}

// semver is a version of three numbers.
type semver [3]int

func parseVersion(s string) (v semver, err error) {
	parts := strings.Split(s, ".")
	if len(parts) != len(v) {
		return v, fmt.Errorf("%q is not MAJOR.MINOR.PATCH", s)
	}
	for i, p := range parts {
		if v[i], err = strconv.Atoi(p); err != nil || v[i] < 0 || strconv.Itoa(v[i]) != p {
			return v, fmt.Errorf("%q is not MAJOR.MINOR.PATCH", s)
		}
	}
	return v, nil
}

func (v semver) before(o semver) bool {
	for i := range v {
		if v[i] != o[i] {
			return v[i] < o[i]
		}
	}
	return false
}
