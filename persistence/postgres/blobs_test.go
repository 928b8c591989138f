package postgres

import (
	"bytes"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"
)

// Blobs are encoded as any other array of bytea is, and into one piece of memory.
func TestBlobs(t *testing.T) {
	plain, ours := pgtype.NewMap(), pgtype.NewMap()
	registerBlobs(ours)
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOf(rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 50), rapid.Just([]byte(nil)))).Draw(t, "blobs")
		if all == nil {
			all = [][]byte{}
		}
		before := []byte("before")
		want, err := plain.Encode(pgtype.ByteaArrayOID, pgtype.BinaryFormatCode, all, before)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ours.Encode(pgtype.ByteaArrayOID, pgtype.BinaryFormatCode, blobs(all), before)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%x, %v, want %x", got, err, want)
		}
		other, err := ours.Encode(pgtype.ByteaArrayOID, pgtype.BinaryFormatCode, all, before)
		if err != nil || !bytes.Equal(other, want) {
			t.Errorf("a plain slice: %x, %v, want %x", other, err, want)
		}
	})
	batch := make(blobs, 1024)
	for i := range batch {
		batch[i] = make([]byte, 1024)
	}
	_, _ = ours.Encode(pgtype.ByteaArrayOID, pgtype.BinaryFormatCode, batch, nil) // plans are kept
	allocated := testing.AllocsPerRun(5, func() {
		if _, err := ours.Encode(pgtype.ByteaArrayOID, pgtype.BinaryFormatCode, batch, nil); err != nil {
			t.Error(err)
		}
	})
	if allocated > 3 {
		t.Errorf("%v allocations for a batch", allocated)
	}
}
