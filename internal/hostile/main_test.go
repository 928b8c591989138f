package hostile

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/obs"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(runChild())
	}
	goleak.VerifyTestMain(m)
}

const suite = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"

// token returns a fresh token of did for the method name.
func token(t testing.TB, did, name string) string {
	t.Helper()
	s, err := client.HS256([]byte(apptest.Secret), "")(did, client.Prefix+name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// dial opens a connection that is closed with the test, and on which nothing is
// waited for longer than what must come at all.
func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(apptest.Patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// readAll returns everything up to the end of a connection that the other side
// must end; how it ends, by a close or a reset, does not matter.
func readAll(t testing.TB, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		t.Fatalf("the connection is still open after %v", apptest.Patience)
	}
	return string(b)
}

// exchange writes raw bytes on a connection of its own, stops sending, and
// returns the answers that came before the end.
func exchange(t testing.TB, address, raw string) []reply {
	t.Helper()
	c := dial(t, address)
	_, _ = io.WriteString(c, raw) // the other side may have had enough before the end
	_ = c.(*net.TCPConn).CloseWrite()
	r := bufio.NewReader(strings.NewReader(readAll(t, c)))
	var out []reply
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return out
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("half an answer: %v", err)
		}
		out = append(out, reply{resp.StatusCode, resp.Header, string(body)})
	}
}

// reply is an answer as it came over the wire.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) String() string { return fmt.Sprintf("%d %.200s", r.status, r.body) }

// journal is a node's log.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// logger returns a logger into j that shows everything.
func (j *journal) logger(t testing.TB, format string) *slog.Logger {
	t.Helper()
	levels, err := obs.ParseLevels("trace")
	if err != nil {
		t.Fatal(err)
	}
	return obs.NewLogger(j, levels, format)
}
