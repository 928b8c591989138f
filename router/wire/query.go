package wire

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
)

// Query decodes query strings into T, a struct with json and xrpc tags whose
// fields are strings, lists of strings, integers and truth values. It is safe
// for use by several goroutines at once.
type Query[T any] struct{ plan *plan }

// NewQuery returns the decoder for T. It panics when T has fields of a type
// that queries cannot have, so call it when the program starts.
func NewQuery[T any]() Query[T] {
	t := reflect.TypeFor[T]()
	pl := newPlan(t)
	for _, f := range Fields(t, false) {
		switch reflect.New(f.Type).Interface().(type) {
		case *string, *bool, **bool, *int64, **int64, *[]string:
		default:
			panic(fmt.Sprintf("wire: %s.%s is of a type that queries cannot have: %s", t, f.Name, f.Type))
		}
	}
	return Query[T]{pl}
}

// Decode reads the query string raw into v, which starts as the zero value.
// Lists repeat their name. A parameter with no value is as one that is not
// there. The error, if any, is an *[Error].
func (q Query[T]) Decode(raw string, v *T) error {
	var given uint64
	to := reflect.ValueOf(v).Elem()
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(pair, "=")
		i := q.find(name)
		if i < 0 || value == "" {
			continue
		}
		f := &q.plan.fields[i]
		value, err := url.QueryUnescape(value)
		if err != nil {
			return fault(f.name, "is not escaped as a query must be")
		}
		problem := storable(value)
		if problem == "" {
			problem = setParameter(to.Field(f.index), value, given&(1<<i) != 0)
		}
		if problem != "" {
			return fault(f.name, problem)
		}
		given |= 1 << i
	}
	if err := q.plan.missing(given); err != nil {
		return err
	}
	return nil
}

func (q Query[T]) find(name string) int {
	if strings.ContainsAny(name, "%+") {
		plain, err := url.QueryUnescape(name)
		if err != nil {
			return -1
		}
		name = plain
	}
	for i := range q.plan.fields {
		if q.plan.fields[i].name == name {
			return i
		}
	}
	return -1
}

func setParameter(field reflect.Value, value string, again bool) (problem string) {
	if list, ok := field.Addr().Interface().(*[]string); ok {
		*list = append(*list, value)
		return ""
	}
	if again {
		return "is given twice"
	}
	switch to := field.Addr().Interface().(type) {
	case *string:
		*to = value
	case *int64:
		*to, problem = parseInt(value)
	case **int64:
		*to = new(int64)
		**to, problem = parseInt(value)
	case *bool:
		*to, problem = parseBool(value)
	case **bool:
		*to = new(bool)
		**to, problem = parseBool(value)
	}
	return problem
}

func parseBool(s string) (b bool, problem string) {
	switch s {
	case "true":
		return true, ""
	case "false":
		return false, ""
	default:
		return false, "must be true or false"
	}
}
