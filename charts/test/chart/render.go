package chart

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	v2 "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

// Dir is where the chart lies, from the root of this module.
const Dir = "../catbird"

// Values are the values that a user sets.
type Values = map[string]any

// Chart is a chart that was read. It may be used by several goroutines at once.
type Chart struct{ dir string }

// Open returns the chart in dir.
func Open(dir string) (*Chart, error) {
	c := &Chart{dir}
	if _, err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// load reads the chart anew: rendering changes it.
func (c *Chart) load() (*v2.Chart, error) {
	read, err := loader.Load(c.dir)
	if err != nil {
		return nil, fmt.Errorf("reading the chart: %w", err)
	}
	return read, nil
}

// Options say for whom a chart is rendered. The zero value is a first install as
// release catbird in namespace chat.
type Options struct {
	Release, Namespace string
	// Cluster is what `lookup` finds; nil: nothing, as with `helm template`.
	Cluster engine.ClientProvider
	// Files are added to the chart's, or stand instead of them.
	Files map[string]string
}

// Release is what a chart gives.
type Release struct {
	Objects []Object
	Notes   string
}

// Render renders the chart with values above its own. Values that the schema or
// the chart itself refuse are errors, with the chart's own words.
func (c *Chart) Render(values Values, o Options) (*Release, error) {
	read, err := c.load()
	if err != nil {
		return nil, err
	}
	addFiles(read, o.Files)
	release := common.ReleaseOptions{Name: or(o.Release, "catbird"), Namespace: or(o.Namespace, "chat"), Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(read, values, release, nil)
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	var texts map[string]string
	if o.Cluster != nil {
		texts, err = engine.RenderWithClientProvider(read, all, o.Cluster)
	} else {
		texts, err = engine.Render(read, all)
	}
	if err != nil {
		return nil, fmt.Errorf("rendering: %w", err)
	}
	return collect(texts)
}

func addFiles(c *v2.Chart, files map[string]string) {
	c.Files = slices.DeleteFunc(c.Files, func(f *common.File) bool { _, ok := files[f.Name]; return ok })
	for name, text := range files {
		c.Files = append(c.Files, &common.File{Name: name, Data: []byte(text)})
	}
}

// collect decodes what was rendered, in the order of the files' names.
func collect(texts map[string]string) (*Release, error) {
	r := &Release{}
	var names []string
	for name := range texts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch base := path.Base(name); {
		case base == "NOTES.txt":
			r.Notes = texts[name]
		case strings.HasSuffix(base, ".yaml"):
			objects, err := Decode([]byte(texts[name]))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			r.Objects = append(r.Objects, objects...)
		}
	}
	return r, nil
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
