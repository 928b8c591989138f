package bench

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Row is one figure: two sides, their ratio, and the bar it is held to.
type Row struct {
	Name     string
	Ours     string
	Other    string
	Ratio    float64
	Bar      string
	Reached  bool
	Comments string
}

// Print writes rows as a table and reports whether all bars were reached.
func Print(w io.Writer, rows []Row) (reached bool) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tours\tother side\tratio\tbar\t\tcomment")
	reached = true
	for _, r := range rows {
		verdict := "pass"
		if !r.Reached {
			verdict, reached = "fail", false
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.Ours, r.Other, ratio(r.Ratio), r.Bar, verdict, r.Comments)
	}
	t.Flush()
	return reached
}

func ratio(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}

// median returns the middle of vs, which must not be empty.
func median(vs []float64) float64 {
	s := slices.Clone(vs)
	slices.Sort(s)
	return s[len(s)/2]
}
