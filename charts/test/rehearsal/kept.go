package rehearsal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"catbird/charts/test/chart"
)

// Kept are the plans that are kept for tests, by their files' names, with the files
// of values that each is made with. Paths begin at the root of this module.
var Kept = map[string][]string{
	"default.json":    nil,
	"production.json": {chart.Dir + "/values-production.yaml"},
	"canary.json":     {values("canary")},
	"both.json":       {values("canary"), values("both")},
	"partition.json":  {values("next"), values("partition")},
	"next.json":       {values("next")},
	"hook.json":       {values("hook")},
}

func values(name string) string { return filepath.Join("rehearsal", "values", name+".yaml") }

// Keep returns the text of each kept plan.
func Keep() (map[string]string, error) {
	out := map[string]string{}
	for name, files := range Kept {
		p, err := Chart(chart.Dir, files...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		var text strings.Builder
		if err := p.Write(&text); err != nil {
			return nil, err
		}
		out[name] = text.String()
	}
	return out, nil
}

// WriteKept writes the kept plans into a folder in which nothing else lies.
func WriteKept(dir string) error {
	all, err := Keep()
	if err != nil {
		return err
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, file := range there {
		if _, kept := all[file.Name()]; !kept {
			if err := os.Remove(filepath.Join(dir, file.Name())); err != nil {
				return err
			}
		}
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
