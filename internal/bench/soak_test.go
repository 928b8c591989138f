package bench

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"catbird/internal/load"
)

// The soak on a small scale, with real servers: it runs through, sees all that it
// is to judge, and would say so. Whether a few seconds look level is no matter
// here: nodes that have just started grow.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and starts servers")
	}
	o := SoakOptions{For: 2 * time.Second, Clients: 4, Touched: 400, ActorMax: 50, Log: t.Output()}
	r, err := Soak(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Load.OK() || r.Load.Total.OK == 0 || r.Load.Total.Failed > 0 {
		t.Errorf("under load: %+v", r.Load)
	}
	seen := map[string]bool{}
	for _, l := range r.Levels {
		seen[l.Node+": "+l.Resource] = l.First > 0 && l.Middle > 0 && l.Last > 0 && l.Most >= l.Last
	}
	for _, res := range ofNode {
		for _, node := range []string{"a", "b", "c"} {
			if !seen[node+": "+res.name] {
				t.Errorf("nothing is known of node %s's %s", node, res.name)
			}
		}
	}
	if !seen["all: "+ofDatabase.name] {
		t.Errorf("nothing is known of the %s", ofDatabase.name)
	}
	if len(r.Bounded) != len(ofNode) {
		t.Errorf("of the node with few actors is known %+v", r.Bounded)
	}
	if r.Touched != o.Touched || r.MostActors == 0 || r.MostActors > o.ActorMax {
		t.Errorf("%d conversations touched, at most %d actors", r.Touched, r.MostActors)
	}
	var out bytes.Buffer
	if err := PrintSoak(&out, r); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "400 conversations touched once") {
		t.Errorf("printed %s", &out)
	}
}

// A soak passes when nothing grows, nothing failed, and what was read back is
// right; each of them by itself is a reason to fail.
func TestSoakReportOK(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*SoakReport)
		ok     bool
	}{
		"as it should be":          {func(*SoakReport) {}, true},
		"at the bound":             {func(r *SoakReport) { r.MostActors = r.ActorMax }, true},
		"an operation failed":      {func(r *SoakReport) { r.Load.Total.Failed = 1 }, false},
		"not read back":            {func(r *SoakReport) { r.Load.Verification.Complete = false }, false},
		"something was lost":       {func(r *SoakReport) { r.Load.Verification.Counts = map[load.Kind]int64{load.Lost: 1} }, false},
		"a node grows":             {func(r *SoakReport) { r.Levels[1].Flat = false }, false},
		"the node of few grows":    {func(r *SoakReport) { r.Bounded[0].Flat = false }, false},
		"more actors than allowed": {func(r *SoakReport) { r.MostActors = r.ActorMax + 1 }, false},
		"no actor was ever seen":   {func(r *SoakReport) { r.MostActors = 0 }, false},
	} {
		r := SoakReport{
			Load:   &load.Report{Verification: load.Verification{Complete: true}},
			Levels: []Level{{Flat: true}, {Flat: true}}, Bounded: []Level{{Flat: true}}, MostActors: 40, ActorMax: 50,
		}
		c.change(&r)
		if got := r.OK(); got != c.ok {
			t.Errorf("%s: %t, want %t", name, got, c.ok)
		}
	}
}
