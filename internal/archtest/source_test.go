package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "catbird"

// file is one Go file of this module.
type file struct {
	path string // within the module, with slashes
	dir  string // "" for the module's root
	test bool
	ast  *ast.File
}

// has reports whether the file imports p.
func (f *file) has(p string) bool {
	for _, spec := range f.ast.Imports {
		if spec.Path.Value == strconv.Quote(p) {
			return true
		}
	}
	return false
}

// imports returns the paths that the file imports, those of this module without
// the module's name.
func (f *file) imports(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: import %s: %v", f.path, spec.Path.Value, err)
		}
		out = append(out, p)
	}
	return out
}

// names returns by which names the file knows the package imported as p.
func (f *file) names(t *testing.T, p string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for i, imported := range f.imports(t) {
		if imported != p {
			continue
		}
		if name := f.ast.Imports[i].Name; name != nil {
			out[name.Name] = true
		} else {
			out[path.Base(p)] = true
		}
	}
	return out
}

// uses calls found with every name of package p that the file mentions.
func (f *file) uses(t *testing.T, p string, found func(name string, at token.Pos)) {
	t.Helper()
	names := f.names(t, p)
	if len(names) == 0 {
		return
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && names[x.Name] {
			found(sel.Sel.Name, sel.Pos())
		}
		return true
	})
}

var fileSet = token.NewFileSet()

// source parses every Go file of this module.
func source(t *testing.T) []*file {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("this test must lie two folders below the module's root: %v", err)
	}
	var files []*file
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skip(root, p, d.Name())
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(fileSet, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		dir := path.Dir(rel)
		if dir == "." {
			dir = ""
		}
		files = append(files, &file{path: rel, dir: dir, test: strings.HasSuffix(p, "_test.go"), ast: parsed})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d files were found: is this the module?", len(files))
	}
	return files
}

// skip leaves out what is no code of this module.
func skip(root, p, name string) error {
	if p == root {
		return nil
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "bin" || name == "data" {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
		return filepath.SkipDir // another module
	}
	return nil
}
