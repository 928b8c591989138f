package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// packChart writes the chart in folder as helm package --version --app-version
// does: all of its files in a folder of the chart's name, without those that
// .helmignore names.
func packChart(target, folder, version string, at time.Time) error {
	ignored, err := ignoreRules(filepath.Join(folder, ".helmignore"))
	if err != nil {
		return err
	}
	files, err := filesIn(folder, ignored)
	if err != nil {
		return fmt.Errorf("listing the chart: %w", err)
	}
	var entries []entry
	for _, name := range files {
		data, err := read(filepath.Join(folder, filepath.FromSlash(name)), name, version)
		if err != nil {
			return err
		}
		entries = append(entries, entry{name: path.Join("catbird", name), data: data, mode: 0o644})
	}
	// Chart.yaml comes first, for those who read no further; else by name.
	slices.SortStableFunc(entries, func(a, b entry) int {
		return rank(a.name) - rank(b.name)
	})
	return writeArchive(target, entries, at)
}

func rank(name string) int {
	if name == "catbird/Chart.yaml" {
		return 0
	}
	return 1
}

// ignore are the rules of a .helmignore, as far as they are patterns of names.
type ignore []string

func ignoreRules(file string) (ignore, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading what is left out: %w", err)
	}
	var rules ignore
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "!") || strings.Contains(strings.TrimSuffix(line, "/"), "/") {
			return nil, fmt.Errorf("%s: the rule %q is none that is understood here", file, line)
		}
		if _, err := path.Match(strings.TrimSuffix(line, "/"), ""); err != nil {
			return nil, fmt.Errorf("%s: the rule %q: %w", file, line, err)
		}
		rules = append(rules, line)
	}
	return rules, nil
}

func (r ignore) match(name string, folder bool) bool {
	return slices.ContainsFunc(r, func(rule string) bool {
		pattern, onlyFolders := strings.CutSuffix(rule, "/")
		ok, err := path.Match(pattern, name)
		return err == nil && ok && (folder || !onlyFolders)
	})
}
