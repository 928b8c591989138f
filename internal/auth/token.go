package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/golang-jwt/jwt/v5"

	"catbird/conversation"
)

// The signature algorithms that are accepted, as RFC 7518 section 3.1 and RFC
// 8812 section 3.2 name them. Whatever else a token names is refused, "none"
// included.
const (
	algHS256  = "HS256"
	algES256  = "ES256"
	algES256K = "ES256K"
)

// maxSeconds is the end of the year 9999. What lies beyond does not fit the
// times of all libraries, and may come out as one long ago.
const maxSeconds = 253402300799

// claims are what a token says.
type claims struct {
	Issuer    string           `json:"iss"`
	Audience  jwt.ClaimStrings `json:"aud"`
	Expires   *float64         `json:"exp"` // seconds since 1970, as all times (RFC 7519 section 2)
	NotBefore *float64         `json:"nbf"`
	Issued    *float64         `json:"iat"`
	ID        string           `json:"jti"`
	LXM       string           `json:"lxm"`

	expires, notBefore, issued time.Time // zero: not said
}

// caller is who is asking: the issuer as it stands, a fragment included, which
// names one of the account's devices or services.
func (c *claims) caller() string { return c.Issuer }

// meantFor reports whether the audience names the service, or a part of it by a
// fragment.
func (c *claims) meantFor(service string) bool {
	for _, aud := range c.Audience {
		if did, _, _ := strings.Cut(aud, "#"); aud == service || did == service {
			return true
		}
	}
	return false
}

// token is a JWT in its parts (RFC 7515 section 3.1), not verified.
type token struct {
	alg       string
	claims    claims
	signed    string // what the signature is over
	signature []byte
}

type header struct {
	Alg  string          `json:"alg"`
	Type string          `json:"typ"`
	Crit json.RawMessage `json:"crit"`
}

// strict refuses the several spellings that base64 has for the same bytes.
var strict = base64.RawURLEncoding.Strict()

// parseToken takes a token apart and checks its form. The signature is not
// looked at. The error is an *conversation.Error.
func parseToken(s string) (*token, error) {
	if len(s) > MaxToken {
		return nil, invalid("the token is too long")
	}
	end := strings.LastIndexByte(s, '.')
	if end < 0 || strings.Count(s, ".") != 2 {
		return nil, invalid("the token is no JWT")
	}
	head, payload, _ := strings.Cut(s[:end], ".")
	var h header
	if err := decodePart(head, &h); err != nil {
		return nil, err
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	t := &token{alg: h.Alg, signed: s[:end]}
	var err error
	if t.signature, err = strict.DecodeString(s[end+1:]); err != nil {
		return nil, invalid("the token is no JWT")
	}
	if err := decodePart(payload, &t.claims); err != nil {
		return nil, err
	}
	return t, t.claims.complete()
}

func decodePart(part string, into any) error {
	raw, err := strict.DecodeString(part)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil || !unambiguous(raw) {
		return invalid("the token is no JWT")
	}
	return nil
}

// memberNames are the members of a token that are read.
var memberNames = []string{"alg", "typ", "crit", "iss", "aud", "exp", "nbf", "iat", "jti", "lxm"}

// unambiguous reports whether every reader takes the JSON object raw for the
// same: no member is there twice, and none that we read is there in another
// spelling, which encoding/json would take for it (RFC 7519 sections 4 and 7.3).
func unambiguous(raw []byte) bool {
	d := json.NewDecoder(bytes.NewReader(raw))
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return false
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok || seen[name] {
			return false
		}
		seen[name] = true
		for _, known := range memberNames {
			if name != known && strings.EqualFold(name, known) {
				return false
			}
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return false
		}
	}
	return true
}

func (h *header) check() error {
	switch h.Alg {
	case algHS256, algES256, algES256K:
	default:
		return invalid("the token is signed in a way that this service does not accept")
	}
	// Access and refresh tokens of OAuth are meant for others (at+jwt, dpop+jwt).
	if h.Type != "" && !strings.EqualFold(h.Type, "JWT") {
		return invalid("the token is of a type that this service does not accept")
	}
	if h.Crit != nil { // RFC 7515 section 4.1.11: we know none of what it may list
		return invalid("the token demands extensions that this service does not know")
	}
	return nil
}

// complete checks the claims that every token needs and sets the times.
func (c *claims) complete() error {
	if !conversation.CheckDID(c.Issuer) {
		return invalid("the token's iss is not a DID")
	}
	if c.Expires == nil {
		return invalid("the token has no exp")
	}
	for _, t := range []struct {
		said *float64
		to   *time.Time
	}{{c.Expires, &c.expires}, {c.NotBefore, &c.notBefore}, {c.Issued, &c.issued}} {
		if t.said == nil {
			continue
		}
		if math.Abs(*t.said) > maxSeconds {
			return invalid("the token names a time that there is not")
		}
		*t.to = time.Unix(int64(*t.said), 0)
	}
	return nil
}

func (t *token) signedWithSecret(secret []byte) bool {
	return jwt.SigningMethodHS256.Verify(t.signed, t.signature, secret) == nil
}

// signedWithKey reports whether key, of the curve that the token's algorithm
// names, made the signature. Both of the two signatures that ECDSA has for one
// text are good: the AT Protocol asks for the one with the low S in
// repositories, not in tokens, and libraries that make tokens do not know of
// it. The id that makes a token single-use is part of what is signed, so the
// twin of a token is the same token.
func (t *token) signedWithKey(key atcrypto.PublicKey) bool {
	switch key.(type) {
	case *atcrypto.PublicKeyP256:
		if t.alg != algES256 {
			return false
		}
	case *atcrypto.PublicKeyK256:
		if t.alg != algES256K {
			return false
		}
	default:
		return false
	}
	return len(t.signature) == 64 && key.HashAndVerifyLenient([]byte(t.signed), t.signature) == nil
}
