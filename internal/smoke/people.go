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

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"catbird/conversation"
	"catbird/internal/client"
)

// People are the two who talk, and where their tokens come from.
type People struct {
	alice, bob string // DIDs
	token      client.TokenSource
}

// nobody has no tokens.
var nobody = &People{token: func(string, string) (string, error) { return "", errors.New("nobody's tokens are at hand") }}

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

// maxFile bounds what is read of tokens or keys.
const maxFile = 1 << 20

// ErrTokens and ErrKeys say that tokens or keys cannot be used.
var (
	ErrTokens = errors.New("tokens")
	ErrKeys   = errors.New("keys")
)

// ReadKeys reads two people's DIDs and their private keys, one person a line, as
// a multibase text (P-256 or K-256); the first one talks first. Empty lines and
// those that begin with # are passed over. The public halves must be in their DID
// documents, where the servers look. audience is the servers' SERVICE_DID, "" for
// none. Errors are ErrKeys and never repeat a key.
func ReadKeys(r io.Reader, audience string) (*People, error) {
	p, keys := &People{}, map[string]atcrypto.PrivateKey{}
	err := lines(r, func(text string) error {
		did, encoded, _ := strings.Cut(text, " ")
		key, err := atcrypto.ParsePrivateMultibase(strings.TrimSpace(encoded))
		switch {
		case !conversation.CheckDID(did):
			return errors.New("does not begin with a DID")
		case err != nil:
			return errors.New("has no private key in multibase after the DID")
		case keys[did] != nil:
			return errors.New("is of the same DID as one before")
		}
		keys[did] = key
		return p.meet(did)
	})
	if err == nil {
		err = p.complete()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	p.token = client.DIDKeys(keys, audience)
	return p, nil
}

// lines calls each with every line that says something, and names the one that
// it does not take.
func lines(r io.Reader, each func(text string) error) error {
	lines := bufio.NewScanner(io.LimitReader(r, maxFile))
	lines.Buffer(nil, maxFile)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if err := each(text); err != nil {
			return fmt.Errorf("line %d %w", n, err)
		}
	}
	return lines.Err()
}

// meet takes did as one of the two.
func (p *People) meet(did string) error {
	switch {
	case p.alice == "" || p.alice == did:
		p.alice = did
	case p.bob == "" || p.bob == did:
		p.bob = did
	default:
		return errors.New("is a third person's; two are needed")
	}
	return nil
}

func (p *People) complete() error {
	if p.bob == "" {
		return errors.New("those of two people are needed")
	}
	return nil
}

// ReadTokens reads the tokens of two people, one a line; empty lines and those
// that begin with # are passed over. Who is who is told by their iss: the first
// one talks first. A token with lxm serves that method only. Each is used once as
// long as there are others; a server with ENFORCE_JTI needs one for each call.
// Errors are ErrTokens and never repeat a token.
func ReadTokens(r io.Reader) (*People, error) {
	p, w := &People{}, &wallet{}
	err := lines(r, func(text string) error {
		t, err := parseToken(text)
		if err != nil {
			return err
		}
		w.all = append(w.all, t)
		return p.meet(t.Issuer)
	})
	if err == nil {
		err = p.complete()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTokens, err)
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
