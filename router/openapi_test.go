package router

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"catbird/conversation"
	"catbird/router/wire"
)

// schema is the part of a JSON Schema that the description uses.
type schema struct {
	Ref             string             `yaml:"$ref"`
	Type            string             `yaml:"type"`
	Format          string             `yaml:"format"`
	ContentEncoding string             `yaml:"contentEncoding"`
	Items           *schema            `yaml:"items"`
	OneOf           []*schema          `yaml:"oneOf"`
	AllOf           []*schema          `yaml:"allOf"`
	Required        []string           `yaml:"required"`
	Properties      map[string]*schema `yaml:"properties"`
	Enum            []string           `yaml:"enum"`
	MaxItems        int                `yaml:"maxItems"`
	MaxLength       int                `yaml:"maxLength"`
}

type content struct {
	Ref     string `yaml:"$ref"`
	Content map[string]struct {
		Schema *schema `yaml:"schema"`
	} `yaml:"content"`
}

func (c content) json() *schema { return c.Content["application/json"].Schema }

type parameter struct {
	Name     string  `yaml:"name"`
	In       string  `yaml:"in"`
	Required bool    `yaml:"required"`
	Schema   *schema `yaml:"schema"`
}

type operation struct {
	ID         string             `yaml:"operationId"`
	Parameters []parameter        `yaml:"parameters"`
	Body       *content           `yaml:"requestBody"`
	Responses  map[string]content `yaml:"responses"`
	Errors     []string           `yaml:"x-errors"`
}

type description struct {
	OpenAPI    string                          `yaml:"openapi"`
	Paths      map[string]map[string]operation `yaml:"paths"`
	Components struct {
		Schemas   map[string]*schema `yaml:"schemas"`
		Responses map[string]content `yaml:"responses"`
	} `yaml:"components"`
}

func loadDescription(t *testing.T) *description {
	t.Helper()
	raw, err := os.ReadFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := &description{}
	if err := yaml.Unmarshal(raw, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// resolve follows references.
func (d *description) resolve(t *testing.T, s *schema) *schema {
	t.Helper()
	for s != nil && (s.Ref != "" || len(s.AllOf) == 1) {
		if len(s.AllOf) == 1 {
			s = s.AllOf[0]
			continue
		}
		name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/")
		if s, ok = d.Components.Schemas[name], ok && d.Components.Schemas[name] != nil; !ok {
			t.Fatalf("%s leads nowhere", name)
		}
	}
	return s
}

// TestDescription holds docs/openapi.yaml to the endpoints: every path, verb,
// field, flag and type.
func TestDescription(t *testing.T) {
	t.Parallel()
	d := loadDescription(t)
	if d.OpenAPI != "3.1.0" {
		t.Errorf("OpenAPI %q", d.OpenAPI)
	}
	table := endpoints()
	if len(d.Paths) != len(table) || len(table) != 13 {
		t.Errorf("%d paths described, %d endpoints; want 13", len(d.Paths), len(table))
	}
	for _, e := range table {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			op, ok := d.Paths["/xrpc/"+e.nsid()][strings.ToLower(e.method)]
			if !ok || len(d.Paths["/xrpc/"+e.nsid()]) != 1 || op.ID != e.name {
				t.Fatalf("%s %s is not described, or not alone", e.method, e.nsid())
			}
			if e.method == "GET" {
				d.checkParameters(t, op, e.in)
			} else {
				d.check(t, e.name+" input", op.Body.json(), e.in, false)
			}
			out := e.out
			if s, ok := reflect.Zero(out).Interface().(interface{ form() reflect.Type }); ok {
				out = s.form()
			}
			d.check(t, e.name+" output", op.Responses["200"].json(), out, true)
			d.checkErrors(t, op)
		})
	}
}

func (d *description) checkParameters(t *testing.T, op operation, in reflect.Type) {
	t.Helper()
	fields := wire.Fields(in, false)
	if len(fields) != len(op.Parameters) {
		t.Errorf("%d parameters described, %d taken", len(op.Parameters), len(fields))
	}
	for _, f := range fields {
		i := slices.IndexFunc(op.Parameters, func(p parameter) bool { return p.Name == f.Name })
		if i < 0 {
			t.Errorf("%s is not described", f.Name)
			continue
		}
		if p := op.Parameters[i]; p.In != "query" || p.Required != f.Required {
			t.Errorf("%s: described as %+v", f.Name, p)
		}
		d.check(t, f.Name, op.Parameters[i].Schema, f.Type, false)
	}
}

