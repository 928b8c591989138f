package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// plainSlots bounds the plain requests to one peer at once; more questions wait.
const plainSlots = 64

// sessionScheme is the scheme of the authorization that names the session of a
// plain request: the public key in the client's hello.
const sessionScheme = "CatbirdPeerSession"

// askPlain asks by plain requests: one that shakes hands, and one that carries
// the question, under keys that serve no other.
func (c *Client) askPlain(ctx context.Context, r *remote, q *Question, size int) (Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })
	defer stop()
	select {
	case r.plain <- struct{}{}:
		defer func() { <-r.plain }()
	case <-ctx.Done():
		return Answer{}, fail(ErrUnreachable, context.Cause(ctx))
	}

	o, k, err := c.helloPlain(ctx, r)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Answer{}, fail(ErrUnreachable, err)
	}
	a, err := c.sendPlain(ctx, r, q, size, o, k)
	if err != nil && ctx.Err() != nil && errors.Is(err, ErrLost) {
		err = fail(ErrLost, context.Cause(ctx))
	}
	return a, err
}

func (c *Client) helloPlain(ctx context.Context, r *remote) (*offer, keys, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	o, err := c.secret.offer(c.hello(purposePlain))
	if err != nil {
		return nil, keys{}, err
	}
	resp, err := c.post(ctx, r, helloPath, o.authorization(), nil)
	if err != nil {
		return nil, keys{}, err
	}
	defer func() { _ = resp.Body.Close() }() // nothing of it is read
	if err := checkStatus(resp.StatusCode, http.StatusOK); err != nil {
		return nil, keys{}, err
	}
	h, k, err := o.accept(resp.Header.Get(helloHeader))
	if err != nil {
		return nil, keys{}, err
	}
	r.named(h.node)
	return o, k, nil
}

func (c *Client) sendPlain(ctx context.Context, r *remote, q *Question, size int, o *offer, k keys) (Answer, error) {
	var out outbox
	kind := kindEpoch
	if q.Change != nil {
		kind = kindChange
	}
	left := time.Duration(-1)
	if deadline, ok := ctx.Deadline(); ok {
		left = max(time.Until(deadline), 0)
	}
	start := out.begin(kind, 1)
	out.plain = appendQuestion(out.plain, q, left)
	out.end(start)
	body := bytes.NewBuffer(make([]byte, 0, size+size/64+readBuffer))
	if err := newRecordWriter(body, k.toServer).flush(&out); err != nil {
		return Answer{}, fail(ErrUnreachable, err)
	}
	r.metrics.Load().sent.Add(float64(body.Len()))
	resp, err := c.post(ctx, r, askPath, sessionAuthorization(o), body.Bytes())
	if err != nil {
		return Answer{}, fail(ErrLost, err)
	}
	defer func() { _ = resp.Body.Close() }() // what matters of it has been read
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusServiceUnavailable:
		return Answer{}, fail(ErrUnreachable, checkStatus(resp.StatusCode, http.StatusOK))
	default:
		return Answer{}, fail(ErrLost, checkStatus(resp.StatusCode, http.StatusOK))
	}
	a, err := readPlainAnswer(resp.Body, k)
	if err != nil {
		return Answer{}, fail(ErrLost, err)
	}
	switch a.Status {
	case statusBusy:
		return Answer{}, ErrBusy
	case statusUnsupported:
		return Answer{}, ErrUnsupported
	default:
		return a, nil
	}
}

// sessionAuthorization is the header that names the session of an offer that
// was accepted.
func sessionAuthorization(o *offer) string {
	return sessionScheme + " " + base64.RawURLEncoding.EncodeToString(o.key.PublicKey().Bytes())
}

func readPlainAnswer(body io.Reader, k keys) (Answer, error) {
	br := bufio.NewReaderSize(io.LimitReader(body, 2*maxAnswer), readBuffer)
	frames := frameReader{records: newRecordReader(br, k.toClient), max: maxAnswer}
	for {
		f, err := frames.next()
		if err != nil {
			return Answer{}, fmt.Errorf("reading answer: %w", err)
		}
		if f.kind == kindAnswer {
			return decodeAnswer(f.body)
		}
	}
}

func (c *Client) post(ctx context.Context, r *remote, path, authorization string, body []byte) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: r.address, Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("making request: %w", err)
	}
	if len(body) == 0 {
		// Nothing is asked: may be sent again where a kept connection turns out to
		// be closed. The header itself is not sent.
		req.Header["Idempotency-Key"] = nil
	} else {
		req.GetBody = nil // must not be sent twice
	}
	req.Header.Set("Authorization", authorization)
	return c.plain.RoundTrip(req)
}
