package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// beside is what goes beside the programs: all that an operator who has no
// checkout needs, and all that the manuals in it point at.
var beside = []string{
	"LICENSE", "README.md", changelogFile, "CONTRIBUTING.md", "docker-compose.yml", chartFolder, "deploy", "docs", "k8s",
}

// documents returns the files of beside by their places in the module, in order.
func documents(root string) ([]string, error) {
	ignored, err := ignoreRules(filepath.Join(root, chartFolder, ".helmignore"))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, place := range beside {
		files, err := filesIn(filepath.Join(root, filepath.FromSlash(place)), ignored)
		if err != nil {
			return nil, fmt.Errorf("listing what goes beside the programs: %w", err)
		}
		for _, file := range files {
			all = append(all, strings.TrimSuffix(place+"/"+file, "/."))
		}
	}
	return all, nil
}

// filesIn returns the files in a folder with slashes, in order, or "." where it
// is a file, without those that are left out.
func filesIn(folder string, ignored ignore) ([]string, error) {
	var files []string
	err := filepath.WalkDir(folder, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p != folder && ignored.match(d.Name(), d.IsDir()):
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		rel, err := filepath.Rel(folder, p)
		files = append(files, filepath.ToSlash(rel))
		return err
	})
	slices.Sort(files)
	return files, err
}

// stamped are the places that name the version of the image, by the files that
// they are in.
var stamped = []struct {
	file  *regexp.Regexp
	place *regexp.Regexp
}{
	{regexp.MustCompile(`(^|/)Chart\.yaml$`), regexp.MustCompile(`(?m)^((?:version|appVersion): "?)\d+\.\d+\.\d+`)},
	{regexp.MustCompile(`^docker-compose\.yml$`), regexp.MustCompile(`(image: \S+:\$\{VERSION:-)dev`)},
	{regexp.MustCompile(`^k8s/.*\.yaml$`), regexp.MustCompile(`(?m)^(\s+app\.kubernetes\.io/version: |\s+image: \S*catbird:)\d+\.\d+\.\d+`)},
}

// read returns a file for an archive of version. What names no version, or that of
// the chart, which may be the next one, gets the exact one, so that what is
// installed from an archive asks for the image of the same commit.
func read(file, name, version string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for _, s := range stamped {
		if s.file.MatchString(name) {
			text = s.place.ReplaceAll(text, []byte("${1}"+version))
		}
	}
	return text, nil
}
