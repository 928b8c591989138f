package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

const (
	chartFolder   = "charts/catbird"
	changelogFile = "CHANGELOG.md"
)

// upcoming is added to the version of what is not released yet.
const upcoming = "-next"

// versionOf returns the version that the chart and the changelog in root agree
// on: that of the chart, with upcoming behind it while the changelog has no
// section for it.
func versionOf(root string) (string, error) {
	chart, err := os.ReadFile(filepath.Join(root, chartFolder, "Chart.yaml"))
	if err != nil {
		return "", fmt.Errorf("reading the chart's version: %w", err)
	}
	changes, err := os.ReadFile(filepath.Join(root, changelogFile))
	if err != nil {
		return "", fmt.Errorf("reading the changelog: %w", err)
	}
	return agree(chart, changes)
}

// section is the heading of a version in the changelog.
var section = regexp.MustCompile(`(?m)^## \[?(\d+\.\d+\.\d+[^\]\s]*)\]?`)

// agree returns what the two files say, or where they contradict each other.
func agree(chart, changes []byte) (string, error) {
	var c struct {
		Version    string `yaml:"version"`
		AppVersion string `yaml:"appVersion"`
	}
	if err := yaml.Unmarshal(chart, &c); err != nil {
		return "", fmt.Errorf("reading Chart.yaml: %w", err)
	}
	own, err := parseVersion(c.Version)
	switch {
	case err != nil:
		return "", fmt.Errorf("version in Chart.yaml: %w", err)
	case c.AppVersion != c.Version:
		return "", fmt.Errorf("the chart has version %s and appVersion %s: they are released together", c.Version, c.AppVersion)
	}
	newest := section.FindSubmatch(changes)
	if newest == nil {
		return c.Version + upcoming, nil
	}
	released, err := parseVersion(string(newest[1]))
	switch {
	case err != nil:
		return "", fmt.Errorf("newest version in %s: %w", changelogFile, err)
	case released == own:
		return c.Version, nil
	case own.before(released):
		return "", fmt.Errorf("%s has a section for %s, and the chart is still at %s", changelogFile, newest[1], c.Version)
	default:
		return c.Version + upcoming, nil
	}
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