// check holds a schema to the Go type of an input or output.
func (d *description) check(t *testing.T, at string, s *schema, typ reflect.Type, output bool) {
	t.Helper()
	if s = d.resolve(t, s); s == nil {
		t.Errorf("%s: no schema", at)
		return
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := schema{}
	switch typ {
	case reflect.TypeFor[wire.Time]():
		want.Type, want.Format = "string", "date-time"
	case reflect.TypeFor[wire.Base64](), reflect.TypeFor[[]byte]():
		want.Type, want.ContentEncoding = "string", "base64"
	case reflect.TypeFor[wire.Bytes]():
		if len(s.OneOf) != 2 {
			t.Errorf("%s: bytes come in two forms", at)
			return
		}
		d.check(t, at, s.OneOf[0], reflect.TypeFor[wire.Blob](), true)
		d.check(t, at, s.OneOf[1], reflect.TypeFor[wire.Base64](), false)
		return
	default:
		d.checkKind(t, at, s, typ, output)
		return
	}
	if s.Type != want.Type || s.ContentEncoding != want.ContentEncoding || (want.Format != "" && s.Format != want.Format) {
		t.Errorf("%s: described as %+v, is a %s", at, s, typ)
	}
}

func (d *description) checkKind(t *testing.T, at string, s *schema, typ reflect.Type, output bool) {
	t.Helper()
	want := map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "boolean", reflect.Int64: "integer", reflect.Slice: "array", reflect.Struct: "object",
	}[typ.Kind()]
	if s.Type != want || s.ContentEncoding != "" && typ != reflect.TypeFor[[]byte]() {
		t.Errorf("%s: described as %q, is a %s", at, s.Type, typ)
		return
	}
	switch typ.Kind() {
	case reflect.Slice:
		d.check(t, at+"[]", s.Items, typ.Elem(), output)
	case reflect.Struct:
		var names, required []string
		for _, f := range wire.Fields(typ, output) {
			names = append(names, f.Name)
			if f.Required {
				required = append(required, f.Name)
			}
			if typ == reflect.TypeFor[wire.Blob]() {
				continue // its one field is base64, which is the schema's own matter
			}
			d.check(t, at+"."+f.Name, s.Properties[f.Name], f.Type, output)
		}
		if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, sorted(names)) {
			t.Errorf("%s: fields described %v, there are %v", at, got, sorted(names))
		}
		if !slices.Equal(sorted(s.Required), sorted(required)) {
			t.Errorf("%s: required %v described, %v in fact", at, s.Required, required)
		}
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// checkErrors: the errors of an operation and the statuses that it lists belong
// together.
func (d *description) checkErrors(t *testing.T, op operation) {
	t.Helper()
	statuses := map[string]bool{"200": true}
	for _, name := range op.Errors {
		status, ok := statusOf[conversation.Code(name)]
		if !ok {
			t.Errorf("%s is no error", name)
		}
		statuses[strconv.Itoa(status)] = true
	}
	if got, want := slices.Sorted(maps.Keys(op.Responses)), slices.Sorted(maps.Keys(statuses)); !slices.Equal(got, want) {
		t.Errorf("responses %v, by its errors %v", got, want)
	}
}

// TestDescriptionOfErrors: each status is described with the names it has.
func TestDescriptionOfErrors(t *testing.T) {
	t.Parallel()
	d := loadDescription(t)
	seen := map[string]bool{}
	used := map[string]string{} // response by status
	for _, methods := range d.Paths {
		for _, op := range methods {
			for status, r := range op.Responses {
				if status != "200" {
					used[strings.TrimPrefix(r.Ref, "#/components/responses/")] = status
				}
			}
		}
	}
	for name, r := range d.Components.Responses {
		s := r.json()
		if !slices.Equal(s.Required, []string{"error", "message"}) {
			t.Errorf("%s: required %v", name, s.Required)
		}
		for _, code := range s.Properties["error"].Enum {
			seen[code] = true
			if got := strconv.Itoa(statusOf[conversation.Code(code)]); got != used[name] {
				t.Errorf("%s is described with status %s, has %s", code, used[name], got)
			}
		}
	}
	for code := range statusOf {
		if !seen[string(code)] {
			t.Errorf("%s is not described", code)
		}
	}
	conflict := d.Components.Responses["Conflict"].json()
	for _, f := range wire.Fields(reflect.TypeFor[missed](), true) {
		d.check(t, "Conflict."+f.Name, conflict.Properties[f.Name], f.Type, true)
	}
}

func TestDescriptionOfLimits(t *testing.T) {
	t.Parallel()
	d := loadDescription(t)
	input := func(name string) map[string]*schema {
		return d.Paths["/xrpc/"+Prefix+name]["post"].Body.json().Properties
	}
	for name, tt := range map[string]struct{ got, want int }{
		"groupId":          {input("createConvo")["groupId"].MaxLength, conversation.MaxGroupID},
		"initialMembers":   {input("createConvo")["initialMembers"].MaxItems, conversation.MaxInitialMembers},
		"name":             {d.Components.Schemas["Metadata"].Properties["name"].MaxLength, conversation.MaxName},
		"description":      {d.Components.Schemas["Metadata"].Properties["description"].MaxLength, conversation.MaxDescription},
		"didList":          {input("addMembers")["didList"].MaxItems, conversation.MaxAddMembers},
		"keyPackageHashes": {input("addMembers")["keyPackageHashes"].MaxItems, conversation.MaxKeyPackageHashes},
		"msgId":            {input("sendMessage")["msgId"].MaxLength, conversation.MaxClientID},
		"embedType":        {input("sendMessage")["embedType"].MaxLength, conversation.MaxEmbedType},
		"embedUri":         {input("sendMessage")["embedUri"].MaxLength, conversation.MaxEmbedURI},
		"idempotencyKey":   {d.Components.Schemas["IdempotencyKey"].MaxLength, conversation.MaxIdempotencyKey},
		"did":              {d.Components.Schemas["Did"].MaxLength, conversation.MaxDID},
		"commits":          {d.Components.Responses["Conflict"].json().Properties["commits"].MaxItems, conversation.MaxMissedCommits},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: described as %d, is %d", name, tt.got, tt.want)
		}
	}
	if got, want := sorted(d.Components.Schemas["CipherSuite"].Enum), slices.Sorted(maps.Keys(conversation.CipherSuites)); !slices.Equal(got, want) {
		t.Errorf("cipher suites described %v, known %v", got, want)
	}
}

