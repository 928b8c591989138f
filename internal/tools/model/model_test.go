package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const models = "../../../docs/model"

var switches = regexp.MustCompile(`\bM_([A-Z_]+)\b`)

// Each safeguard that a model can do without is taken out in some run, and no
// run takes out what its model does not know.
func TestEverySafeguardIsTakenOut(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(models, "*.pml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no models: %v", err)
	}
	known := map[string]bool{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		model := strings.TrimSuffix(filepath.Base(f), ".pml")
		known[model+"/"] = true
		for _, m := range switches.FindAllStringSubmatch(string(text), -1) {
			known[model+"/"+m[1]] = true
		}
	}
	ran := map[string]bool{}
	names := map[string]bool{}
	for _, r := range runs() {
		if names[r.name] {
			t.Errorf("two runs are called %s", r.name)
		}
		names[r.name] = true
		what := r.model + "/" + r.without
		if !known[what] {
			t.Errorf("%s runs %s, which is not there", r.name, what)
		}
		ran[what] = true
	}
	for what := range known {
		if !ran[what] {
			t.Errorf("nothing runs %s", what)
		}
	}
}

const held = `
	invalid end states	+

State-vector 228 byte, depth reached 448, errors: 0
1.2345e+07 states, stored
  1000 states, matched

  170.713	total actual memory usage
`

const broken = `pan:1: assertion violated 0 (at depth 31)
pan: wrote model.pml.trail

State-vector 228 byte, depth reached 506, errors: 1
  2514934 states, stored
  259.091	total actual memory usage
`

func TestWhatASearchFound(t *testing.T) {
	cycle := strings.Replace(broken, "assertion violated 0", "acceptance cycle", 1)
	small := "error: max search depth too small\n" + held
	tests := []struct {
		name, out string
		want      result
		holds     string // what is wrong with it where it must hold
		breaks    string // and where it must go wrong
	}{
		{"it holds", held, result{found: "holds", states: 12_345_000, megabytes: 170}, "", "expected to go wrong"},
		{"an assertion", broken, result{errors: 1, found: "assertion violated", states: 2_514_934, megabytes: 259}, "expected to hold", ""},
		{"a cycle", cycle, result{errors: 1, found: "acceptance cycle", states: 2_514_934, megabytes: 259}, "expected to hold", ""},
		{"in part", small, result{found: "holds", states: 12_345_000, megabytes: 170, partial: "max search depth too small"}, "max search depth too small", "expected to go wrong"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse([]byte(tt.out))
			if err != nil || got != tt.want {
				t.Fatalf("%+v, %v, want %+v", got, err, tt.want)
			}
			if why := (run{}).judge(got); why != tt.holds {
				t.Errorf("where it must hold: %q, want %q", why, tt.holds)
			}
			if why := (run{unsafe: true}).judge(got); why != tt.breaks {
				t.Errorf("where it must go wrong: %q, want %q", why, tt.breaks)
			}
		})
	}
}

func TestWhatIsNoResultIsAnError(t *testing.T) {
	for _, out := range []string{"", "pan: out of memory", strings.Replace(broken, "assertion violated", "something else", 1)} {
		if got, err := parse([]byte(out)); err == nil {
			t.Errorf("%q was read as %+v", out, got)
		}
	}
}

func TestRunsAreChosen(t *testing.T) {
	names := func(patterns []string, long bool) (out []string) {
		chosen, err := choose(patterns, long)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range chosen {
			out = append(out, r.name)
		}
		return out
	}
	short, all := names(nil, false), names(nil, true)
	if slices.Contains(short, "claim/large") || !slices.Contains(all, "claim/large") || !slices.Contains(short, "claim/small") {
		t.Errorf("the short set is %v, all are %v", short, all)
	}
	if got := names([]string{"reach/*", "*/NO_SILENCE"}, false); !slices.Equal(got, []string{"claim/NO_SILENCE", "reach/built", "reach/ANY_RENEWAL", "reach/AT_ONCE"}) {
		t.Errorf("chosen were %v", got)
	}
	if _, err := choose([]string{"nothing"}, false); err == nil {
		t.Error("nothing was chosen, and nothing said")
	}
}
