// Command generate writes what is made from the Helm chart: the plain manifests in
// k8s/ and the table of values in the chart's README. It is run from the root of
// its module, by `make chart`, and exits with 1 after a failure.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"catbird/charts/test/chart"
	"catbird/charts/test/manifests"
	"catbird/charts/test/readme"
)

const root = "../../k8s"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate: error:", err)
		os.Exit(1)
	}
}

func run() error {
	if err := writeTable(filepath.Join(chart.Dir, "README.md"), filepath.Join(chart.Dir, "values.yaml")); err != nil {
		return err
	}
	c, err := chart.Open(chart.Dir)
	if err != nil {
		return err
	}
	files, err := manifests.Generate(c, root)
	if err != nil {
		return err
	}
	if err := removeStale(files); err != nil {
		return err
	}
	for name, text := range files {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func writeTable(file, values string) error {
	text, err := os.ReadFile(values)
	if err != nil {
		return err
	}
	all, err := readme.Values(text)
	if err != nil {
		return fmt.Errorf("%s: %w", values, err)
	}
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	updated, err := readme.Insert(string(old), readme.Table(all))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(updated), 0o644)
}

// removeStale removes what was generated before and is not any more.
func removeStale(files map[string]string) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if _, wanted := files[filepath.ToSlash(name)]; wanted || !strings.HasPrefix(string(text), manifests.Header) {
			return nil
		}
		return os.Remove(p)
	})
}