// TestGuide: docs/api.md speaks of every endpoint and explains every error.
func TestGuide(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	guide := string(raw)
	for _, e := range endpoints() {
		if !strings.Contains(guide, "\n### "+e.name+"\n") {
			t.Errorf("%s has no section", e.name)
		}
		for _, f := range wire.Fields(e.in, false) {
			if !strings.Contains(guide, "`"+f.Name+"`") {
				t.Errorf("field %s of %s is not spoken of", f.Name, e.name)
			}
		}
	}
	for code, status := range statusOf {
		if !strings.Contains(guide, fmt.Sprintf("| %d | `%s` |", status, code)) {
			t.Errorf("%s has no row with its status", code)
		}
	}
}

// TestGuideExamples: the examples of docs/api.md have the fields that the
// endpoints have.
func TestGuideExamples(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range endpoints() {
		_, section, _ := strings.Cut(string(raw), "\n### "+e.name+"\n")
		section, _, _ = strings.Cut(section, "\n##")
		var examples []map[string]any
		for i, block := range strings.Split(section, "```json\n")[1:] {
			block, _, _ = strings.Cut(block, "```")
			var v map[string]any
			if err := json.Unmarshal([]byte(block), &v); err != nil {
				t.Errorf("%s: example %d: %v", e.name, i, err)
			}
			examples = append(examples, v)
		}
		out := e.out
		if s, ok := reflect.Zero(out).Interface().(interface{ form() reflect.Type }); ok {
			out = s.form()
		}
		types := []reflect.Type{out}
		if e.method == "POST" {
			types = []reflect.Type{e.in, out}
		}
		if len(examples) != len(types) {
			t.Errorf("%s: %d examples, want %d", e.name, len(examples), len(types))
			continue
		}
		for i, typ := range types {
			fields := wire.Fields(typ, typ == out)
			for _, f := range fields {
				if _, there := examples[i][f.Name]; f.Required && !there {
					t.Errorf("%s: example %d lacks %s", e.name, i, f.Name)
				}
			}
			for name := range examples[i] {
				if !slices.ContainsFunc(fields, func(f wire.Field) bool { return f.Name == name }) {
					t.Errorf("%s: example %d has %s, which there is not", e.name, i, name)
				}
			}
		}
	}
}
