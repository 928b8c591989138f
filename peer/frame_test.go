package peer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"pgregory.net/rapid"
)

// sealed returns what flush makes of o under a key of zeros.
func sealed(t testing.TB, o *outbox) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := newRecordWriter(&b, zeroKey(t)).flush(o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func opened(t testing.TB, b []byte) *recordReader {
	t.Helper()
	return newRecordReader(bufio.NewReaderSize(bytes.NewReader(b), readBuffer), zeroKey(t))
}

func put(o *outbox, kind frameKind, id uint64, body []byte) {
	start := o.begin(kind, id)
	o.plain = append(o.plain, body...)
	o.end(start)
}

func TestFramesSurviveRecords(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(
			rapid.IntRange(0, 200), rapid.IntRange(maxRecord-2*frameHeader, maxRecord+frameHeader), rapid.IntRange(0, 3*writeChunk),
		), 1, 12).Draw(rt, "sizes")
		var o outbox
		for id, size := range sizes {
			put(&o, kindChange, uint64(id), bytes.Repeat([]byte{byte(id + 1)}, size))
		}
		refused := rapid.SliceOfDistinct(rapid.IntRange(0, len(sizes)-1), rapid.ID[int]).Draw(rt, "refused")
		r := frameReader{records: opened(t, sealed(t, &o)), max: maxQuestion}
		asked := map[int]bool{}
		r.admit = func(kind frameKind, id uint64, size int) bool {
			if kind != kindChange || size != sizes[id] {
				rt.Fatalf("asked to admit kind %d of %d bytes as id %d", kind, size, id)
			}
			for _, n := range refused {
				if n == int(id) {
					asked[n] = true
					return false
				}
			}
			return true
		}
		for id, size := range sizes {
			if size+frameHeader > maxRecord && contains(refused, id) {
				continue
			}
			f, err := r.next()
			if err != nil {
				rt.Fatalf("frame %d of %v: %v", id, sizes, err)
			}
			if f.id != uint64(id) || f.kind != kindChange || !bytes.Equal(f.body, bytes.Repeat([]byte{byte(id + 1)}, size)) {
				rt.Fatalf("frame %d of %v: got id %d, kind %d, %d bytes", id, sizes, f.id, f.kind, len(f.body))
			}
			if f.owned != (size+frameHeader > maxRecord) {
				rt.Fatalf("frame of %d bytes: owned is %v", size, f.owned)
			}
		}
		if _, err := r.next(); !errors.Is(err, io.EOF) {
			rt.Fatalf("after the last frame: %v", err)
		}
	})
}

func contains(s []int, v int) bool {
	for _, x := range s {
		if x == v {
			return true
		}
	}
	return false
}

func TestFrameLongerThanAllowedTakesNoMemory(t *testing.T) {
	var o outbox
	put(&o, kindChange, 1, make([]byte, maxAnswer+1))
	r := frameReader{records: opened(t, sealed(t, &o)), max: maxAnswer}
	if _, err := r.next(); !errors.Is(err, errMalformed) {
		t.Errorf("got %v", err)
	}
}

// records is a source of plain records.
type records [][]byte

func (r *records) next() ([]byte, error) {
	if len(*r) == 0 {
		return nil, io.EOF
	}
	p := (*r)[0]
	*r = (*r)[1:]
	return p, nil
}

func TestFrameHeaderAcrossRecordsIsRefused(t *testing.T) {
	var o outbox
	put(&o, kindPing, 1, nil)
	r := frameReader{records: &records{o.plain[:5], o.plain[5:]}, max: maxAnswer}
	if _, err := r.next(); !errors.Is(err, errMalformed) {
		t.Errorf("got %v", err)
	}
}

func TestFrameCutShort(t *testing.T) {
	var o outbox
	put(&o, kindChange, 1, make([]byte, 2*maxRecord))
	plain := o.plain[:maxRecord]
	for name, admit := range map[string]bool{"read": true, "stepped over": false} {
		r := frameReader{
			records: &records{plain}, max: maxQuestion,
			admit: func(frameKind, uint64, int) bool { return admit },
		}
		if _, err := r.next(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A frame takes no many times its own size in memory, whatever it repeats.
func TestRepeatedFieldsAreBounded(t *testing.T) {
	for name, field := range map[string]int{"offer": fieldOffer, "take": fieldTake} {
		body := appendStrings(nil, field, make([]string, maxConvos))
		if _, _, err := decodeQuestion(kindEpoch, body, false); err != nil {
			t.Errorf("%s of %d: %v", name, maxConvos, err)
		}
		if _, _, err := decodeQuestion(kindEpoch, appendElement(body, field, ""), false); err == nil {
			t.Errorf("%s of one more was taken", name)
		}
	}
	body := appendStrings(appendUint(nil, fieldStatus, uint64(Served)), fieldAccepted, make([]string, maxConvos+1))
	if _, err := decodeAnswer(body); err == nil {
		t.Error("more accepted than may be offered was taken")
	}
}

// FuzzDecodeFrame feeds arbitrary plain bytes to all that reads what a peer
// says: nothing may panic, and what is read must mean the same when it is
// written and read again.
func FuzzDecodeFrame(f *testing.F) {
	var o outbox
	q, e := sendOf("id", 100), epochOf("00aa")
	put(&o, kindChange, 1, appendQuestion(nil, &q, 1e9))
	put(&o, kindEpoch, 2, appendQuestion(nil, &e, -1))
	a := served(q)
	put(&o, kindAnswer, 1, appendAnswer(nil, &a))
	o.add(kindPing, 0)
	f.Add(o.plain)
	h := hello{versions: []uint64{1}, node: "b", software: "v", key: make([]byte, 32), purpose: purposeBulk, window: 9}
	f.Add(h.append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := decodeHello(data); err == nil {
			if _, err := decodeHello(h.append(nil)); err != nil {
				t.Errorf("hello that does not survive: %v", err)
			}
		}
		r := frameReader{records: &records{data}, max: 1 << 20}
		for {
			f, err := r.next()
			if err != nil {
				return
			}
			checkFrame(t, f)
		}
	})
}

func checkFrame(t *testing.T, f frame) {
	if _, err := decodeEpochQuery(f.body); err != nil {
		if _, _, err := decodeQuestion(kindEpoch, f.body, false); err == nil {
			t.Error("the two readers of an epoch query disagree")
		}
	}
	if q, left, err := decodeQuestion(kindChange, f.body, false); err == nil && q.Change.Command != nil {
		again, _, err := decodeQuestion(kindChange, appendQuestion(nil, &q, left), false)
		if err != nil || again.Change.ID != q.Change.ID || again.Change.Command.Size() != q.Change.Command.Size() {
			t.Errorf("question that does not survive: %+v, %v", q, err)
		}
	}
	if a, err := decodeAnswer(f.body); err == nil {
		if again, err := decodeAnswer(appendAnswer(nil, &a)); err != nil || again.Status != a.Status {
			t.Errorf("answer that does not survive: %+v, %v", a, err)
		}
	}
}
