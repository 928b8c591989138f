package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"catbird/conversation"
)

const (
	// maxAnswer is what an answer may hold: 16 MiB of payload in base64, and
	// room for the rest.
	maxAnswer  = 64 << 20
	maxMessage = 512 // bytes of an error's message that are kept
)

// call is one request, however often it is attempted.
type call struct {
	endpoint string
	did      string
	query    url.Values // of a query
	body     any        // of a procedure; nil: it is a query
	// harmless says that doing it twice is like doing it once.
	harmless bool
	// builtOn is the epoch that a change was made for, nil where it says none.
	builtOn *int64

	payload []byte // the encoded body
}

func (c *call) changes() bool { return c.body != nil }

// do makes the request, and makes it again where that is safe. out is what the
// answer is decoded into.
func (c *Client) do(ctx context.Context, cl call, out any) error {
	if cl.body != nil {
		var err error
		if cl.payload, err = json.Marshal(cl.body); err != nil {
			return fmt.Errorf("%s: encode the request: %w", cl.endpoint, err)
		}
	}
	start := int(c.next.Add(1) - 1)
	uncertain := false // whether an attempt may have been stored
	for n := 1; ; n++ {
		node := c.cfg.BaseURLs[(start+n-1)%len(c.cfg.BaseURLs)]
		err := c.attempt(ctx, &cl, node, n, out)
		if err == nil {
			return nil
		}
		v := judge(&cl, err)
		uncertain = uncertain || v.unknown
		wait, again := c.pause(v, n)
		if !again || ctx.Err() != nil {
			return settle(&cl, err, uncertain)
		}
		if cause := sleep(ctx, wait); cause != nil {
			return settle(&cl, fmt.Errorf("%w (then gave up: %w)", err, cause), uncertain)
		}
	}
}

// verdict is what an attempt's error means for the next one.
type verdict struct {
	again   bool // another attempt may help and does no harm
	unknown bool // the change may have happened
	after   time.Duration
}

func judge(cl *call, err error) verdict {
	var refusal *Error
	var lost *ConnectionError
	switch {
	case errors.As(err, &lost):
		return verdict{again: cl.harmless || !lost.Sent, unknown: cl.changes() && lost.Sent}
	case !errors.As(err, &refusal):
		return verdict{} // a token or a request that could not be made
	case refusal.unknown():
		return verdict{again: cl.harmless, unknown: cl.changes(), after: refusal.RetryAfter}
	case refusal.Status == http.StatusServiceUnavailable, refusal.Status == http.StatusTooManyRequests:
		return verdict{again: true, after: refusal.RetryAfter}
	case refusal.Name == conversation.ReplayDetected:
		// net/http sends a query again by itself when a kept connection turns out
		// closed; the token has been seen then. The next attempt has a new one.
		return verdict{again: !cl.changes()}
	default:
		return verdict{}
	}
}

// settle marks err as uncertain where an attempt may have been stored and err
// does not rule that out.
func settle(cl *call, err error, uncertain bool) error {
	if !uncertain || rulesOut(cl, err) {
		return err
	}
	return &UncertainError{Err: err}
}

// rulesOut reports whether a refusal can never turn, so that no earlier attempt
// can have been stored or still be.
func rulesOut(cl *call, err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Name {
	case conversation.IdempotencyConflict:
		return true
	case conversation.EpochMismatch:
		return cl.builtOn != nil && *cl.builtOn < e.CurrentEpoch
	default:
		return false
	}
}

// pause returns how long to wait before attempt n+1, if there is to be one.
func (c *Client) pause(v verdict, n int) (time.Duration, bool) {
	if !v.again || n >= c.cfg.Attempts || v.after > c.cfg.MaxWait {
		return 0, false
	}
	if v.after > 0 { // spread those who were all told the same
		return v.after + rand.N(v.after/4+1), true
	}
	wait := min(c.cfg.Wait<<min(n-1, 16), c.cfg.MaxWait)
	return wait/2 + rand.N(wait/2+1), true
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// attempt makes the request once, of node.
func (c *Client) attempt(ctx context.Context, cl *call, node string, n int, out any) error {
	if c.cfg.AttemptTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.AttemptTimeout)
		defer cancel()
	}
	req, err := c.request(ctx, cl, node)
	if err != nil {
		return err
	}
	began := time.Now()
	status, err := c.exchange(req, cl, node, out)
	if c.cfg.Observe != nil {
		c.cfg.Observe(Observation{
			Endpoint: cl.endpoint, Node: node, Attempt: n, Status: status, Duration: time.Since(began), Err: err,
		})
	}
	return err
}

func (c *Client) request(ctx context.Context, cl *call, node string) (*http.Request, error) {
	token, err := c.cfg.Token(cl.did, Prefix+cl.endpoint)
	if err != nil {
		return nil, fmt.Errorf("%s: get a token for %s: %w", cl.endpoint, cl.did, err)
	}
	target := node + "/xrpc/" + Prefix + cl.endpoint
	var req *http.Request
	if cl.changes() {
		req, err = http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(cl.payload))
	} else {
		req, err = http.NewRequestWithContext(ctx, http.MethodGet, target+"?"+cl.query.Encode(), http.NoBody)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: make the request: %w", cl.endpoint, bare(err))
	}
	if cl.changes() {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return req, nil
}

// exchange sends req and reads the answer. status is 0 where none came.
func (c *Client) exchange(req *http.Request, cl *call, node string, out any) (status int, err error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, &ConnectionError{Endpoint: cl.endpoint, Node: node, Sent: !neverSent(err), Err: bare(err)}
	}
	defer resp.Body.Close() // an error of closing tells nothing: all that matters was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		err = bare(err)
	case len(body) > maxAnswer:
		err = fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	case resp.StatusCode != http.StatusOK:
		return resp.StatusCode, refusal(cl.endpoint, resp, body)
	case out == nil:
		return resp.StatusCode, nil
	default:
		if err = json.Unmarshal(body, out); err == nil {
			return resp.StatusCode, nil
		}
		err = fmt.Errorf("decode the answer: %w", err)
	}
	return resp.StatusCode, &ConnectionError{Endpoint: cl.endpoint, Node: node, Sent: true, Err: err}
}

// neverSent reports whether err says that no byte of the request left.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// bare takes the URL, whose query names conversations and people, out of an
// error of net/http.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// refusal reads an answer that is not 200.
func refusal(endpoint string, resp *http.Response, body []byte) *Error {
	e := &Error{Endpoint: endpoint, Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	var wire struct {
		Error        conversation.Code `json:"error"`
		Message      string            `json:"message"`
		CurrentEpoch int64             `json:"currentEpoch"`
		Commits      []Commit          `json:"commits"`
		More         bool              `json:"more"`
	}
	if json.Unmarshal(body, &wire) != nil { // not one of the API's: the status has to do
		return e
	}
	e.Name, e.Message = wire.Error, wire.Message
	if len(e.Message) > maxMessage {
		e.Message = e.Message[:maxMessage]
	}
	e.CurrentEpoch, e.Commits, e.More = wire.CurrentEpoch, wire.Commits, wire.More
	return e
}

// retryAfter reads a Retry-After header, in either of its two forms.
func retryAfter(s string) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n < 1<<30 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
