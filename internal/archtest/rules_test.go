package archtest

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const architecture = "../../docs/architecture.md"

// ownershipRule is a row of the table of rules.
type ownershipRule struct {
	number             string
	starred            bool // breaks an invariant when it is left out
	code, model, tests []string
}

var quoted = regexp.MustCompile("`([^`]+)`")

func inBackticks(cell string) (out []string) {
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

// ownershipRules reads the table of rules.
func ownershipRules(t *testing.T) []ownershipRule {
	t.Helper()
	text, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "| rule | | code | model | test |\n")
	if !ok {
		t.Fatal("there is no table of rules")
	}
	var out []ownershipRule
	for line := range strings.Lines(after) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "|"), "|"), "|")
		if len(cells) != 5 {
			t.Fatalf("not a row of five cells: %s", line)
		}
		number := strings.TrimSpace(cells[0])
		if strings.HasPrefix(number, "---") {
			continue
		}
		out = append(out, ownershipRule{
			number: strings.TrimSuffix(number, "*"), starred: strings.HasSuffix(number, "*"),
			code: inBackticks(cells[2]), model: inBackticks(cells[3]), tests: inBackticks(cells[4]),
		})
	}
	if len(out) != 26 {
		t.Fatalf("%d rules were found, not 26", len(out))
	}
	return out
}

// declared returns what a file declares: functions, Type.Method, types,
// constants and variables.
func declared(f *file) map[string]bool {
	out := map[string]bool{}
	for _, d := range f.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			out[receiver(d)+d.Name.Name] = true
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					out[spec.Name.Name] = true
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						out[name.Name] = true
					}
				}
			}
		}
	}
	return out
}

// receiver returns "Type." for a method.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	switch generic := typ.(type) {
	case *ast.IndexExpr:
		typ = generic.X
	case *ast.IndexListExpr:
		typ = generic.X
	}
	if name, ok := typ.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}

// The table of rules names code, runs of the models and tests that are there.
func TestRulesNameWhatIsThere(t *testing.T) {
	code := map[string]bool{}
	tests := map[string]bool{}
	var cases strings.Builder
	for _, f := range source(t) {
		for name := range declared(f) {
			if f.test {
				tests[name] = true
			} else {
				code[f.path+":"+name] = true
			}
		}
		if f.dir == "persistence/storetest" {
			text, err := os.ReadFile(filepath.Join("../..", f.path))
			if err != nil {
				t.Fatal(err)
			}
			cases.Write(text)
		}
	}
	for _, r := range ownershipRules(t) {
		if len(r.code) == 0 || len(r.tests) == 0 || r.starred && len(r.model) == 0 {
			t.Errorf("rule %s names no code, no test, or no model", r.number)
		}
		for _, name := range r.code {
			if !code[name] {
				t.Errorf("rule %s is said to be kept by %s, which does not exist", r.number, name)
			}
		}
		for _, name := range r.tests {
			test, of := strings.CutPrefix(name, "storetest:")
			if there := tests[test]; !of && !there || of && !strings.Contains(cases.String(), `name: "`+test+`"`) {
				t.Errorf("rule %s is said to be tested by %s, which does not exist", r.number, name)
			}
		}
		for _, name := range r.model {
			modelled(t, r.number, name)
		}
	}
}

// modelled checks that a run of a model is there: a safeguard of the model, or a
// size that the command names.
func modelled(t *testing.T, number, name string) {
	t.Helper()
	model, what, _ := strings.Cut(name, "/")
	text, err := os.ReadFile(filepath.Join("../../docs/model", model+".pml"))
	if err != nil {
		t.Errorf("rule %s is said to be modelled by %s: %v", number, name, err)
		return
	}
	runs, err := os.ReadFile("../tools/model/runs.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(runs), `"`+what+`"`) || what == strings.ToUpper(what) && !strings.Contains(string(text), "M_"+what) {
		t.Errorf("rule %s is said to be modelled by %s, which is not run", number, name)
	}
}
