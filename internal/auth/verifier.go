package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/prometheus/client_golang/prometheus"

	"catbird/conversation"
)

const (
	// MaxToken is how long a token may be, in bytes.
	MaxToken = 8 << 10
	// MaxLife is how far off the exp of a token may lie that is remembered so
	// that it is used once. Memory of it lasts as long as the token does.
	MaxLife = 24 * time.Hour
	// leeway is how far the clocks of issuers may be ahead of ours.
	leeway = 30 * time.Second
	// minSecret is what RFC 7518 section 3.2 asks of a key for HS256, in bytes.
	minSecret = 32

	defaultJTITTL    = 2 * time.Minute
	defaultCacheSize = 1 << 16
	// cacheLife is how long a verified token is taken without another look at
	// its signature: as long as an issuer's key may stay in use after a change.
	cacheLife = 10 * time.Minute
)

// Resolver finds the key that a DID signs with. Both methods block until there
// is an answer or ctx is done, may be called from several goroutines at once,
// and return an error that is [ErrNoKey] when there is no such key for good; any
// other error may go away.
type Resolver interface {
	// Key returns the key of did, from memory where it is there.
	Key(ctx context.Context, did string) (atcrypto.PublicKey, error)
	// Refresh returns the key of did after a look at its document, unless the
	// last look is recent.
	Refresh(ctx context.Context, did string) (atcrypto.PublicKey, error)
}

// Replay remembers which tokens were used.
type Replay interface {
	// Use reports whether jti, a short text of fixed length that stands for one
	// token, was not used before, and remembers it for at least ttl. It blocks
	// until that is known or ctx is done, and may be called from several
	// goroutines at once.
	Use(ctx context.Context, jti string, ttl time.Duration) (fresh bool, err error)
}

// Config is what a Verifier needs to know.
type Config struct {
	// JWTSecret verifies HS256 tokens; empty refuses them.
	JWTSecret []byte
	// Resolver finds the keys for ES256 and ES256K tokens; nil refuses them.
	Resolver Resolver
	// ServiceDID must be a token's audience, with or without a fragment; ""
	// leaves the audience unchecked.
	ServiceDID string
	// EnforceLXM demands that a token names the method that is called.
	EnforceLXM bool
	// EnforceJTI demands that a token has an id and is used once. Replay
	// remembers that, for JTITTL (0: 2 minutes) or as long as the token is
	// valid, whichever is longer; nil is [NewMemoryReplay] of its default size.
	EnforceJTI bool
	JTITTL     time.Duration
	Replay     Replay
	// CacheSize is how many verified tokens are remembered when they may be
	// used again; 0: 65,536.
	CacheSize int

	Clock      func() time.Time      // nil: time.Now
	Registerer prometheus.Registerer // nil: figures go nowhere
	Logger     *slog.Logger          // nil: slog.Default()
}

// Verifier verifies tokens. It is safe for use by several goroutines at once.
type Verifier struct {
	config  Config
	cache   *tokenCache // nil when tokens are used once
	metrics *verifierMetrics
	log     *slog.Logger
}

