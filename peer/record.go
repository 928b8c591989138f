package peer

import (
	"bufio"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

const (
	recordHeader = 4 // the length of what follows
	recordTag    = 16
	sealedMax    = maxRecord + recordTag
	// writeChunk is how much is sealed before it is written: several records at
	// once, and large frames in pieces.
	writeChunk = 64 << 10
	// readBuffer holds a whole record.
	readBuffer = recordHeader + sealedMax
)

// errForged: a record was not made by who knows the key, for this place.
var errForged = errors.New("record is not authentic")

// nonce is the number of a record under its key.
type nonce [12]byte

// take returns the nonce of the record with the number n.
func (b *nonce) take(n uint64) []byte {
	binary.BigEndian.PutUint64(b[4:], n)
	return b[:]
}

// recordWriter seals what is in outboxes and writes it. For one goroutine,
// except total.
type recordWriter struct {
	w     io.Writer
	aead  cipher.AEAD
	count uint64
	nonce nonce
	out   []byte
	total atomic.Uint64 // bytes written
}

func newRecordWriter(w io.Writer, aead cipher.AEAD) *recordWriter {
	return &recordWriter{w: w, aead: aead}
}

// flush writes everything in o as records and empties it.
func (w *recordWriter) flush(o *outbox) error {
	start := 0
	for _, end := range o.cuts {
		if err := w.seal(o.plain[start:end], len(o.plain)-start); err != nil {
			return err
		}
		start = end
	}
	if start < len(o.plain) {
		if err := w.seal(o.plain[start:], len(o.plain)-start); err != nil {
			return err
		}
	}
	o.reset()
	return w.write()
}

// seal appends one record to what is to be written, in reach of left bytes of
// plain text.
func (w *recordWriter) seal(plain []byte, left int) error {
	if w.out == nil {
		w.out = make([]byte, 0, min(left+recordHeader+recordTag, writeChunk+readBuffer))
	}
	w.out = binary.BigEndian.AppendUint32(w.out, uint32(len(plain)+recordTag))
	w.out = w.aead.Seal(w.out, w.nonce.take(w.count), plain, nil)
	w.count++
	if len(w.out) < writeChunk {
		return nil
	}
	return w.write()
}

func (w *recordWriter) write() error {
	n, err := w.w.Write(w.out)
	w.total.Add(uint64(n))
	w.out = w.out[:0]
	return err
}

// recordReader reads and opens records. For one goroutine, except total.
type recordReader struct {
	r     *bufio.Reader // of at least readBuffer bytes
	aead  cipher.AEAD
	count uint64
	nonce nonce
	used  int           // bytes of r that hold the record last returned
	total atomic.Uint64 // bytes read
}

func newRecordReader(r *bufio.Reader, aead cipher.AEAD) *recordReader {
	return &recordReader{r: r, aead: aead}
}

// next blocks until a whole record is there and returns what was in it, valid
// until the next call. io.EOF comes only between two records.
func (r *recordReader) next() ([]byte, error) {
	if _, err := r.r.Discard(r.used); err != nil {
		return nil, err
	}
	r.used = 0
	head, err := r.r.Peek(recordHeader)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	length := binary.BigEndian.Uint32(head)
	if length < recordTag || length > sealedMax {
		return nil, fmt.Errorf("%w: record of %d bytes", errMalformed, length)
	}
	whole, err := r.r.Peek(recordHeader + int(length))
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	sealed := whole[recordHeader:]
	plain, err := r.aead.Open(sealed[:0], r.nonce.take(r.count), sealed, nil)
	if err != nil {
		return nil, errForged
	}
	r.count++
	r.used = len(whole)
	r.total.Add(uint64(r.used))
	return plain, nil
}
