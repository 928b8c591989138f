package hostile

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/config"
)

const mallory = "did:plc:mallory"

// startShort starts a node that waits for nobody's body for long.
func startShort(t *testing.T) *apptest.Node {
	t.Helper()
	return apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true),
		func(c *config.Config) { c.Limits.RequestTimeout = 2 * time.Second })
}

// post is the head of a call of the method name by mallory; more are further
// header lines, each with its line end.
func post(t *testing.T, name, more string) string {
	return fmt.Sprintf("POST /xrpc/%s%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n", client.Prefix, name, token(t, mallory, name), more)
}

// endless writes chunk again and again, until the other side has had enough.
func endless(w io.Writer, chunk string) (written int) {
	for written < 1<<30 {
		n, err := io.WriteString(w, chunk)
		written += n
		if err != nil {
			break
		}
	}
	return written
}

// Bodies that are too long, that never end, that come too slowly or not at all:
// each is answered or cut off, and never read further than its endpoint allows.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	n := startShort(t)
	// One whose time-outs are longer than this test's patience: what nobody reads
	// must not be waited for until then.
	patient := apptest.Start(t, apptest.SQLite(t.TempDir()), func(c *config.Config) { c.Limits.RequestTimeout = apptest.Patience })
	chunk := strings.Repeat("a", 1<<16)
	for name, tt := range map[string]struct {
		head   string
		chunk  string // repeated for as long as it is taken; "": nothing more comes
		most   int    // that may be taken, in bytes, beside what the sockets hold
		status int
	}{
		"a length beyond all bounds":       {post(t, "sendMessage", "Content-Length: 99999999999\r\n"), chunk, 0, 413},
		"a body that never ends":           {post(t, "sendMessage", "Transfer-Encoding: chunked\r\n"), "10000\r\n" + chunk + "\r\n", 16 << 20, 413},
		"a small endpoint's, never ending": {post(t, "confirmWelcome", "Transfer-Encoding: chunked\r\n"), "10000\r\n" + chunk + "\r\n", 1 << 20, 413},
		"a chunk's header never ending":    {post(t, "sendMessage", "Transfer-Encoding: chunked\r\n"), "1;" + strings.Repeat("x", 1<<14), 1 << 20, 400},
		"one byte and no more":             {post(t, "sendMessage", "Content-Length: 1000\r\n") + "{", "", 0, 400},
		"nothing, and no token": {
			"POST /xrpc/" + client.Prefix + "sendMessage HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "", 0, 401,
		},
		"a query's body":         {"GET /xrpc/" + client.Prefix + "getConvos HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "", 0, 401},
		"to health":              {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "", 0, 200},
		"to what there is not":   {"POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "", 0, 404},
		"a promise to be called": {post(t, "sendMessage", "Content-Length: 1000\r\nExpect: 100-continue\r\n"), "", 0, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := n.Addr()
			if tt.status == http.StatusUnauthorized || tt.status == http.StatusOK || tt.status == http.StatusNotFound {
				address = patient.Addr()
			}
			c := dial(t, address)
			if _, err := io.WriteString(c, tt.head); err != nil {
				t.Fatal(err)
			}
			const sockets = 16 << 20 // as much as the kernel may hold between the two
			if tt.chunk != "" {
				if taken := endless(c, tt.chunk); taken > tt.most+sockets {
					t.Errorf("%d bytes were taken, of at most %d", taken, tt.most)
				}
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				if tt.chunk == "" { // who goes on writing may lose the answer to a reset
					t.Fatalf("no answer: %v", err)
				}
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode == http.StatusContinue { // the promise was taken; the answer follows
				return
			}
			if resp.StatusCode != tt.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tt.status)
			}
			_ = readAll(t, c) // what was not read ends the connection
		})
	}
}

