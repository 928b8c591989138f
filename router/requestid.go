package router

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strconv"
	"sync/atomic"
)

const maxRequestID = 128

// requestIDs names requests: by the client's or the proxy's name where there is
// a usable one, else by one that no other process gives. The zero value is not
// usable.
type requestIDs struct {
	prefix string
	last   *atomic.Uint64
}

func newRequestIDs() requestIDs {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return requestIDs{prefix: hex.EncodeToString(b[:]) + "-", last: new(atomic.Uint64)}
}

func (r requestIDs) of(h http.Header) string {
	if v := h[headerRequestID]; len(v) == 1 && sane(v[0]) {
		return v[0]
	}
	return r.prefix + strconv.FormatUint(r.last.Add(1), 36)
}

// sane reports whether s may go into logs and headers as it is.
func sane(s string) bool {
	if s == "" || len(s) > maxRequestID {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '/', c == '+', c == '=':
		default:
			return false
		}
	}
	return true
}
