package smoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"catbird/conversation"
	"catbird/internal/client"
)

// maxHealth is what is read of an answer about health.
const maxHealth = 64 << 10

// errNotPassedOn is of what stands before the nodes: no node says 404 to these.
var errNotPassedOn = errors.New("status 404 Not Found: what is in front of the nodes does not pass it on; --without-health leaves it out")

// health returns the steps that ask how the nodes are.
func (r *run) health() []step {
	return []step{
		{name: "every node lives", endpoint: "/health/live", try: r.everywhere("/health/live", nil)},
		{name: "every node is ready", endpoint: "/health/ready", try: r.everywhere("/health/ready", func(body []byte) error {
			var v struct {
				Ready bool `json:"ready"`
			}
			if err := json.Unmarshal(body, &v); err != nil || !v.Ready {
				return errors.New("it does not say that it is ready")
			}
			return nil
		})},
		{name: "every node is healthy", endpoint: "/health", try: r.everywhere("/health", func(body []byte) error {
			var v struct {
				Status   string `json:"status"`
				Database string `json:"database"`
			}
			if err := json.Unmarshal(body, &v); err != nil {
				return fmt.Errorf("what answers is no node: %w", err)
			}
			if v.Status != "healthy" || v.Database != "connected" {
				return fmt.Errorf("status %q, database %q", v.Status, v.Database)
			}
			return nil
		})},
	}
}

// stranger returns the step that asks the API without a token.
func (r *run) stranger() step {
	return step{name: "nobody reads without a token", endpoint: "getConvos", try: r.everywhere("/xrpc/"+client.Prefix+"getConvos", nil)}
}

// everywhere returns a step that asks each URL for path. Health answers 200 and
// a body that check, if there is one, agrees with; the API asks for a token.
func (r *run) everywhere(path string, check func(body []byte) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, base := range r.urls {
			status, body, err := r.get(ctx, base+path)
			if err == nil && strings.HasPrefix(path, "/xrpc/") {
				err = wantsToken(status, body)
			} else if err == nil && status == http.StatusNotFound {
				err = errNotPassedOn
			} else if err == nil && status != http.StatusOK {
				err = fmt.Errorf("status %d %s", status, http.StatusText(status))
			}
			if err == nil && check != nil {
				err = check(body)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", base, err)
			}
		}
		return nil
	}
}

func wantsToken(status int, body []byte) error {
	var v struct {
		Error conversation.Code `json:"error"`
	}
	if json.Unmarshal(body, &v) != nil || status != http.StatusUnauthorized || v.Error != conversation.AuthenticationRequired {
		return fmt.Errorf("a request without a token is answered %d %s", status, v.Error)
	}
	return nil
}

func (r *run) get(ctx context.Context, target string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return 0, nil, fmt.Errorf("make the request: %w", err)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return 0, nil, err
	}
	defer resp.Body.Close() // an error of closing tells nothing: all that matters was read
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxHealth))
	if err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	return resp.StatusCode, body, nil
}
