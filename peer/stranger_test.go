package peer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"testing"
)

// FuzzReadOffer feeds what may stand in the header of the internal port. Whoever
// does not know the secret is unauthorized, whatever they say; what is said by
// somebody who does is read within its bounds, or refused as malformed.
func FuzzReadOffer(f *testing.F) {
	ours, theirs := mustSecret(f, "ours"), mustSecret(f, "theirs")
	genuine, err := ours.offer(hello{node: "a", software: "v1", purpose: purposeSmall, window: 7})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(authScheme+" ", []byte{})
	f.Add("Bearer x", (&hello{versions: []uint64{1, 2}, node: "a", key: bytes.Repeat([]byte{9}, 32)}).append(nil))
	f.Add(authScheme+" "+base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{1}, 64)), bytes.Repeat([]byte{helloVersion << 3, 1}, 40))
	header := func(s secret, said []byte) string {
		return (&offer{secret: s, signed: s.sign(roleClient, nil, bytes.Clone(said))}).authorization()
	}
	f.Fuzz(func(t *testing.T, strange string, said []byte) {
		if _, _, err := ours.readOffer(strange); !errors.Is(err, errUnauthorized) {
			t.Fatalf("%q: %v", strange, err)
		}
		if _, _, err := ours.readOffer(header(theirs, said)); !errors.Is(err, errUnauthorized) {
			t.Fatalf("a hello under another secret: %v", err)
		}
		h, _, err := ours.readOffer(header(ours, said))
		switch {
		case err == nil && (len(h.node) > maxName || len(h.software) > maxName || len(h.versions) > 16):
			t.Fatalf("read beyond its bounds: %d, %d, %d", len(h.node), len(h.software), len(h.versions))
		case err != nil && !errors.Is(err, errMalformed) && !errors.Is(err, errUnauthorized):
			t.Fatalf("refused with %v", err)
		}
		if _, _, err := genuine.accept(strange); err == nil {
			t.Fatalf("an answer of nobody's is accepted: %q", strange)
		}
	})
}

// FuzzRecords feeds what somebody on the line may send. Nothing is opened but what
// was sealed, unchanged and in its order.
func FuzzRecords(f *testing.F) {
	var o outbox
	put(&o, kindPing, 1, []byte("one"))
	first := sealed(f, &o)
	f.Add([]byte{}, uint(0))
	f.Add(first, uint(4))
	f.Add(first[:len(first)-1], uint(len(first)-1))
	f.Add(append(bytes.Clone(first), first...), uint(0)) // replayed
	f.Add([]byte{0, 0, 0, recordTag}, uint(0))
	f.Add([]byte{255, 255, 255, 255}, uint(0))
	f.Fuzz(func(t *testing.T, line []byte, at uint) {
		r := opened(t, line)
		for n := 0; ; n++ {
			_, err := r.next()
			if err == nil && n == 0 && bytes.HasPrefix(line, first) {
				continue
			}
			if err == nil {
				t.Fatalf("record %d of %x is opened", n, line)
			}
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errMalformed) && !errors.Is(err, errForged) {
				t.Fatalf("refused with %v", err)
			}
			break
		}
		changed := bytes.Clone(first)
		changed[at%uint(len(changed))] ^= 1
		if plain, err := opened(t, changed).next(); err == nil {
			t.Fatalf("a changed record is opened: %x", plain)
		}
	})
}
