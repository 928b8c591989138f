package demands

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Check says how an object, which is a pointer to one of the types that were read,
// is not what they demand.
func (d *Demands) Check(object any) error {
	v := reflect.Indirect(reflect.ValueOf(object))
	if _, ok := d.types[nameOf(v.Type())]; !ok {
		return fmt.Errorf("nothing is known of %s", nameOf(v.Type()))
	}
	var errs []error
	d.walk(v, v.Type().Name(), nil, &errs)
	return errors.Join(errs...)
}

func nameOf(t reflect.Type) string { return t.PkgPath() + "." + t.Name() }

// walk checks a value by what is demanded of the place where it stands and of its
// type, and all that is in it.
func (d *Demands) walk(v reflect.Value, where string, place []demand, errs *[]error) {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	demands := slices.Concat(d.types[nameOf(v.Type())].own, place)
	text, length := fmt.Sprint(v.Interface()), 0
	switch v.Kind() {
	case reflect.String:
		length = utf8.RuneCountInString(text)
	case reflect.Slice, reflect.Map:
		length = v.Len()
	}
	for _, m := range demands {
		if err := m.check(text, length); err != nil {
			*errs = append(*errs, fmt.Errorf("%s: %w", where, err))
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		d.fields(v, where, errs)
	case reflect.Slice:
		for i := range v.Len() {
			d.walk(v.Index(i), fmt.Sprintf("%s[%d]", where, i), ofItems(place), errs)
		}
	}
}

func (d *Demands) fields(v reflect.Value, where string, errs *[]error) {
	known := d.types[nameOf(v.Type())].fields
	for i := range v.NumField() {
		f, value := v.Type().Field(i), v.Field(i)
		if !f.IsExported() {
			continue
		}
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		inside := where + "." + name
		if name == "" {
			inside = where // its fields are in this place
		}
		required := false
		for _, m := range known[f.Name] {
			required = required || m.kind == "required" || m.kind == "Required"
		}
		switch {
		case value.IsZero() && required && value.Kind() != reflect.Struct:
			*errs = append(*errs, fmt.Errorf("%s is missing", inside))
		case value.IsZero() && (strings.Contains(rest, "omit") || value.Kind() == reflect.Pointer):
		default:
			d.walk(value, inside, known[f.Name], errs)
		}
	}
}

// ofItems returns what is demanded of the items of a list in a place.
func ofItems(place []demand) (out []demand) {
	for _, m := range place {
		if kind, ok := strings.CutPrefix(m.kind, "items:"); ok {
			out = append(out, demand{kind, m.value})
		}
	}
	return out
}
