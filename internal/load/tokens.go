package load

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"catbird/internal/client"
)

// Tokens are service tokens that somebody else has made. A server that takes a
// token once only (ENFORCE_JTI) refuses them soon.
type Tokens struct {
	people []string
	byDID  map[string]*tokensOf
	until  time.Time
}

// tokensOf are the tokens of one DID, used in turn.
type tokensOf struct {
	next   atomic.Uint64
	tokens []token
}

type token struct {
	text   string
	method string // lxm: the only endpoint that it is for; "": all
}

// maxToken is how long a token may be, in bytes.
const maxToken = 16 << 10

// ParseTokens reads one JWT a line. Whose it is, for what, and until when it is
// good it says itself; the signature is not looked at. Empty lines and those that
// begin with # are left out. An error names the line, never the token.
func ParseTokens(r io.Reader) (*Tokens, error) {
	t := &Tokens{byDID: map[string]*tokensOf{}, until: time.Unix(math.MaxInt32, 0)}
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxToken)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := t.add(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read the tokens: %w", err)
	}
	if len(t.people) == 0 {
		return nil, errors.New("there are no tokens")
	}
	return t, nil
}

func (t *Tokens) add(line string) error {
	parts := strings.Split(line, ".")
	if len(parts) != 3 {
		return errors.New("is no JWT")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return errors.New("is no JWT: its claims are not base64")
	}
	var claims struct {
		Issuer  string `json:"iss"`
		Method  string `json:"lxm"`
		Expires int64  `json:"exp"`
	}
	if json.Unmarshal(raw, &claims) != nil || claims.Issuer == "" {
		return errors.New("is no JWT that names its issuer")
	}
	if claims.Expires > 0 {
		if until := time.Unix(claims.Expires, 0); until.Before(t.until) {
			t.until = until
		}
	}
	of := t.byDID[claims.Issuer]
	if of == nil {
		of = &tokensOf{}
		t.byDID[claims.Issuer] = of
		t.people = append(t.people, claims.Issuer)
	}
	of.tokens = append(of.tokens, token{line, claims.Method})
	return nil
}

// People returns whose tokens there are, in the order of the lines.
func (t *Tokens) People() []string { return t.people }

// Until returns when the first token is not good any more.
func (t *Tokens) Until() time.Time { return t.until }

// Source returns the tokens for requests, those of one DID in turn.
func (t *Tokens) Source() client.TokenSource {
	return func(did, nsid string) (string, error) {
		of := t.byDID[did]
		if of == nil {
			return "", fmt.Errorf("there is no token of %s", did)
		}
		first := of.next.Add(1)
		for i := range uint64(len(of.tokens)) {
			if tok := of.tokens[(first+i)%uint64(len(of.tokens))]; tok.method == "" || tok.method == nsid {
				return tok.text, nil
			}
		}
		return "", fmt.Errorf("no token of %s is for %s", did, nsid)
	}
}
