// Command rehearsal prints as JSON what Kubernetes does to the nodes of the Helm
// chart in a rolling update: order, waits, signals, probes and settings. It is run
// from the root of its module. Arguments are files of values, later ones above
// earlier ones; none: the chart's defaults. It exits with 1 after a failure.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"catbird/charts/test/chart"
	"catbird/charts/test/manifests"
	"catbird/charts/test/rehearsal"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rehearsal: error:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	// Its name, whatever the values call the objects of the release.
	name := chart.Values{"fullnameOverride": "catbird"}
	values := chart.Values{}
	for _, file := range files {
		more, err := manifests.ReadValues(file)
		if err != nil {
			return err
		}
		values = chart.Merge(values, more)
	}
	c, err := chart.Open(chart.Dir)
	if err != nil {
		return err
	}
	r, err := c.Render(chart.Merge(values, name), chart.Options{})
	if err != nil {
		return err
	}
	plan, err := rehearsal.Of(r.Objects, "catbird")
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(plan)
}
