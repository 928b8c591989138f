package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Load is what one closed-loop run of a number of connections gave.
type Load struct {
	Requests  int
	Errors    int
	FirstErr  string
	Took      time.Duration
	Latencies []time.Duration // sorted
}

// PerSecond returns the throughput of answered requests.
func (l Load) PerSecond() float64 { return float64(l.Requests) / l.Took.Seconds() }

// Quantile returns the latency that the share q of the requests stayed within.
func (l Load) Quantile(q float64) time.Duration {
	if len(l.Latencies) == 0 {
		return 0
	}
	return l.Latencies[min(int(q*float64(len(l.Latencies))), len(l.Latencies)-1)]
}

// Plan is a load: connections that each send one request after another until
// the time is up. Next writes the connection's n-th request, whole, into buf;
// it is called by one goroutine a connection.
type Plan struct {
	Address     string
	Connections int
	For         time.Duration
	Next        func(buf *bytes.Buffer, connection, n int)
}

// Run runs the load. It is lean on purpose: the generator shares the machine
// with what it measures.
func (p Plan) Run(ctx context.Context) (Load, error) {
	ctx, cancel := context.WithTimeout(ctx, p.For)
	defer cancel()
	parts := make([]Load, p.Connections)
	errs := make([]error, p.Connections)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range p.Connections {
		wg.Go(func() { parts[i], errs[i] = p.connection(ctx, i) })
	}
	wg.Wait()
	all := Load{Took: time.Since(start)}
	for i, part := range parts {
		if errs[i] != nil {
			return Load{}, fmt.Errorf("connection %d: %w", i, errs[i])
		}
		all.Requests += part.Requests
		all.Errors += part.Errors
		if all.FirstErr == "" {
			all.FirstErr = part.FirstErr
		}
		all.Latencies = append(all.Latencies, part.Latencies...)
	}
	slices.Sort(all.Latencies)
	return all, nil
}

func (p Plan) connection(ctx context.Context, i int) (l Load, err error) {
	conn, err := net.Dial("tcp", p.Address)
	if err != nil {
		return l, err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	var buf bytes.Buffer
	for n := 0; ctx.Err() == nil; n++ {
		buf.Reset()
		p.Next(&buf, i, n)
		sent := time.Now()
		if _, err := conn.Write(buf.Bytes()); err != nil {
			return l, err
		}
		status, body, _, err := readReply(in)
		if err != nil {
			return l, err
		}
		l.Latencies = append(l.Latencies, time.Since(sent))
		l.Requests++
		if status != http.StatusOK {
			l.Errors++
			if l.FirstErr == "" {
				l.FirstErr = fmt.Sprintf("%d %s", status, body)
			}
		}
	}
	return l, nil
}

// readReply reads one HTTP/1.1 response with a Content-Length, and whether the
// server closes the connection after it. The body is returned of errors only.
func readReply(in *bufio.Reader) (status int, body string, closing bool, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, "", false, err
	}
	if len(line) < 12 {
		return 0, "", false, fmt.Errorf("bad status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, "", false, err
	}
	length := 0
	for {
		line, err = in.ReadSlice('\n')
		if err != nil {
			return 0, "", false, err
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return 0, "", false, err
			}
		}
		closing = closing || bytes.HasPrefix(line, []byte("Connection: close"))
	}
	if status == http.StatusOK {
		_, err = in.Discard(length)
		return status, "", closing, err
	}
	b := make([]byte, length)
	_, err = io.ReadFull(in, b)
	return status, string(b), closing, err
}

// writeGet and writePost write whole requests.
func writeGet(buf *bytes.Buffer, path, token string) {
	fmt.Fprintf(buf, "GET %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n\r\n", path, token)
}

func writePost(buf *bytes.Buffer, path, token string, body []byte) {
	fmt.Fprintf(buf, "POST %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, token, len(body))
	buf.Write(body)
}
