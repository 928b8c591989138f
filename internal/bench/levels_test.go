package bench

import "testing"

func TestLevel(t *testing.T) {
	r := resource{name: "memory", share: .1, more: 5}
	for name, c := range map[string]struct {
		at   func(i int) float64
		flat bool
	}{
		"as it was":               {func(int) float64 { return 200 }, true},
		"warms up":                {func(i int) float64 { return 100 + 400*min(float64(i), 20)/20 }, true},
		"goes up and down":        {func(i int) float64 { return 100 + 50*float64(i%2) }, true},
		"shrinks":                 {func(i int) float64 { return 500 - float64(i) }, true},
		"grows all the while":     {func(i int) float64 { return 100 + 10*float64(i) }, false},
		"grows at the end":        {func(i int) float64 { return 100 + 10*max(0, float64(i)-60) }, false},
		"small growth from small": {func(i int) float64 { return 10 + float64(i)/20 }, true},
	} {
		all := make([]float64, 90)
		for i := range all {
			all[i] = c.at(i)
		}
		if l := level("a", r, all); l.Flat != c.flat {
			t.Errorf("%s: %+v", name, l)
		}
	}
	if l := level("a", r, []float64{3}); l.First != 3 || l.Middle != 3 || l.Last != 3 || !l.Flat {
		t.Errorf("one sample: %+v", l)
	}
}
