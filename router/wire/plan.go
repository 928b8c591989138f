package wire

import (
	"fmt"
	"reflect"
	"strings"
)

// maxFields is how many fields a struct may have: one bit each says which were
// given.
const maxFields = 64

// plan is what the decoder knows of a struct type.
type plan struct {
	fields   []field
	required uint64 // bits of fields that must be given
}

type field struct {
	name  string
	index int
	// object is the plan of the struct that the field holds, points to, or
	// holds a list of; nil for plain values.
	object *plan
}

// Field describes one field of an input or output, for those who document it.
type Field struct {
	Name     string
	Required bool
	Type     reflect.Type
}

// Fields describes the fields of the struct type t in order. A field of an
// output is required when it is always there: when it is not omitted empty.
func Fields(t reflect.Type, output bool) []Field {
	var out []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		required := f.Tag.Get("xrpc") == "required"
		if output {
			required = !strings.Contains(options, "omit")
		}
		out = append(out, Field{Name: name, Required: required, Type: f.Type})
	}
	return out
}

// newPlan returns the plan of t. It panics on a type that the decoder does not
// know, or a field without a name: mistakes of the program, found at its start.
func newPlan(t reflect.Type) *plan {
	if t.Kind() != reflect.Struct || t.NumField() > maxFields {
		panic(fmt.Sprintf("wire: %s is no struct of at most %d fields", t, maxFields))
	}
	p := &plan{}
	for i, f := range Fields(t, false) {
		if f.Name == "" {
			panic(fmt.Sprintf("wire: a field of %s has no name", t))
		}
		p.fields = append(p.fields, field{name: f.Name, index: i, object: objectPlan(t, f)})
		if f.Required {
			p.required |= 1 << i
		}
	}
	return p
}

func objectPlan(parent reflect.Type, f Field) *plan {
	switch reflect.New(f.Type).Interface().(type) {
	case *string, *bool, **bool, *int64, **int64, *[]string, *Base64, *Bytes, **Time:
		return nil
	}
	if k := f.Type.Kind(); k == reflect.Slice || k == reflect.Pointer {
		if e := f.Type.Elem(); e.Kind() == reflect.Struct && e != reflect.TypeFor[Time]() {
			return newPlan(e)
		}
	}
	panic(fmt.Sprintf("wire: %s.%s is of a type that inputs cannot have: %s", parent, f.Name, f.Type))
}

// find returns the field called name, -1 if there is none.
func (p *plan) find(name []byte) int {
	for i := range p.fields {
		if p.fields[i].name == string(name) {
			return i
		}
	}
	return -1
}

// missing returns the first required field that is not among given.
func (p *plan) missing(given uint64) *Error {
	absent := p.required &^ given
	if absent == 0 {
		return nil
	}
	for i := range p.fields {
		if absent&(1<<i) != 0 {
			return fault(p.fields[i].name, "is required")
		}
	}
	return nil
}