// New returns a Verifier. It fails when no token could ever be accepted.
func New(c Config) (*Verifier, error) {
	if len(c.JWTSecret) == 0 && c.Resolver == nil {
		return nil, errors.New("neither a JWT secret nor a resolver of DIDs: no token could be verified")
	}
	if c.JTITTL <= 0 {
		c.JTITTL = defaultJTITTL
	}
	if c.CacheSize <= 0 {
		c.CacheSize = defaultCacheSize
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.EnforceJTI && c.Replay == nil {
		c.Replay = NewMemoryReplay(0, c.Clock)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	v := &Verifier{config: c, metrics: newVerifierMetrics(c.Registerer), log: c.Logger.With("component", "auth")}
	if !c.EnforceJTI {
		v.cache = newTokenCache(c.CacheSize)
	}
	if n := len(c.JWTSecret); n > 0 && n < minSecret {
		v.log.Warn("the JWT secret is short: whoever guesses it can be anybody", "bytes", n, "recommended", minSecret)
	}
	return v, nil
}

// Verify returns the caller that token stands for, its iss as it is, when the
// token allows a call of the method nsid. It returns an *[conversation.Error]:
// AuthenticationRequired, InvalidToken, ExpiredToken, ReplayDetected, or
// Unavailable and Overloaded when that cannot be told now. It blocks while a
// DID document is fetched, or until ctx is done; then it returns ctx's error.
func (v *Verifier) Verify(ctx context.Context, token, nsid string) (caller string, err error) {
	c, err := v.verify(ctx, token, nsid)
	v.metrics.count(err)
	if err != nil {
		return "", err
	}
	return c.caller(), nil
}

func (v *Verifier) verify(ctx context.Context, token, nsid string) (*claims, error) {
	if token == "" {
		return nil, conversation.Refuse(conversation.AuthenticationRequired, "the request needs a bearer token")
	}
	now := v.config.Clock()
	var sum [sha256.Size]byte
	if v.cache != nil {
		sum = sha256.Sum256([]byte(token))
		if c := v.cache.get(sum, now); c != nil {
			v.metrics.hits.Inc()
			return c, v.check(c, nsid, now)
		}
	}
	t, err := parseToken(token)
	if err != nil {
		return nil, err
	}
	if err := v.check(&t.claims, nsid, now); err != nil {
		return nil, err
	}
	if err := v.checkSignature(ctx, t); err != nil {
		return nil, err
	}
	if v.config.EnforceJTI {
		return &t.claims, v.useOnce(ctx, &t.claims, now)
	}
	v.cache.add(sum, &t.claims, now.Add(cacheLife))
	return &t.claims, nil
}

// check checks what the claims say, the signature apart. It returns an untyped
// nil for claims that hold.
func (v *Verifier) check(c *claims, nsid string, now time.Time) error {
	switch {
	case !now.Before(c.expires):
		return conversation.Refuse(conversation.ExpiredToken, "the token has expired")
	case c.notBefore.After(now.Add(leeway)):
		return invalid("the token is not valid yet")
	case c.issued.After(now.Add(leeway)):
		return invalid("the token was issued in the future")
	case v.config.ServiceDID != "" && !c.meantFor(v.config.ServiceDID):
		return invalid("the token is meant for another service")
	case v.config.EnforceLXM && c.LXM != nsid:
		return invalid("the token does not allow this method")
	case v.config.EnforceJTI && c.ID == "":
		return invalid("the token has no jti")
	case v.config.EnforceJTI && c.expires.After(now.Add(MaxLife)):
		return invalid("the token lives too long")
	}
	return nil
}

func (v *Verifier) checkSignature(ctx context.Context, t *token) error {
	if t.alg == algHS256 {
		if len(v.config.JWTSecret) == 0 {
			return invalid("the token is signed in a way that this service does not accept")
		}
		if !t.signedWithSecret(v.config.JWTSecret) {
			return badSignature()
		}
		return nil
	}
	if v.config.Resolver == nil {
		return invalid("the token is signed in a way that this service does not accept")
	}
	did, _, _ := strings.Cut(t.claims.Issuer, "#")
	key, err := v.config.Resolver.Key(ctx, did)
	if err != nil {
		return v.noKey(ctx, did, err)
	}
	if t.signedWithKey(key) {
		return nil
	}
	// The issuer may have changed its key since we last looked.
	newer, err := v.config.Resolver.Refresh(ctx, did)
	if err != nil {
		return v.noKey(ctx, did, err)
	}
	if newer.Equal(key) || !t.signedWithKey(newer) {
		return badSignature()
	}
	return nil
}

// noKey turns an error of the resolver into what the client is told.
func (v *Verifier) noKey(ctx context.Context, did string, err error) error {
	v.log.DebugContext(ctx, "no key to verify a token with", "did", did, "error", err)
	var told *conversation.Error
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("resolve the token's issuer: %w", ctx.Err())
	case errors.As(err, &told):
		return told
	case errors.Is(err, ErrNoKey):
		return invalid("the token's issuer has no key that tokens are signed with")
	default:
		return conversation.Refuse(conversation.Unavailable, "the token's issuer cannot be looked up now")
	}
}

// useOnce remembers the token and refuses it the second time.
func (v *Verifier) useOnce(ctx context.Context, c *claims, now time.Time) error {
	ttl := max(v.config.JTITTL, c.expires.Sub(now)+time.Second)
	fresh, err := v.config.Replay.Use(ctx, replayKey(c.Issuer, c.ID), ttl)
	var told *conversation.Error
	switch {
	case err == nil && fresh:
		return nil
	case err == nil:
		return conversation.Refuse(conversation.ReplayDetected, "the token was used before")
	case ctx.Err() != nil:
		return fmt.Errorf("remember the token: %w", ctx.Err())
	case errors.As(err, &told):
		return told
	default:
		v.log.ErrorContext(ctx, "cannot tell whether a token was used before", "error", err)
		return conversation.Refuse(conversation.Unavailable, "it cannot be told now whether the token was used before")
	}
}

// replayKey stands for one token of one issuer: nobody uses up the ids of
// others, and long ids take no more room than short ones.
func replayKey(issuer, jti string) string {
	sum := sha256.Sum256([]byte(issuer + "\x00" + jti))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func invalid(message string) *conversation.Error {
	return conversation.Refuse(conversation.InvalidToken, "%s", message)
}

func badSignature() *conversation.Error {
	return invalid("the token's signature does not match its issuer's key")
}
