package wire

import (
	"bytes"
	"encoding/base64"
	"time"
)

// Base64 is a value that clients send as a base64 string: standard or URL-safe,
// padded or not. As output it is standard and padded.
type Base64 []byte

// Bytes is a value of the AT Protocol's type bytes: {"$bytes": base64}, or a
// bare base64 string. As output use [Blob].
type Bytes []byte

// Blob is the output form of the AT Protocol's type bytes, always padded.
type Blob struct {
	Bytes []byte `json:"$bytes"`
}

// BlobOf returns b as a Blob; nil is an empty one.
func BlobOf(b []byte) Blob {
	if b == nil {
		b = []byte{}
	}
	return Blob{Bytes: b}
}

// Time is a time as the API writes it: RFC 3339 in UTC with Z, to the
// millisecond. As input it takes any RFC 3339 time.
type Time struct{ time.Time }

const timeForm = "2006-01-02T15:04:05.000Z"

// MarshalJSON writes the API's form.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.UTC().AppendFormat(make([]byte, 0, len(timeForm)+2), `"`+timeForm+`"`), nil
}

// DecodeBase64 decodes standard or URL-safe base64, padded or not. The result
// shares no memory with s.
func DecodeBase64(s []byte) (b []byte, ok bool) {
	trimmed := bytes.TrimRight(s, "=")
	if pad := len(s) - len(trimmed); pad > 0 && (pad > 2 || len(s)%4 != 0) {
		return nil, false
	}
	encoding := base64.RawStdEncoding
	if bytes.IndexByte(trimmed, '-') >= 0 || bytes.IndexByte(trimmed, '_') >= 0 {
		encoding = base64.RawURLEncoding
	}
	b = make([]byte, encoding.DecodedLen(len(trimmed)))
	n, err := encoding.Decode(b, trimmed)
	if err != nil || n != len(b) { // fewer bytes: encoding/base64 steps over line ends
		return nil, false
	}
	return b, true
}

func parseTime(s string) (Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, s)
	return Time{t.UTC()}, err == nil
}
