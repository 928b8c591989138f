package peer

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"errors"
	"io"
	"testing"
)

func zeroKey(t testing.TB) cipher.AEAD {
	t.Helper()
	aead, err := newAEAD(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// threeRecords returns records that hold "one", "two" and "three".
func threeRecords(t *testing.T) [][]byte {
	t.Helper()
	var b bytes.Buffer
	w := newRecordWriter(&b, zeroKey(t))
	var out [][]byte
	for _, s := range []string{"one", "two", "three"} {
		if err := w.flush(&outbox{plain: []byte(s)}); err != nil {
			t.Fatal(err)
		}
		out = append(out, bytes.Clone(b.Bytes()))
		b.Reset()
	}
	return out
}

func TestRecordsThatWereTouched(t *testing.T) {
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	r := threeRecords(t)
	for _, tt := range []struct {
		name string
		sent [][]byte
		good int // records that are read before the error
		want error
	}{
		{"untouched", r, 3, io.EOF},
		{"a bit of the text", [][]byte{r[0], flip(r[1], 5)}, 1, errForged},
		{"a bit of the tag", [][]byte{flip(r[0], len(r[0])-1)}, 0, errForged},
		{"repeated", [][]byte{r[0], r[0]}, 1, errForged},
		{"left out", [][]byte{r[0], r[2]}, 1, errForged},
		{"swapped", [][]byte{r[1], r[0]}, 0, errForged},
		{"cut in the text", [][]byte{r[0], r[1][:len(r[1])-1]}, 1, io.ErrUnexpectedEOF},
		{"cut in the length", [][]byte{r[0], r[1][:2]}, 1, io.ErrUnexpectedEOF},
		{"longer than allowed", [][]byte{{0, 1, 0, 0}}, 0, errMalformed},
		{"shorter than a tag", [][]byte{{0, 0, 0, 3, 1, 2, 3}}, 0, errMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rd := opened(t, bytes.Join(tt.sent, nil))
			good := 0
			for {
				_, err := rd.next()
				if err == nil {
					good++
					continue
				}
				if good != tt.good || !errors.Is(err, tt.want) {
					t.Errorf("read %d records, then %v; want %d, then %v", good, err, tt.good, tt.want)
				}
				return
			}
		})
	}
}

func TestRecordOfAnotherKey(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	aead, err := newAEAD(key)
	if err != nil {
		t.Fatal(err)
	}
	rd := newRecordReader(bufio.NewReaderSize(bytes.NewReader(threeRecords(t)[0]), readBuffer), aead)
	if _, err := rd.next(); !errors.Is(err, errForged) {
		t.Errorf("got %v", err)
	}
}
