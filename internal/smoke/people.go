package smoke

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"catbird/internal/client"
)

// People are the two who talk, and where their tokens come from.
type People struct {
	alice, bob string // DIDs
	token      client.TokenSource
}

// Invented returns two people that exist nowhere, new ones each time, whose
// tokens are signed with the secret that the servers have as JWT_SECRET. audience
// is their SERVICE_DID, "" for none.
func Invented(secret []byte, audience string) *People {
	run := strings.ToLower(rand.Text())
	return &People{
		alice: "did:web:alice." + run + ".invalid", bob: "did:web:bob." + run + ".invalid",
		token: client.HS256(secret, audience),
	}
}

// maxTokens bounds what is read of tokens.
const maxTokens = 1 << 20

// ErrTokens says that tokens cannot be used.
var ErrTokens = errors.New("tokens")

// ReadTokens reads the tokens of two people, one a line; empty lines and those
// that begin with # are passed over. Who is who is told by their iss: the first
// one talks first. A token with lxm serves that method only. Each is used once as
// long as there are others; a server with ENFORCE_JTI needs one for each call.
// Errors are ErrTokens and never repeat a token.
func ReadTokens(r io.Reader) (*People, error) {
	p, w := &People{}, &wallet{}
	lines := bufio.NewScanner(io.LimitReader(r, maxTokens))
	lines.Buffer(nil, maxTokens)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		t, err := parseToken(text)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrTokens, n, err)
		}
		w.all = append(w.all, t)
		switch {
		case p.alice == "" || p.alice == t.Issuer:
			p.alice = t.Issuer
		case p.bob == "" || p.bob == t.Issuer:
			p.bob = t.Issuer
		default:
			return nil, fmt.Errorf("%w: line %d is a third person's; two are needed", ErrTokens, n)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTokens, err)
	}
	if p.bob == "" {
		return nil, fmt.Errorf("%w: those of two people are needed", ErrTokens)
	}
	p.token = w.take
	return p, nil
}

// token is one that somebody else signed.
type token struct {
	Issuer string `json:"iss"`
	Method string `json:"lxm"`
	text   string
	used   bool
}

func parseToken(text string) (*token, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errors.New("is not a JWT")
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, errors.New("is not a JWT: its claims are not base64")
	}
	t := &token{text: text}
	if json.Unmarshal(claims, t) != nil || t.Issuer == "" {
		return nil, errors.New("has no iss")
	}
	return t, nil
}

// wallet hands out tokens. It is safe for several goroutines at once.
type wallet struct {
	mu  sync.Mutex
	all []*token
}

// take returns did's token for the method nsid: one that names it before one
// that is good for any, one that was not used before one that was.
func (w *wallet) take(did, nsid string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var best *token
	for _, t := range w.all {
		if t.Issuer == did && (t.Method == "" || t.Method == nsid) && (best == nil || t.before(best)) {
			best = t
		}
	}
	if best == nil {
		return "", errors.New("there is none in the file")
	}
	best.used = true
	return best.text, nil
}

func (t *token) before(o *token) bool {
	if t.used != o.used {
		return !t.used
	}
	return t.Method != "" && o.Method == ""
}