// Headers beyond all bounds, in number or in size, or that never come to an end.
func TestHostileHeaders(t *testing.T) {
	t.Parallel()
	n := apptest.Start(t, apptest.SQLite(t.TempDir()))
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "X-%d: y\r\n", i)
		}
		return b.String()
	}
	get := "GET /health/live HTTP/1.1\r\nHost: x\r\n"
	for name, tt := range map[string]struct {
		raw    string
		status int
	}{
		"a hundred":          {get + many(100) + "\r\n", 200},
		"ten thousand":       {get + many(10_000) + "\r\n", 431},
		"one of a megabyte":  {get + "X: " + strings.Repeat("y", 1<<20) + "\r\n\r\n", 431},
		"a name of megabyte": {get + strings.Repeat("X", 1<<20) + ": y\r\n\r\n", 431},
		"a path of megabyte": {"GET /" + strings.Repeat("p", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431},
		"a token of 20 KB": {
			"GET /xrpc/" + client.Prefix + "getConvos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + strings.Repeat("e", 20<<10) + "\r\n\r\n", 401,
		},
		"two tokens": {
			"GET /xrpc/" + client.Prefix + "getConvos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token(t, mallory, "getConvos") +
				"\r\nAuthorization: Bearer " + token(t, "did:plc:other", "getConvos") + "\r\n\r\n", 401,
		},
		"a NUL":           {get + "X: a\x00b\r\n\r\n", 400},
		"a bare CR":       {get + "X: a\rY: b\r\n\r\n", 400},
		"no host":         {"GET /health/live HTTP/1.1\r\n\r\n", 400},
		"two hosts":       {get + "Host: y\r\n\r\n", 400},
		"a space in name": {get + "X Y: z\r\n\r\n", 400},
		"HTTP/9":          {"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505},
		"no HTTP at all":  {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := exchange(t, n.Addr(), tt.raw)
			if len(got) == 0 && tt.status == http.StatusRequestHeaderFieldsTooLarge {
				return // cut off while it was still being sent: the answer went down with a reset
			}
			if len(got) != 1 || got[0].status != tt.status {
				t.Fatalf("got %v, want one answer with status %d", got, tt.status)
			}
		})
	}
	t.Run("never ending", func(t *testing.T) {
		t.Parallel()
		c := dial(t, n.Addr())
		if taken := endless(c, "X: y\r\n"+strings.Repeat("Y: zzzzzzzz\r\n", 1000)); taken > 32<<20 {
			t.Errorf("%d bytes of a header were taken", taken)
		}
	})
}

// A header of which a byte comes now and then does not hold its connection.
func TestSlowHeader(t *testing.T) {
	t.Parallel()
	n := apptest.Start(t, apptest.SQLite(t.TempDir()))
	c := dial(t, n.Addr())
	if _, err := io.WriteString(c, "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.WriteString(c, "y"); err != nil {
				return
			}
		}
	}()
	begin := time.Now()
	_ = readAll(t, c)
	if took := time.Since(begin); took < time.Second {
		t.Errorf("a client that is a little slow is cut off after %v", took)
	}
	_ = c.Close()
	<-ended
}

// Requests that two readers of HTTP may take for different ones are refused, or
// read in one way and their connection ended: nothing that is hidden in one
// request is ever served as another.
func TestSmuggledRequests(t *testing.T) {
	t.Parallel()
	n := startShort(t)
	hidden := "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-Id: smuggled\r\n\r\n"
	target := "POST /xrpc/" + client.Prefix + "sendMessage HTTP/1.1\r\nHost: x\r\n"
	size := fmt.Sprintf("Content-Length: %d\r\n", len(hidden))
	for name, tt := range map[string]struct {
		raw    string
		status int // of the only answer
	}{
		"two lengths":                 {target + "Content-Length: 0\r\n" + size + "\r\n" + hidden, 400},
		"two lengths in one":          {target + "Content-Length: 0, 5\r\n\r\n" + hidden, 400},
		"a length below zero":         {target + "Content-Length: -1\r\n\r\n" + hidden, 400},
		"a length with a plus":        {target + "Content-Length: +0\r\n\r\n" + hidden, 400},
		"a length in hexadecimal":     {target + "Content-Length: 0x0\r\n\r\n" + hidden, 400},
		"length and chunks":           {target + size + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 401},
		"chunked, twice":              {target + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden, 501},
		"another encoding":            {target + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + hidden, 501},
		"an encoding misspelt":        {target + size + "Transfer-Encoding: xchunked\r\n\r\n" + hidden, 501},
		"a space before the colon":    {target + size + "Transfer-Encoding : chunked\r\n\r\n" + hidden, 400},
		"a folded line":               {target + "X: y\r\n Transfer-Encoding: chunked\r\n" + size + "\r\n" + hidden, 401},
		"a chunk with a wrong end":    {target + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n" + hidden, 401},
		"a chunk's size with a space": {target + "Transfer-Encoding: chunked\r\n\r\n0 x\r\n\r\n" + hidden, 401},
		"a whole URL as its target":   {"POST http://elsewhere/xrpc/" + client.Prefix + "sendMessage HTTP/1.1\r\nHost: x\r\n" + size + "\r\n" + hidden, 401},
		"a body where there is none":  {"GET /xrpc/" + client.Prefix + "getConvos HTTP/1.1\r\nHost: x\r\n" + size + "\r\n" + hidden, 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := exchange(t, n.Addr(), tt.raw)
			if len(got) == 0 || got[0].status != tt.status {
				t.Fatalf("got %v, want status %d first", got, tt.status)
			}
			for _, r := range got {
				if r.status == http.StatusOK {
					t.Errorf("what was hidden in the request was served: %v", got)
				}
			}
		})
	}
	// Two requests one after the other are two, whatever stands between.
	got := exchange(t, n.Addr(), hidden+hidden)
	if len(got) != 2 || got[0].status != 200 || got[1].status != 200 {
		t.Errorf("two honest requests get %v", got)
	}
}
