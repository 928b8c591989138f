package auth

import (
	"context"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"go.uber.org/goleak"

	"catbird/conversation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice  = "did:plc:alice2222222222222222222"
	bob    = "did:plc:bob222222222222222222222"
	nsid   = "blue.catbird.mls.getEpoch"
	secret = "a secret of at least thirty-two bytes"
)

// clock is a clock that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type fields map[string]any

// good are claims that hold, with some of them changed or, by nil, left out.
func good(c *clock, changed fields) fields {
	out := fields{"iss": alice, "exp": c.Now().Add(time.Minute).Unix(), "iat": c.Now().Unix(), "jti": "one"}
	for k, v := range changed {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

func part(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func signHS256(key string, header, claims fields) string {
	signed := part(header) + "." + part(claims)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func hs256(claims fields) string {
	return signHS256(secret, fields{"alg": "HS256", "typ": "JWT"}, claims)
}

func signWith(t testing.TB, key atcrypto.PrivateKey, alg string, claims fields) string {
	t.Helper()
	signed := part(fields{"alg": alg, "typ": "JWT"}) + "." + part(claims)
	sig, err := key.HashAndSign([]byte(signed))
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// twin returns the token with the other of the two signatures that ECDSA over
// P-256 has for it.
func twin(t testing.TB, token string) string {
	t.Helper()
	i := len(token) - base64.RawURLEncoding.EncodedLen(64)
	sig, err := base64.RawURLEncoding.DecodeString(token[i:])
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(sig[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(sig[32:])
	return token[:i] + base64.RawURLEncoding.EncodeToString(sig)
}

func newP256(t testing.TB) *atcrypto.PrivateKeyP256 {
	t.Helper()
	k, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newK256(t testing.TB) *atcrypto.PrivateKeyK256 {
	t.Helper()
	k, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(t testing.TB, k atcrypto.PrivateKey) atcrypto.PublicKey {
	t.Helper()
	p, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fakeResolver knows keys, and others once it is refreshed.
type fakeResolver struct {
	mu          sync.Mutex
	keys, fresh map[string]atcrypto.PublicKey
	err         error
	looks       int
	refreshes   int
}

func (r *fakeResolver) Key(_ context.Context, did string) (atcrypto.PublicKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	return r.find(did)
}

func (r *fakeResolver) Refresh(_ context.Context, did string) (atcrypto.PublicKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refreshes++
	for did, k := range r.fresh {
		r.keys[did] = k
	}
	return r.find(did)
}

func (r *fakeResolver) find(did string) (atcrypto.PublicKey, error) {
	if r.err != nil {
		return nil, r.err
	}
	if k, ok := r.keys[did]; ok {
		return k, nil
	}
	return nil, ErrNoKey
}

func newVerifier(t testing.TB, c Config) *Verifier {
	t.Helper()
	c.Logger = slog.New(slog.DiscardHandler)
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantCode fails unless err is of that code; "" means no error.
func wantCode(t testing.TB, err error, want conversation.Code) {
	t.Helper()
	if (err == nil) != (want == "") || conversation.CodeOf(err) != want {
		t.Errorf("got error %v, want %q", err, want)
	}
}

// resign returns the dot and the signature that belong behind signed.
func resign(signed string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// twice returns a token whose claims end with one more member, and are signed so.
func twice(claims fields, member string) string {
	raw, err := json.Marshal(claims)
	if err != nil {
		panic(err) // plain values always do
	}
	raw = append(raw[:len(raw)-1], ","+member+"}"...)
	signed := part(fields{"alg": "HS256"}) + "." + base64.RawURLEncoding.EncodeToString(raw)
	return signed + resign(signed)
}
