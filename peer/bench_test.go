package peer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"catbird/conversation"
)

// BenchmarkForward compares three ways for a request to be answered: by the
// node that got it, through a reverse proxy, and through a Client. Load
// generator and both nodes share the process. Each way reports req/s, of which
// only the ratios mean something elsewhere.
func BenchmarkForward(b *testing.B) {
	owner := startNode(b, &fakeHandler{}, nil)
	client := newTestClient(b, nil)
	direct := httptest.NewServer(directHandler(&fakeHandler{}))
	defer direct.Close()
	target, err := url.Parse(direct.URL)
	if err != nil {
		b.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 128}
	proxied := httptest.NewServer(proxy)
	defer proxied.Close()
	streamed := httptest.NewServer(streamHandler(client, owner.address))
	defer streamed.Close()

	get := []byte("GET /epoch?convo=00aa HTTP/1.1\r\nHost: node\r\n\r\n")
	body := bytes.Repeat([]byte{7}, 1024)
	post := append([]byte("POST /send HTTP/1.1\r\nHost: node\r\nContent-Length: 1024\r\n\r\n"), body...)
	for _, request := range []struct {
		name string
		raw  []byte
	}{{"get", get}, {"post1KiB", post}} {
		for _, way := range []struct{ name, url string }{
			{"direct", direct.URL}, {"proxy", proxied.URL}, {"stream", streamed.URL},
		} {
			b.Run(request.name+"/"+way.name, func(b *testing.B) { hammer(b, way.url, request.raw) })
		}
	}
}

// hammer sends raw over 64 connections and reads as many responses.
func hammer(b *testing.B, base string, raw []byte) {
	u, err := url.Parse(base)
	if err != nil {
		b.Fatal(err)
	}
	const conns = 64
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range conns {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		wg.Go(func() {
			r := bufio.NewReader(conn)
			for left.Add(-1) >= 0 {
				if _, err := conn.Write(raw); err != nil {
					b.Error(err)
					return
				}
				if err := skipResponse(r); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

var contentLength = []byte("Content-Length: ")

func skipResponse(r *bufio.Reader) error {
	size, first := 0, true
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("got %s", line)
		}
		first = false
		if n, ok := bytes.CutPrefix(line, contentLength); ok {
			if size, err = strconv.Atoi(string(bytes.TrimSpace(n))); err != nil {
				return err
			}
		}
		if len(line) <= 2 {
			_, err := r.Discard(size)
			return err
		}
	}
}

func directHandler(h Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, err := readRequest(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if q.Change != nil {
			writeAnswer(w, h.Serve(r.Context(), q))
			return
		}
		epoch, _, _ := h.TryEpoch(q.Convo, q.Caller)
		writeAnswer(w, Answer{Status: Served, Epoch: epoch})
	})
}

func streamHandler(c *Client, address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, err := readRequest(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		a, err := c.Ask(r.Context(), address, q)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		writeAnswer(w, a)
	})
}

func readRequest(r *http.Request) (Question, error) {
	q := Question{
		RequestID: "0af7651916cd43dd8448eb211c80319c", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
	}
	if r.Method == http.MethodGet {
		q.Convo, q.Caller = r.URL.Query().Get("convo"), "did:plc:z72i7hdynmk6r22z27h6tvur"
		return q, nil
	}
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return q, err
	}
	q.Change = &conversation.Request{
		ID: "0192f3c4-5b6a-7d8e-9f00-112233445566", Convo: "00aa", Caller: "did:plc:z72i7hdynmk6r22z27h6tvur",
		Digest: make([]byte, 32), Command: conversation.Send{Ciphertext: body, Epoch: 7},
	}
	return q, nil
}

func writeAnswer(w http.ResponseWriter, a Answer) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"convoId":"00aa","currentEpoch":%d,"seq":%d}`, a.Epoch, a.Result.Seq)
}

// BenchmarkAsk is one question after another by 64 goroutines, without HTTP in
// front.
func BenchmarkAsk(b *testing.B) {
	owner := startNode(b, &fakeHandler{}, nil)
	client := newTestClient(b, nil)
	for name, q := range map[string]Question{"epoch": epochOf("00aa"), "send1KiB": sendOf("x", 1024)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				for pb.Next() {
					if _, err := client.Ask(ctx, owner.address, q); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkSeal compares ways to protect 1 KiB.
func BenchmarkSeal(b *testing.B) {
	key, plain := make([]byte, 32), make([]byte, 1024)
	aead, err := newAEAD(key)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("aes-256-gcm", func(b *testing.B) {
		w := newRecordWriter(io.Discard, aead)
		b.SetBytes(1024)
		for b.Loop() {
			if err := w.seal(plain, len(plain)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("hmac-sha-256", func(b *testing.B) {
		m := hmac.New(sha256.New, key)
		var sum [sha256.Size]byte
		b.SetBytes(1024)
		for b.Loop() {
			m.Reset()
			m.Write(plain)
			m.Sum(sum[:0])
		}
	})
}
