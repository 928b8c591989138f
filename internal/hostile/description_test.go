package hostile

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"catbird/internal/client"
)

// schema is what the description of the API says of a value.
type schema struct {
	Ref        string             `yaml:"$ref"`
	Type       string             `yaml:"type"`
	Format     string             `yaml:"format"`
	Encoding   string             `yaml:"contentEncoding"`
	Items      *schema            `yaml:"items"`
	OneOf      []*schema          `yaml:"oneOf"`
	AllOf      []*schema          `yaml:"allOf"`
	Required   []string           `yaml:"required"`
	Properties map[string]*schema `yaml:"properties"`
	Enum       []any              `yaml:"enum"`
}

// method is one method of the API as docs/openapi.yaml describes it.
type method struct {
	name  string // without the common prefix
	verb  string
	input *schema // of the body, or an object of the parameters
}

// methods reads docs/openapi.yaml, so that a field that is added there is
// attacked with the next run.
func methods(t *testing.T) []method {
	t.Helper()
	raw, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type body struct {
		Content map[string]struct{ Schema *schema }
	}
	var d struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name     string
				Required bool
				Schema   *schema
			}
			Body *body `yaml:"requestBody"`
		}
		Components struct{ Schemas map[string]*schema }
	}
	if err := yaml.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	var out []method
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for verb, op := range d.Paths[path] {
			m := method{name: strings.TrimPrefix(path, "/xrpc/"+client.Prefix), verb: strings.ToUpper(verb)}
			if op.Body != nil {
				m.input = op.Body.Content["application/json"].Schema
			} else {
				m.input = &schema{Type: "object", Properties: map[string]*schema{}}
				for _, p := range op.Parameters {
					m.input.Properties[p.Name] = p.Schema
					if p.Required {
						m.input.Required = append(m.input.Required, p.Name)
					}
				}
			}
			m.input = m.input.resolve(t, d.Components.Schemas)
			out = append(out, m)
		}
	}
	if len(out) < 13 {
		t.Fatalf("only %d methods are described", len(out))
	}
	return out
}

// resolve returns s with what it refers to in place.
func (s *schema) resolve(t *testing.T, named map[string]*schema) *schema {
	t.Helper()
	if len(s.AllOf) == 1 {
		return s.AllOf[0].resolve(t, named)
	}
	if name, is := strings.CutPrefix(s.Ref, "#/components/schemas/"); is {
		if named[name] == nil {
			t.Fatalf("%s leads nowhere", s.Ref)
		}
		return named[name].resolve(t, named)
	}
	out := *s
	if s.Items != nil {
		out.Items = s.Items.resolve(t, named)
	}
	out.OneOf = nil
	for _, o := range s.OneOf {
		out.OneOf = append(out.OneOf, o.resolve(t, named))
	}
	out.Properties = map[string]*schema{}
	for name, p := range s.Properties {
		out.Properties[name] = p.resolve(t, named)
	}
	return &out
}

// texts returns where strings stand in a value of s: fields by name, "*" for the
// elements of a list.
func (s *schema) texts(at []string) [][]string {
	below := func(name string, p *schema) [][]string { return p.texts(append(slices.Clone(at), name)) }
	var out [][]string
	if s.Type == "string" {
		out = append(out, at)
	}
	for _, o := range s.OneOf {
		out = append(out, o.texts(at)...)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		out = append(out, below(name, s.Properties[name])...)
	}
	if s.Items != nil {
		out = append(out, below("*", s.Items)...)
	}
	return out
}

// value makes a value of s: what is required, and what leads to the string at
// at, which becomes text. good says what goes into a good field of that name.
func (s *schema) value(at []string, text string, name string, good func(name string, s *schema) any) any {
	if at != nil && len(at) == 0 && (s.Type == "string" || s.has("string")) {
		return text
	}
	if s.Items != nil {
		var inner []string
		if len(at) > 0 && at[0] == "*" {
			inner = at[1:]
		}
		if inner == nil && at != nil {
			inner = at[1:]
		}
		return []any{s.Items.value(inner, text, name, good)}
	}
	object := s
	for _, o := range s.OneOf {
		if at != nil && o.Type == "object" {
			object = o
		}
	}
	if object.Type != "object" {
		return good(name, s)
	}
	out := map[string]any{}
	for field, p := range object.Properties {
		if len(at) > 0 && at[0] == field {
			out[field] = p.value(at[1:], text, field, good)
		} else if slices.Contains(object.Required, field) {
			out[field] = p.value(nil, "", field, good)
		}
	}
	return out
}

// has reports whether one of the forms of s is a plain value of that type.
func (s *schema) has(typ string) bool {
	return slices.ContainsFunc(s.OneOf, func(o *schema) bool { return o.Type == typ })
}
