package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Paths on the internal port, below [Prefix].
const (
	// Prefix is where a Server is to be mounted.
	Prefix = "/internal/v1/"

	streamPath = Prefix + "stream"
	helloPath  = Prefix + "hello"
	askPath    = Prefix + "ask"
)

const (
	// handshakeLimit bounds what is read of a response before it has proved to
	// know the secret, in bytes.
	handshakeLimit = 16 << 10
	// usedUpAfter is after how many bytes one way a stream is replaced, which is
	// far below what AES-GCM allows under one key.
	usedUpAfter = 64 << 30
)

// errNoStream: the peer must be asked by plain requests.
var errNoStream = errors.New("peer has no stream of this version")

// errStopping: the peer takes no more questions.
var errStopping = errors.New("peer is stopping")

// session is an authenticated connection to a peer.
type session struct {
	conn    net.Conn
	writer  *recordWriter
	records *recordReader
	frames  *frameReader
	node    string // the peer's name
	window  int    // questions under way at once
}

func (s *session) close() { _ = s.conn.Close() } // it is given up: nothing to do about an error

// usedUp reports whether it is time for fresh keys. It may be called from any
// goroutine.
func (s *session) usedUp() bool {
	return s.writer.total.Load() > usedUpAfter || s.records.total.Load() > usedUpAfter
}

// connect connects to the internal port at address and shakes hands. Nothing
// of any question is sent.
func (c *Client) connect(ctx context.Context, address string, p purpose) (*session, error) {
	conn, err := c.cfg.Dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("dialing: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0)) // wakes who reads or writes; a broken connection needs no waking
	})
	s, err := c.shakeHands(conn, address, p)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("shaking hands: %w", err)
	}
	return s, nil
}

func (c *Client) shakeHands(conn net.Conn, address string, p purpose) (*session, error) {
	o, err := c.secret.offer(c.hello(p))
	if err != nil {
		return nil, err
	}
	req := &http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Scheme: "http", Host: address, Path: streamPath},
		Header: http.Header{
			"Authorization": {o.authorization()},
			"Connection":    {"Upgrade"},
			"Upgrade":       {upgradeName},
		},
	}
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("writing request: %w", err)
	}
	limited := &io.LimitedReader{R: conn, N: handshakeLimit}
	br := bufio.NewReaderSize(limited, readBuffer)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, fmt.Errorf("reading response: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // of a 101 it is empty, of others unread
	if err := checkStatus(resp.StatusCode, http.StatusSwitchingProtocols); err != nil {
		return nil, err
	}
	h, k, err := o.accept(resp.Header.Get(helloHeader))
	if err != nil {
		return nil, err
	}
	limited.N = math.MaxInt64
	s := &session{
		conn: conn, node: h.node,
		window:  int(min(max(h.window, 1), uint64(c.cfg.MaxInFlight))),
		writer:  newRecordWriter(conn, k.toServer),
		records: newRecordReader(br, k.toClient),
	}
	s.frames = &frameReader{records: s.records, max: maxAnswer}
	return s, nil
}

func (c *Client) hello(p purpose) hello {
	return hello{node: c.cfg.Self, software: c.cfg.Version, purpose: p}
}

// checkStatus makes an error of a status that is not the wanted one.
func checkStatus(status, want int) error {
	switch {
	case status == want:
		return nil
	case status == http.StatusUnauthorized:
		return errUnauthorized
	case status == http.StatusServiceUnavailable:
		return errStopping
	case status >= 400 && status < 500, status == http.StatusNotImplemented, status == http.StatusHTTPVersionNotSupported:
		return fmt.Errorf("%w (status %d)", errNoStream, status)
	default:
		return fmt.Errorf("peer answered with status %d", status)
	}
}
