package ctl

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// answerTimeout is how long one of several nodes has to show that it is there.
const answerTimeout = 3 * time.Second

// Choose returns a client of the first of bases that answers. A single one is
// not asked: what is done next shows whether it is there. It blocks for
// answerTimeout a node.
func Choose(ctx context.Context, bases []string, secret string, h *http.Client) (*Client, error) {
	var clients []*Client
	for _, base := range bases {
		if base = strings.TrimSpace(base); base == "" {
			continue
		}
		c, err := NewClient(base, secret, h)
		if err != nil {
			return nil, err
		}
		clients = append(clients, c)
	}
	switch len(clients) {
	case 0:
		return nil, errors.New("no node is named")
	case 1:
		return clients[0], nil
	}
	var none noneAnswers
	for _, c := range clients {
		err := c.there(ctx)
		if err == nil {
			return c, nil
		}
		none = append(none, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, none
}

// noneAnswers are the reasons of several nodes, in one line.
type noneAnswers []error

// Error lists the reasons.
func (n noneAnswers) Error() string {
	texts := make([]string, len(n))
	for i, err := range n {
		texts[i] = err.Error()
	}
	return "no node answers: " + strings.Join(texts, "; ")
}

// Unwrap returns the reasons.
func (n noneAnswers) Unwrap() []error { return n }

// there reports why no answer came; any answer will do, a refusal too.
func (c *Client) there(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errSlow)
	defer cancel()
	_, err := c.Node(ctx)
	var none *UnreachableError
	if errors.As(err, &none) {
		return none
	}
	return nil
}
