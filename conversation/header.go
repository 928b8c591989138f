package conversation

import "encoding/binary"

// ContentType is the kind of an MLS message (RFC 9420 section 6).
type ContentType uint8

// The content types of RFC 9420 section 6.
const (
	ContentApplication ContentType = 1
	ContentProposal    ContentType = 2
	ContentCommit      ContentType = 3
)

// Header is what an MLS message tells its delivery service in the clear.
type Header struct {
	GroupID []byte // shares memory with the parsed bytes
	Epoch   uint64
	Content ContentType
}

const (
	mlsVersion10       = 0x0001
	wirePublicMessage  = 0x0001
	wirePrivateMessage = 0x0002
)

// ParseHeader reads the header of an MLSMessage that holds a PublicMessage or a
// PrivateMessage (RFC 9420 section 6). ok is false for bytes that have none:
// another version or wire format, a truncated or malformed one. Such bytes are
// opaque to the service. It never panics, whatever the bytes, and reads no more
// than it needs.
func ParseHeader(b []byte) (h Header, ok bool) {
	version, b, ok := readUint16(b)
	if !ok || version != mlsVersion10 {
		return Header{}, false
	}
	wire, b, ok := readUint16(b)
	if !ok || (wire != wirePublicMessage && wire != wirePrivateMessage) {
		return Header{}, false
	}
	h.GroupID, b, ok = readVector(b)
	if !ok || len(b) < 8 {
		return Header{}, false
	}
	h.Epoch, b = binary.BigEndian.Uint64(b), b[8:]
	if wire == wirePublicMessage {
		if b, ok = skipSender(b); !ok {
			return Header{}, false
		}
		if _, b, ok = readVector(b); !ok { // authenticated_data
			return Header{}, false
		}
	}
	if len(b) == 0 {
		return Header{}, false
	}
	h.Content = ContentType(b[0])
	if h.Content < ContentApplication || h.Content > ContentCommit {
		return Header{}, false
	}
	return h, true
}

// skipSender steps over the sender of a PublicMessage (RFC 9420 section 6).
func skipSender(b []byte) (rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, false
	}
	senderType, b := b[0], b[1:]
	switch senderType {
	case 1, 2: // member: leaf_index; external: sender_index
		if len(b) < 4 {
			return nil, false
		}
		return b[4:], true
	case 3, 4: // new_member_proposal, new_member_commit
		return b, true
	default:
		return nil, false
	}
}

func readUint16(b []byte) (v uint16, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	return binary.BigEndian.Uint16(b), b[2:], true
}

// readVector reads a vector with a variable-size length prefix, which must be
// in its shortest form (RFC 9420 section 2.1.2).
func readVector(b []byte) (v, rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, nil, false
	}
	size := 1 << (b[0] >> 6)
	if size == 8 || len(b) < size {
		return nil, nil, false
	}
	n := uint32(b[0] & 0x3f)
	for _, c := range b[1:size] {
		n = n<<8 | uint32(c)
	}
	if size > 1 && n < 1<<(8*size/2-2) { // a shorter prefix would have done
		return nil, nil, false
	}
	b = b[size:]
	if uint64(n) > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
