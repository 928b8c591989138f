// Command rehearsal prints as JSON what Kubernetes does to the nodes of the Helm
// chart in a rolling update: order, waits, signals, probes and settings. It is run
// from the root of its module. Arguments are files of values, later ones above
// earlier ones; none: the chart's defaults. It exits with 1 after a failure.
package main

import (
	"fmt"
	"os"

	"catbird/charts/test/chart"
	"catbird/charts/test/rehearsal"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rehearsal: error:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	plan, err := rehearsal.Chart(chart.Dir, files...)
	if err != nil {
		return err
	}
	return plan.Write(os.Stdout)
}
