// Command rehearsal prints as JSON what Kubernetes does to the nodes of the Helm
// chart: sets, order, waits, signals, probes, budgets and settings. It is run from
// the root of its module. Arguments are files of values, later ones above earlier
// ones; none: the chart's defaults. With -kept DIR it writes the plans that tests
// keep into that folder instead. It exits with 1 after a failure.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"catbird/charts/test/chart"
	"catbird/charts/test/rehearsal"
)

func main() {
	kept := flag.String("kept", "", "the folder of the plans that tests keep")
	flag.Parse()
	if err := run(*kept, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "rehearsal: error:", err)
		os.Exit(1)
	}
}

func run(kept string, files []string) error {
	if kept != "" {
		if len(files) > 0 {
			return errors.New("the kept plans have values of their own")
		}
		return rehearsal.WriteKept(kept)
	}
	plan, err := rehearsal.Chart(chart.Dir, files...)
	if err != nil {
		return err
	}
	return plan.Write(os.Stdout)
}
