package postgres

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"
)

// blobs is a bytea[] parameter that is encoded into room made for all of it at
// once. The general way grows its buffer as it goes, which for a batch of some MiB
// copies what is there again and again, and leaves several times the batch to
// the garbage collector. Elements that are nil are NULL.
type blobs [][]byte

// blobsCodec adds blobs to what an array of bytea is encoded from.
type blobsCodec struct{ pgtype.Codec }

func registerBlobs(m *pgtype.Map) {
	if t, ok := m.TypeForOID(pgtype.ByteaArrayOID); ok {
		m.RegisterType(&pgtype.Type{Name: t.Name, OID: t.OID, Codec: blobsCodec{t.Codec}})
	}
}

func (c blobsCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(blobs); ok && format == pgtype.BinaryFormatCode {
		return encodeBlobs{}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

type encodeBlobs struct{}

// Encode writes the binary form of an array: dimensions, whether there are
// NULLs, the type of the elements, then length and lower bound of each dimension,
// then each element after its length (PostgreSQL's array_recv).
func (encodeBlobs) Encode(value any, buf []byte) ([]byte, error) {
	all, ok := value.(blobs)
	if !ok {
		return nil, fmt.Errorf("encoding %T as blobs", value)
	}
	const header, null = 20, -1
	size, nulls := header, uint32(0)
	for _, b := range all {
		size += 4 + len(b)
		if b == nil {
			nulls = 1
		}
	}
	be := binary.BigEndian
	buf = slices.Grow(buf, size)
	buf = be.AppendUint32(be.AppendUint32(be.AppendUint32(buf, 1), nulls), pgtype.ByteaOID)
	buf = be.AppendUint32(be.AppendUint32(buf, uint32(len(all))), 1)
	for _, b := range all {
		length := int32(len(b))
		if b == nil {
			length = null
		}
		buf = append(be.AppendUint32(buf, uint32(length)), b...)
	}
	return buf, nil
}
