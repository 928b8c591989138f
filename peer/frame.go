package peer

import (
	"encoding/binary"
	"fmt"
)

// frameKind says what a frame is. Kinds that a reader does not know are stepped
// over, unless they have the bit of a question: then the answer is unsupported.
type frameKind uint8

const (
	kindEpoch  frameKind = questionBit | 1
	kindChange frameKind = questionBit | 2

	kindAnswer frameKind = 1
	kindCancel frameKind = 2 // of the question with that id
	kindPing   frameKind = 3 // answered by a pong
	kindPong   frameKind = 4
	// kindGoAway: the server wants no more questions on this stream.
	kindGoAway frameKind = 5
	// kindFinish: the client will send no more questions. The server answers
	// what it has and then says kindBye.
	kindFinish frameKind = 6
	// kindBye: nothing follows.
	kindBye frameKind = 7

	questionBit frameKind = 0x40
)

// Sizes, in bytes.
const (
	// frameHeader is the body's length (4), the kind (1) and the id (8). It
	// never crosses the border of a record, and a frame that fits into one
	// record does not either.
	frameHeader = 13
	// maxRecord is how much one sealed record holds.
	maxRecord = 16 << 10
	// bulkSize is from where on a question takes the second connection.
	bulkSize = 64 << 10
	// maxQuestion bounds the body of a question. The largest of the API is an
	// addMembers with commit and welcome of 10 MiB each.
	maxQuestion = 24 << 20
	// maxAnswer bounds the body of an answer.
	maxAnswer = 64 << 10
)

// outbox gathers frames, and where records end among them. The zero value is
// empty.
type outbox struct {
	plain []byte
	cuts  []int // ends of the records that are complete
	open  int   // where the record that is being filled begins
}

func (o *outbox) empty() bool { return len(o.plain) == 0 }

// begin appends a frame's header. The caller appends the body to o.plain and
// passes start on to end.
func (o *outbox) begin(kind frameKind, id uint64) (start int) {
	start = len(o.plain)
	o.plain = append(o.plain, 0, 0, 0, 0, byte(kind))
	o.plain = binary.BigEndian.AppendUint64(o.plain, id)
	return start
}

func (o *outbox) end(start int) {
	binary.BigEndian.PutUint32(o.plain[start:], uint32(len(o.plain)-start-frameHeader))
	if len(o.plain)-o.open <= maxRecord {
		return
	}
	if start > o.open {
		o.cuts = append(o.cuts, start)
		o.open = start
	}
	for len(o.plain)-o.open > maxRecord {
		o.open += maxRecord
		o.cuts = append(o.cuts, o.open)
	}
}

// add appends a frame without a body.
func (o *outbox) add(kind frameKind, id uint64) { o.end(o.begin(kind, id)) }

// reset empties the outbox and keeps its memory, unless that is a lot.
func (o *outbox) reset() {
	if cap(o.plain) > 2*writeChunk {
		o.plain = nil
	}
	o.plain, o.cuts, o.open = o.plain[:0], o.cuts[:0], 0
}

// frame is a frame as it was read.
type frame struct {
	kind frameKind
	id   uint64
	body []byte
	// owned: body is nobody else's. Otherwise it is valid until the next read.
	owned bool
}

// frameReader takes frames out of records.
type frameReader struct {
	records interface{ next() ([]byte, error) }
	max     int // of a body, in bytes
	// admit, where set, is asked before memory is taken for a frame of more than
	// one record; without it the frame is read and forgotten.
	admit func(kind frameKind, id uint64, size int) bool

	rest []byte
}

// next blocks until there is a frame.
func (r *frameReader) next() (frame, error) {
	for {
		f, size, err := r.header()
		if err != nil {
			return frame{}, err
		}
		if size <= len(r.rest) {
			f.body, r.rest = r.rest[:size], r.rest[size:]
			return f, nil
		}
		if r.admit == nil || r.admit(f.kind, f.id, size) {
			f.body, err = r.gather(size)
			f.owned = true
			return f, err
		}
		if err := r.skip(size); err != nil {
			return frame{}, err
		}
	}
}

func (r *frameReader) header() (f frame, size int, err error) {
	for len(r.rest) == 0 {
		if r.rest, err = r.records.next(); err != nil {
			return frame{}, 0, err
		}
	}
	if len(r.rest) < frameHeader {
		return frame{}, 0, fmt.Errorf("%w: frame header of %d bytes", errMalformed, len(r.rest))
	}
	length := binary.BigEndian.Uint32(r.rest)
	if uint64(length) > uint64(r.max) {
		return frame{}, 0, fmt.Errorf("%w: frame of %d bytes, at most %d are allowed", errMalformed, length, r.max)
	}
	f = frame{kind: frameKind(r.rest[4]), id: binary.BigEndian.Uint64(r.rest[5:])}
	r.rest = r.rest[frameHeader:]
	return f, int(length), nil
}

func (r *frameReader) gather(size int) ([]byte, error) {
	body := make([]byte, 0, size)
	for {
		n := min(size-len(body), len(r.rest))
		body, r.rest = append(body, r.rest[:n]...), r.rest[n:]
		if len(body) == size {
			return body, nil
		}
		var err error
		if r.rest, err = r.records.next(); err != nil {
			return nil, err
		}
	}
}

func (r *frameReader) skip(size int) error {
	for {
		n := min(size, len(r.rest))
		size, r.rest = size-n, r.rest[n:]
		if size == 0 {
			return nil
		}
		var err error
		if r.rest, err = r.records.next(); err != nil {
			return err
		}
	}
}
