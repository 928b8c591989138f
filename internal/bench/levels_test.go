package bench

import (
	"math/rand/v2"
	"testing"
)

func TestLevel(t *testing.T) {
	r := resource{name: "memory", share: .1, more: 20, leak: 5}
	chance := rand.New(rand.NewPCG(1, 2))
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
		"leaks slowly":            {func(i int) float64 { return 161 + float64(i)*.8 }, false},
		"leaks amid noise":        {func(i int) float64 { return 88 + float64(i)*.4 + 8*chance.Float64() }, false},
		"noise":                   {func(int) float64 { return 161 + 40*chance.Float64() }, true},
		"a sawtooth that rises":   {func(i int) float64 { return 100 + 3*float64(i%12) + float64(i) }, false},
		"a sawtooth":              {func(i int) float64 { return 100 + 5*float64(i%12) }, true},
		"a step at first":         {func(i int) float64 { return 100 + 60*min(1, float64(i/30)) + 3*chance.Float64() }, true},
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
