package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"catbird/operator"
	"catbird/persistence"
)

// What is read of an answer at most: of lists, and of one node's word.
const (
	maxAnswer = 64 << 20
	maxStatus = 64 << 10
)

// Client asks one node's operator API. It is safe for use by several
// goroutines at once.
type Client struct {
	base   string
	secret string
	http   *http.Client
}

// NewClient returns a client of the node at base, such as
// http://127.0.0.1:8081. secret is the cluster's, "" for none.
func NewClient(base, secret string, h *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("the node's address must look like http://host:8081")
	}
	return &Client{base: strings.TrimRight(base, "/"), secret: secret, http: h}, nil
}

// Base returns the address that the client was made with.
func (c *Client) Base() string { return c.base }

// At returns a client of the node whose internal port is at address, host:port,
// with the same secret.
func (c *Client) At(address string) (*Client, error) {
	scheme, _, _ := strings.Cut(c.base, "://")
	return NewClient(scheme+"://"+address, c.secret, c.http)
}

// Flags returns the node's flags.
func (c *Client) Flags(ctx context.Context) (f operator.Flags, err error) {
	return f, c.do(ctx, http.MethodGet, "/flags", nil, &f)
}

// SetFlags changes those flags that are not nil and returns what is in force.
func (c *Client) SetFlags(ctx context.Context, actorSystem *bool, rolloutPercent *int) (f operator.Flags, err error) {
	ask := struct {
		ActorSystem    *bool `json:"actorSystem,omitempty"`
		RolloutPercent *int  `json:"rolloutPercent,omitempty"`
	}{actorSystem, rolloutPercent}
	return f, c.do(ctx, http.MethodPut, "/flags", ask, &f)
}

// Actors returns a page of the node's actors.
func (c *Client) Actors(ctx context.Context, limit int, cursor string) (p operator.ActorsPage, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return p, c.do(ctx, http.MethodGet, "/actors?"+q.Encode(), nil, &p)
}

// Conversation returns an overview of one conversation.
func (c *Client) Conversation(ctx context.Context, id string) (o persistence.Overview, err error) {
	return o, c.do(ctx, http.MethodGet, "/conversations/"+url.PathEscape(id), nil, &o)
}

// Integrity lets the node look through the data; since as [operator.ParseSince]
// reads it.
func (c *Client) Integrity(ctx context.Context, since string) (i persistence.Integrity, err error) {
	path := "/integrity"
	if since != "" {
		path += "?" + url.Values{"since": {since}}.Encode()
	}
	return i, c.do(ctx, http.MethodGet, path, nil, &i)
}

// Node returns what the node says of itself.
func (c *Client) Node(ctx context.Context) (s operator.Status, err error) {
	return s, c.exchange(ctx, http.MethodGet, "/node", nil, &s, maxStatus)
}

// Cluster returns the cluster as the node knows it.
func (c *Client) Cluster(ctx context.Context) (v operator.ClusterView, err error) {
	return v, c.do(ctx, http.MethodGet, "/cluster", nil, &v)
}

// Owner returns who should hold a conversation, and who does.
func (c *Client) Owner(ctx context.Context, convo string) (o operator.Ownership, err error) {
	return o, c.do(ctx, http.MethodGet, "/cluster/owner?"+url.Values{"convoId": {convo}}.Encode(), nil, &o)
}

// Drain asks the node to leave.
func (c *Client) Drain(ctx context.Context) (d operator.Drained, err error) {
	return d, c.do(ctx, http.MethodPost, "/drain", nil, &d)
}

func (c *Client) do(ctx context.Context, method, path string, ask, answer any) error {
	return c.exchange(ctx, method, path, ask, answer, maxAnswer)
}

func (c *Client) exchange(ctx context.Context, method, path string, ask, answer any, limit int64) error {
	var body io.Reader
	if ask != nil {
		data, err := json.Marshal(ask)
		if err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	if c.secret != "" {
		req.Header.Set("Authorization", "Bearer "+c.secret)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if resp.StatusCode/100 != 2 {
		e := &Error{Status: resp.StatusCode}
		_ = json.Unmarshal(data, e) // what is not of ours has no code
		return e
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("what answers at %s is no node of ours: %w", c.base, err)
	}
	return nil
}
