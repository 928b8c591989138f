package router

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	headerRequestID = "X-Request-Id"
	// maxPooled is how large a buffer may be that is kept for later requests.
	maxPooled = 64 << 10
	// maxSmall is what net/http finds the Content-Length of by itself.
	maxSmall = 2000
)

// Values of headers, shared by all answers: they are replaced, never changed.
var (
	connectionClose = []string{"close"}
	contentJSON     = []string{"application/json"}
	noStore         = []string{"no-store"}
	bearerChallenge = []string{"Bearer"}
)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= maxPooled {
		b.Reset()
		buffers.Put(b)
	}
}

// encode writes v as JSON, without the escapes that only HTML needs.
func encode(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	b.Truncate(b.Len() - 1) // the encoder's line end
	return nil
}

// answer writes out with status 200.
func (rt *Router) answer(c *call, out any) {
	if s, ok := out.(interface{ encoded() []byte }); ok {
		c.write(http.StatusOK, s.encoded())
		return
	}
	b := buffers.Get().(*bytes.Buffer)
	defer putBuffer(b)
	if err := encode(b, out); err != nil {
		rt.refuse(c, err)
		return
	}
	c.write(http.StatusOK, b.Bytes())
}

// write writes the answer. What cannot be written any more, nobody waits for.
func (c *call) write(status int, body []byte) {
	if c.status == 0 {
		c.status = status
	}
	h := c.writer.Header()
	h["Content-Type"] = contentJSON
	h["Cache-Control"] = noStore
	if len(body) > maxSmall {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	c.leaveBody()
	c.writer.WriteHeader(status)
	c.writer.Write(body)
}

// seconds writes a duration as whole seconds, rounded up.
func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }
