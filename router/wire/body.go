package wire

import (
	"fmt"
	"reflect"
	"strconv"
)

const (
	// maxDepth is how deep objects and lists may lie in one another.
	maxDepth = 32
	// MaxList is how many entries a list of a body may have.
	MaxList = 1024
)

// Body decodes JSON bodies into T, a struct with json and xrpc tags. It is safe
// for use by several goroutines at once.
type Body[T any] struct{ plan *plan }

// NewBody returns the decoder for T. It panics when T has fields of a type that
// inputs cannot have, so call it when the program starts.
func NewBody[T any]() Body[T] { return Body[T]{newPlan(reflect.TypeFor[T]())} }

// Decode reads the one JSON object that data must be into v, which starts as
// the zero value. The result shares no memory with data. The error, if any, is
// an *[Error].
func (b Body[T]) Decode(data []byte, v *T) error {
	p := parser{data: data}
	p.space()
	err := p.object(b.plan, reflect.ValueOf(v).Elem())
	if err == nil {
		if p.space(); p.pos < len(p.data) {
			return fault(body, "goes on after its end")
		}
		return nil
	}
	if err.Field == "" {
		return within(body, err)
	}
	return err
}

// object reads an object into v, a struct that pl describes.
func (p *parser) object(pl *plan, v reflect.Value) *Error {
	if err := p.open('{', "must be an object"); err != nil {
		return err
	}
	var seen, given uint64
	for first := true; ; first = false {
		done, err := p.next('}', first)
		if err != nil {
			return err
		}
		if done {
			return pl.missing(given)
		}
		i, err := p.name(pl)
		if err != nil {
			return err
		}
		if i < 0 {
			if err := p.skip(); err != nil {
				return err
			}
			continue
		}
		f, bit := &pl.fields[i], uint64(1)<<i
		if seen&bit != 0 {
			return fault(f.name, "is given twice")
		}
		seen |= bit
		if p.null() {
			continue // as if it were not there
		}
		given |= bit
		if err := p.value(f, v.Field(f.index)); err != nil {
			return within(f.name, err)
		}
	}
}

// name reads the name of a field and the colon after it, and returns the
// field's number, -1 for one that nobody knows.
func (p *parser) name(pl *plan) (int, *Error) {
	raw, err := p.text("")
	if err != nil {
		return 0, badJSON
	}
	i := pl.find(raw)
	p.space()
	if !p.accept(':') {
		return 0, badJSON
	}
	p.space()
	return i, nil
}

// value reads a value into the field v.
func (p *parser) value(f *field, v reflect.Value) *Error {
	if f.object != nil {
		return p.nested(f.object, v)
	}
	switch to := v.Addr().Interface().(type) {
	case *string:
		return p.string(to)
	case *bool:
		return p.bool(to)
	case **bool:
		*to = new(bool)
		return p.bool(*to)
	case *int64:
		return p.int(to)
	case **int64:
		*to = new(int64)
		return p.int(*to)
	case *[]string:
		return p.list(func(int) *Error {
			var s string
			err := p.string(&s)
			*to = append(*to, s)
			return err
		})
	case *Base64:
		return p.base64((*[]byte)(to), "must be a base64 string")
	case *Bytes:
		return p.bytes(to)
	case **Time:
		return p.time(to)
	}
	panic(fmt.Sprintf("wire: no decoder for %s", v.Type())) // newPlan has refused it
}

// nested reads an object, or a list of objects.
func (p *parser) nested(pl *plan, v reflect.Value) *Error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return p.object(pl, v.Elem())
	}
	return p.list(func(i int) *Error {
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		return p.object(pl, v.Index(i))
	})
}

func (p *parser) list(entry func(i int) *Error) *Error {
	if err := p.open('[', "must be a list"); err != nil {
		return err
	}
	for i := 0; ; i++ {
		done, err := p.next(']', i == 0)
		if err != nil || done {
			return err
		}
		if i == MaxList {
			return fault("", fmt.Sprintf("holds more than %d entries", MaxList))
		}
		if err := entry(i); err != nil {
			return within(index(i), err)
		}
	}
}

func (p *parser) string(to *string) *Error {
	raw, err := p.text("must be a string")
	if err != nil {
		return err
	}
	if problem := storable(raw); problem != "" {
		return fault("", problem)
	}
	*to = string(raw)
	return nil
}

func (p *parser) bool(to *bool) *Error {
	switch {
	case p.literal("true"):
		*to = true
	case p.literal("false"):
		*to = false
	default:
		return p.wrong("must be true or false")
	}
	return nil
}

func (p *parser) int(to *int64) *Error {
	start := p.pos
	if !p.number() {
		p.pos = start
		return p.wrong("must be an integer")
	}
	n, problem := parseInt(string(p.data[start:p.pos]))
	if problem != "" {
		return fault("", problem)
	}
	*to = n
	return nil
}

func parseInt(s string) (n int64, problem string) {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c != '-' || i > 0) {
			return 0, "must be an integer"
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, "must be an integer of 64 bits"
	}
	return n, ""
}

func (p *parser) time(to **Time) *Error {
	const problem = "must be an RFC 3339 time"
	raw, err := p.text(problem)
	if err != nil {
		return err
	}
	t, ok := parseTime(string(raw))
	if !ok {
		return fault("", problem)
	}
	*to = &t
	return nil
}

func (p *parser) base64(to *[]byte, problem string) *Error {
	raw, escaped, ok := p.quoted()
	if !ok {
		return p.wrong(problem)
	}
	if escaped {
		if raw, ok = unescape(raw); !ok {
			return badJSON
		}
	}
	if *to, ok = DecodeBase64(raw); !ok {
		return fault("", "is not base64")
	}
	return nil
}

var blobPlan = newPlan(reflect.TypeFor[struct {
	Bytes Base64 `json:"$bytes" xrpc:"required"`
}]())

func (p *parser) bytes(to *Bytes) *Error {
	if p.peek() != '{' {
		return p.base64((*[]byte)(to), `must be {"$bytes": base64}`)
	}
	var blob struct {
		Bytes Base64 `json:"$bytes" xrpc:"required"`
	}
	err := p.object(blobPlan, reflect.ValueOf(&blob).Elem())
	*to = Bytes(blob.Bytes)
	return err
}
