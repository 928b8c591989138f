package main

import (
	"cmp"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// bom is a list of parts in the form of CycloneDX 1.5.
type bom struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	PURL       string     `json:"purl,omitempty"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// writeBOM writes what the programs are made of: what the linker wrote into
// them, so exactly what is in them, and nothing that is needed for tests only.
func writeBOM(target, version string, binaries []string, at time.Time) error {
	root := component{Type: "application", Ref: "catbird", Name: "catbird", Version: version}
	list := bom{
		Format: "CycloneDX", Spec: "1.5", Version: 1,
		Metadata: metadata{Timestamp: at.Format(time.RFC3339), Component: root},
	}
	seen := map[string]bool{}
	needs := []string{}
	for _, file := range binaries {
		info, err := buildinfo.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading what %s is made of: %w", filepath.Base(file), err)
		}
		program, err := programOf(file, version)
		if err != nil {
			return err
		}
		list.Components = append(list.Components, program)
		parts := modulesOf(info)
		refs := []string{}
		for _, p := range parts {
			refs = append(refs, p.Ref)
			if !seen[p.Ref] {
				seen[p.Ref] = true
				list.Components = append(list.Components, p)
			}
		}
		list.Dependencies = append(list.Dependencies, dependency{Ref: program.Ref, DependsOn: refs})
		needs = append(needs, program.Ref)
	}
	list.Dependencies = append(list.Dependencies, dependency{Ref: root.Ref, DependsOn: needs})
	slices.SortFunc(list.Components, func(a, b component) int { return cmp.Compare(a.Type+a.Ref, b.Type+b.Ref) })
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(target, append(data, '\n'), 0o644)
}

func programOf(file, version string) (component, error) {
	sum, err := sumOf(file)
	if err != nil {
		return component{}, err
	}
	name := filepath.Base(file)
	return component{
		Type: "application", Ref: name, Name: name, Version: version,
		Hashes: []hash{{Algorithm: "SHA-256", Content: hex.EncodeToString(sum)}},
	}, nil
}

// modulesOf returns the standard library and the modules, by name.
func modulesOf(info *debug.BuildInfo) []component {
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	parts := []component{{
		Type: "library", Ref: "pkg:golang/std@" + goVersion, Name: "std", Version: goVersion, PURL: "pkg:golang/std@" + goVersion,
	}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		purl := "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
		c := component{Type: "library", Ref: purl, Name: m.Path, Version: m.Version, PURL: purl}
		if m.Sum != "" { // of the module's files, as in go.sum
			c.Properties = []property{{Name: "go.sum", Value: m.Sum}}
		}
		parts = append(parts, c)
	}
	slices.SortFunc(parts, func(a, b component) int { return cmp.Compare(a.Ref, b.Ref) })
	return parts
}
