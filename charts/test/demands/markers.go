package demands

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Demands are those of the types of some packages.
type Demands struct{ types map[string]demanded } // by the package's path, a dot and the name

// demanded is what is demanded of a type, and of each field if it is a struct.
type demanded struct {
	own    []demand
	fields map[string][]demand
}

// demand is one marker: what it asks for, and how it goes on.
type demand struct{ kind, value string }

// marker is such as +kubebuilder:validation:MaxLength=63, +required or
// +listType=map; := is the same as =.
var marker = regexp.MustCompile(`(?m)^\s*\+(?:kubebuilder:validation:)?([\w:]+?)(?::?=(.*))?$`)

// Read reads the packages in folders, by their paths.
func Read(folders map[string]string) (*Demands, error) {
	d := &Demands{types: map[string]demanded{}}
	for pkg, dir := range folders {
		entries, err := fs.Glob(os.DirFS(dir), "*.go")
		if err != nil {
			return nil, err
		}
		for _, name := range entries {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			for _, decl := range file.Decls {
				if g, ok := decl.(*ast.GenDecl); ok && g.Tok == token.TYPE {
					for _, s := range g.Specs {
						d.read(pkg, g, s.(*ast.TypeSpec))
					}
				}
			}
		}
	}
	return d, nil
}

func (d *Demands) read(pkg string, g *ast.GenDecl, s *ast.TypeSpec) {
	t := demanded{own: markers(s.Doc), fields: map[string][]demand{}}
	if !g.Lparen.IsValid() {
		t.own = append(t.own, markers(g.Doc)...)
	}
	if st, ok := s.Type.(*ast.StructType); ok {
		for _, f := range st.Fields.List {
			for _, name := range f.Names {
				t.fields[name.Name] = markers(f.Doc)
			}
		}
	}
	d.types[pkg+"."+s.Name.Name] = t
}

func markers(doc *ast.CommentGroup) (out []demand) {
	if doc == nil {
		return nil
	}
	for _, c := range doc.List {
		for _, m := range marker.FindAllStringSubmatch(strings.TrimPrefix(c.Text, "//"), -1) {
			out = append(out, demand{m[1], unquote(m[2])})
		}
	}
	return out
}

func unquote(s string) string {
	if plain, err := strconv.Unquote(s); err == nil {
		return plain
	}
	return s
}

// check says how a value is not what is demanded. length is that of a text or of a
// list.
func (d demand) check(text string, length int) error {
	bound, err := strconv.Atoi(d.value)
	number := err == nil
	value, err := strconv.Atoi(text)
	counted := err == nil
	switch {
	case d.kind == "Pattern":
		pattern, err := regexp.Compile(d.value)
		if err != nil {
			return err
		}
		if !pattern.MatchString(text) {
			return fmt.Errorf("%q does not match %s", text, d.value)
		}
	case d.kind == "Enum":
		for one := range strings.SplitSeq(d.value, ";") {
			if unquote(one) == text {
				return nil
			}
		}
		return fmt.Errorf("%q is none of %s", text, d.value)
	case number && (d.kind == "MinLength" || d.kind == "MinItems") && length < bound,
		number && (d.kind == "MaxLength" || d.kind == "MaxItems") && length > bound,
		number && counted && d.kind == "Minimum" && value < bound,
		number && counted && d.kind == "Maximum" && value > bound:
		return fmt.Errorf("%q: %s is %d", text, d.kind, bound)
	}
	return nil
}
