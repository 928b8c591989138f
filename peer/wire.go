package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Messages are written as tagged fields, in the encoding of protocol buffers:
// each field is a tag (number and wire type) and a value, in any order; fields
// with the zero value are left out; fields that the reader does not know are
// stepped over. So neighbours of different versions understand each other.

const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

var errMalformed = errors.New("malformed message")

func appendTag(b []byte, field, wire int) []byte {
	return binary.AppendUvarint(b, uint64(field)<<3|uint64(wire))
}

func appendUint(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(appendTag(b, field, wireVarint), v)
}

func appendBool(b []byte, field int, v bool) []byte {
	if !v {
		return b
	}
	return appendUint(b, field, 1)
}

func appendInt(b []byte, field int, v int64) []byte {
	return appendUint(b, field, zigzag(v))
}

// appendOptInt keeps nil and 0 apart.
func appendOptInt(b []byte, field int, v *int64) []byte {
	if v == nil {
		return b
	}
	return binary.AppendUvarint(appendTag(b, field, wireVarint), zigzag(*v))
}

func appendString(b []byte, field int, s string) []byte {
	if s == "" {
		return b
	}
	return appendElement(b, field, s)
}

// appendElement appends one element of a repeated field, which is there also
// when it is empty.
func appendElement(b []byte, field int, s string) []byte {
	b = binary.AppendUvarint(appendTag(b, field, wireBytes), uint64(len(s)))
	return append(b, s...)
}

// appendBytes keeps nil and empty apart.
func appendBytes(b []byte, field int, p []byte) []byte {
	if p == nil {
		return b
	}
	b = binary.AppendUvarint(appendTag(b, field, wireBytes), uint64(len(p)))
	return append(b, p...)
}

// nestedLen is how many bytes hold the length of a nested message: it is not
// known before the message is written, so the varint is padded to a fixed size.
const nestedLen = 4

// beginNested starts a nested message; endNested, given what beginNested
// returned beside the buffer, ends it.
func beginNested(b []byte, field int) (buf []byte, start int) {
	b = appendTag(b, field, wireBytes)
	b = append(b, 0, 0, 0, 0)
	return b, len(b)
}

func endNested(b []byte, start int) []byte {
	n := len(b) - start
	for i := range nestedLen {
		c := byte(n>>(7*i)) & 0x7f
		if i < nestedLen-1 {
			c |= 0x80
		}
		b[start-nestedLen+i] = c
	}
	return b
}

func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// decoder walks through the fields of a message: next moves to the next one,
// the other methods return its value. The first error ends the walk and stays
// in err. Values that are slices alias the message.
type decoder struct {
	rest  []byte
	field int
	wire  int
	num   uint64
	data  []byte
	err   error
}

func (d *decoder) next() bool {
	if d.err != nil || len(d.rest) == 0 {
		return false
	}
	tag, ok := d.varint()
	if !ok {
		return false
	}
	if tag>>3 == 0 || tag>>3 > 1<<29-1 {
		d.err = fmt.Errorf("%w: field number %d", errMalformed, tag>>3)
		return false
	}
	d.field, d.wire = int(tag>>3), int(tag&7)
	d.num, d.data = 0, nil
	switch d.wire {
	case wireVarint:
		d.num, ok = d.varint()
	case wireBytes:
		if d.num, ok = d.varint(); ok {
			d.data, ok = d.take(d.num)
		}
	case wireFixed64:
		_, ok = d.take(8)
	case wireFixed32:
		_, ok = d.take(4)
	default:
		d.err = fmt.Errorf("%w: wire type %d", errMalformed, d.wire)
		return false
	}
	return ok
}

func (d *decoder) varint() (uint64, bool) {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.err = fmt.Errorf("%w: bad number", errMalformed)
		return 0, false
	}
	d.rest = d.rest[n:]
	return v, true
}

func (d *decoder) take(n uint64) ([]byte, bool) {
	if n > uint64(len(d.rest)) {
		d.err = fmt.Errorf("%w: %d bytes announced, %d there", errMalformed, n, len(d.rest))
		return nil, false
	}
	p := d.rest[:n:n]
	d.rest = d.rest[n:]
	return p, true
}

func (d *decoder) expect(wire int) bool {
	if d.wire == wire {
		return true
	}
	if d.err == nil {
		d.err = fmt.Errorf("%w: field %d has wire type %d", errMalformed, d.field, d.wire)
	}
	return false
}

func (d *decoder) uint() uint64 {
	d.expect(wireVarint)
	return d.num
}

func (d *decoder) bool() bool { return d.uint() != 0 }

func (d *decoder) int() int64 { return unzigzag(d.uint()) }

func (d *decoder) optInt() *int64 {
	v := d.int()
	return &v
}

// view returns the value without copying it.
func (d *decoder) view() []byte {
	d.expect(wireBytes)
	return d.data
}

func (d *decoder) string() string { return string(d.view()) }

// limit refuses a repeated field of more than limit elements.
func (d *decoder) limit(have, limit int) bool {
	if have < limit {
		return true
	}
	if d.err == nil {
		d.err = fmt.Errorf("%w: field %d repeats more than %d times", errMalformed, d.field, limit)
	}
	return false
}
