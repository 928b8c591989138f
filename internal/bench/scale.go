package bench

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"catbird/cluster"
)

// metric reads one value of a node's metrics.
func metric(addr, name string) (float64, error) {
	res, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(b.String(), "\n") {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(v, 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// ringAtScale is P11.
func ringAtScale() (Row, error) {
	r, err := cluster.SimulateRing(1000, 10_000_000)
	if err != nil {
		return Row{}, err
	}
	return Row{
		Name: "P11 ring of 1,000 nodes, 10,000,000 conversations", Ratio: r.Fullest, Bar: "<= 1.25, < 1.5, < 50 ms",
		Ours:    fmt.Sprintf("fullest %.3f of the mean", r.Fullest),
		Other:   fmt.Sprintf("a join moves %.2f of the ideal", r.Moved),
		Reached: r.Fullest <= 1.25 && r.Moved < 1.5 && r.Change < 50*time.Millisecond,
		Comments: fmt.Sprintf("worst join %.2f, a change %v (slowest %v), built in %v", r.WorstMoved, r.Change.Round(time.Millisecond),
			r.WorstChange.Round(time.Millisecond), r.Build.Round(10*time.Millisecond)),
	}, nil
}
