package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"catbird/conversation"
)

func TestVerifyHS256(t *testing.T) {
	t.Parallel()
	now := newClock()
	jwt := fields{"alg": "HS256", "typ": "JWT"}
	for name, tt := range map[string]struct {
		token string
		want  conversation.Code
	}{
		"good":                 {hs256(good(now, nil)), ""},
		"no iat":               {hs256(good(now, fields{"iat": nil})), ""},
		"clock a little ahead": {hs256(good(now, fields{"iat": now.Now().Unix() + 20, "nbf": now.Now().Unix() + 20})), ""},
		"no typ":               {signHS256(secret, fields{"alg": "HS256"}, good(now, nil)), ""},
		"audience in a list":   {hs256(good(now, fields{"aud": []string{"did:web:other", "did:web:us"}})), ""},
		"part of the service":  {hs256(good(now, fields{"aud": "did:web:us#mls"})), ""},

		"none at all":         {"", conversation.AuthenticationRequired},
		"garbage":             {"garbage", conversation.InvalidToken},
		"two parts":           {"a.b", conversation.InvalidToken},
		"four parts":          {hs256(good(now, nil)) + ".x", conversation.InvalidToken},
		"very long":           {hs256(good(now, fields{"x": strings.Repeat("x", MaxToken)})), conversation.InvalidToken},
		"other secret":        {signHS256("another secret of more than thirty-two", jwt, good(now, nil)), conversation.InvalidToken},
		"empty secret":        {signHS256("", jwt, good(now, nil)), conversation.InvalidToken},
		"signature cut":       {strings.TrimRight(hs256(good(now, nil)), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), conversation.InvalidToken},
		"alg none":            {part(fields{"alg": "none"}) + "." + part(good(now, nil)) + ".", conversation.InvalidToken},
		"alg None":            {part(fields{"alg": "None"}) + "." + part(good(now, nil)) + ".", conversation.InvalidToken},
		"no alg":              {signHS256(secret, fields{"typ": "JWT"}, good(now, nil)), conversation.InvalidToken},
		"HS384":               {signHS256(secret, fields{"alg": "HS384"}, good(now, nil)), conversation.InvalidToken},
		"RS256":               {signHS256(secret, fields{"alg": "RS256"}, good(now, nil)), conversation.InvalidToken},
		"ES256 by secret":     {signHS256(secret, fields{"alg": "ES256"}, good(now, nil)), conversation.InvalidToken},
		"alg is a number":     {signHS256(secret, fields{"alg": 5}, good(now, nil)), conversation.InvalidToken},
		"access token":        {signHS256(secret, fields{"alg": "HS256", "typ": "at+jwt"}, good(now, nil)), conversation.InvalidToken},
		"crit":                {signHS256(secret, fields{"alg": "HS256", "crit": []string{"exp"}}, good(now, nil)), conversation.InvalidToken},
		"no exp":              {hs256(good(now, fields{"exp": nil})), conversation.InvalidToken},
		"exp is text":         {hs256(good(now, fields{"exp": "soon"})), conversation.InvalidToken},
		"expired":             {hs256(good(now, fields{"exp": now.Now().Unix()})), conversation.ExpiredToken},
		"expired long ago":    {hs256(good(now, fields{"exp": 1})), conversation.ExpiredToken},
		"exp below zero":      {hs256(good(now, fields{"exp": -1})), conversation.ExpiredToken},
		"not yet":             {hs256(good(now, fields{"nbf": now.Now().Unix() + 60})), conversation.InvalidToken},
		"issued later":        {hs256(good(now, fields{"iat": now.Now().Unix() + 60})), conversation.InvalidToken},
		"no iss":              {hs256(good(now, fields{"iss": nil})), conversation.InvalidToken},
		"iss is no DID":       {hs256(good(now, fields{"iss": "alice"})), conversation.InvalidToken},
		"iss with SQL":        {hs256(good(now, fields{"iss": "did:plc:a'; DROP TABLE members"})), conversation.InvalidToken},
		"iss in another case": {hs256(good(now, fields{"iss": nil, "ISS": alice})), conversation.InvalidToken},
		"iss in two cases":    {hs256(good(now, fields{"Iss": bob})), conversation.InvalidToken},
		"alg in another case": {signHS256(secret, fields{"ALG": "HS256"}, good(now, nil)), conversation.InvalidToken},
		"crit in two cases":   {signHS256(secret, fields{"alg": "HS256", "Crit": []string{"x"}}, good(now, nil)), conversation.InvalidToken},
		"jti twice":           {twice(good(now, nil), `"jti":"again"`), conversation.InvalidToken},
		"iss twice":           {twice(good(now, nil), `"iss":"`+bob+`"`), conversation.InvalidToken},
		"claims in a list":    {signHS256(secret, jwt, nil), conversation.InvalidToken},
		"exp is quoted":       {hs256(good(now, fields{"exp": "99999999999"})), conversation.InvalidToken},
		"exp in the year 1e9": {hs256(good(now, fields{"exp": 1e300})), conversation.InvalidToken},
		"nbf in the year 1e9": {hs256(good(now, fields{"nbf": 1e300})), conversation.InvalidToken},
		"iat before all time": {hs256(good(now, fields{"iat": -1e300})), conversation.InvalidToken},
		"exp in a fraction":   {hs256(good(now, fields{"exp": float64(now.Now().Unix()) + 60.5})), ""},
		"iss with line end":   {hs256(good(now, fields{"iss": alice + "\n"})), conversation.InvalidToken},
		"iss is a list":       {hs256(good(now, fields{"iss": []string{alice}})), conversation.InvalidToken},
		"other audience":      {hs256(good(now, fields{"aud": "did:web:other"})), conversation.InvalidToken},
		"longer audience":     {hs256(good(now, fields{"aud": "did:web:us.example"})), conversation.InvalidToken},
		"no audience":         {hs256(good(now, fields{"aud": nil})), conversation.InvalidToken},
		"audience of number":  {hs256(good(now, fields{"aud": 5})), conversation.InvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Config{JWTSecret: []byte(secret), Clock: now.Now}
			if strings.Contains(name, "audience") || strings.Contains(name, "service") {
				c.ServiceDID = "did:web:us"
			}
			caller, err := newVerifier(t, c).Verify(t.Context(), tt.token, nsid)
			wantCode(t, err, tt.want)
			if want := map[bool]string{true: alice}[tt.want == ""]; caller != want {
				t.Errorf("caller %q, want %q", caller, want)
			}
		})
	}
}

func TestVerifyWithoutSecretRefusesHS256(t *testing.T) {
	t.Parallel()
	now := newClock()
	v := newVerifier(t, Config{Resolver: &fakeResolver{}, Clock: now.Now})
	for _, key := range []string{secret, ""} {
		_, err := v.Verify(t.Context(), signHS256(key, fields{"alg": "HS256"}, good(now, nil)), nsid)
		wantCode(t, err, conversation.InvalidToken)
	}
}

func TestNewNeedsAWayToVerify(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("New accepted a configuration that can accept no token")
	}
}

func TestVerifyMethod(t *testing.T) {
	t.Parallel()
	now := newClock()
	for name, tt := range map[string]struct {
		lxm     any
		enforce bool
		want    conversation.Code
	}{
		"the method":              {nsid, true, ""},
		"another one":             {"blue.catbird.mls.commit", true, conversation.InvalidToken},
		"none":                    {nil, true, conversation.InvalidToken},
		"another one, not looked": {"blue.catbird.mls.commit", false, ""},
	} {
		v := newVerifier(t, Config{JWTSecret: []byte(secret), EnforceLXM: tt.enforce, Clock: now.Now})
		for range 2 { // the second time from the cache
			_, err := v.Verify(t.Context(), hs256(good(now, fields{"lxm": tt.lxm})), nsid)
			if conversation.CodeOf(err) != tt.want {
				t.Errorf("%s: got %v, want %q", name, err, tt.want)
			}
		}
	}
}

func TestVerifySignaturesOfDIDs(t *testing.T) {
	t.Parallel()
	now := newClock()
	p, k, other := newP256(t), newK256(t), newP256(t)
	resolver := func() *fakeResolver {
		return &fakeResolver{keys: map[string]atcrypto.PublicKey{alice: public(t, p), bob: public(t, k)}}
	}
	es256 := signWith(t, p, "ES256", good(now, nil))
	for name, tt := range map[string]struct {
		token  string
		caller string
		want   conversation.Code
	}{
		"ES256":                {es256, alice, ""},
		"ES256, high S":        {twin(t, es256), alice, ""},
		"ES256K":               {signWith(t, k, "ES256K", good(now, fields{"iss": bob})), bob, ""},
		"a device":             {signWith(t, p, "ES256", good(now, fields{"iss": alice + "#phone"})), alice + "#phone", ""},
		"a key of another DID": {signWith(t, k, "ES256K", good(now, nil)), "", conversation.InvalidToken},
		"a key of nobody":      {signWith(t, other, "ES256", good(now, nil)), "", conversation.InvalidToken},
		"curve and alg differ": {signWith(t, p, "ES256K", good(now, nil)), "", conversation.InvalidToken},
		"alg and curve differ": {signWith(t, k, "ES256", good(now, fields{"iss": bob})), "", conversation.InvalidToken},
		"HS256 by public key":  {signHS256(string(public(t, p).Bytes()), fields{"alg": "HS256"}, good(now, nil)), "", conversation.InvalidToken},
		"zero signature":       {es256[:strings.LastIndexByte(es256, '.')+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 64)), "", conversation.InvalidToken},
		"no signature":         {es256[:strings.LastIndexByte(es256, '.')+1], "", conversation.InvalidToken},
		"DER signature":        {es256[:strings.LastIndexByte(es256, '.')+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 70)), "", conversation.InvalidToken},
		"an unknown DID":       {signWith(t, p, "ES256", good(now, fields{"iss": "did:web:nobody.example"})), "", conversation.InvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caller, err := newVerifier(t, Config{Resolver: resolver(), Clock: now.Now}).Verify(t.Context(), tt.token, nsid)
			wantCode(t, err, tt.want)
			if caller != tt.caller {
				t.Errorf("caller %q, want %q", caller, tt.caller)
			}
		})
	}
}

func TestVerifyFollowsAChangeOfKeys(t *testing.T) {
	t.Parallel()
	now := newClock()
	older, newer := newP256(t), newK256(t)
	r := &fakeResolver{
		keys:  map[string]atcrypto.PublicKey{alice: public(t, older)},
		fresh: map[string]atcrypto.PublicKey{alice: public(t, newer)},
	}
	v := newVerifier(t, Config{Resolver: r, Clock: now.Now})
	_, err := v.Verify(t.Context(), signWith(t, older, "ES256", good(now, nil)), nsid)
	wantCode(t, err, "")
	_, err = v.Verify(t.Context(), signWith(t, newer, "ES256K", good(now, nil)), nsid)
	wantCode(t, err, "")
	if r.refreshes != 1 {
		t.Errorf("%d refreshes, want one", r.refreshes)
	}
	// What the old key signs is refused from now on, but for what was verified.
	_, err = v.Verify(t.Context(), signWith(t, older, "ES256", good(now, fields{"jti": "two"})), nsid)
	wantCode(t, err, conversation.InvalidToken)
}

func TestVerifyWhenTheIssuerCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	now := newClock()
	token := signWith(t, newP256(t), "ES256", good(now, nil))
	for name, tt := range map[string]struct {
		err  error
		want conversation.Code
	}{
		"for now":          {errors.New("no route to host"), conversation.Unavailable},
		"for good":         {ErrNoKey, conversation.InvalidToken},
		"too many at once": {conversation.Refuse(conversation.Overloaded, "x"), conversation.Overloaded},
	} {
		_, err := newVerifier(t, Config{Resolver: &fakeResolver{err: tt.err}, Clock: now.Now}).Verify(t.Context(), token, nsid)
		if conversation.CodeOf(err) != tt.want {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := newVerifier(t, Config{Resolver: &fakeResolver{err: ctx.Err()}, Clock: now.Now}).Verify(ctx, token, nsid)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v for a caller who has gone, want context.Canceled", err)
	}
}

func TestVerifyOnce(t *testing.T) {
	t.Parallel()
	now := newClock()
	v := newVerifier(t, Config{JWTSecret: []byte(secret), EnforceJTI: true, Clock: now.Now})
	verify := func(token string, want conversation.Code) {
		t.Helper()
		_, err := v.Verify(t.Context(), token, nsid)
		wantCode(t, err, want)
	}
	token := hs256(good(now, nil))
	forged := signHS256("another secret of more than thirty-two", fields{"alg": "HS256"}, good(now, nil))
	verify(forged, conversation.InvalidToken)
	verify(token, "") // a forger has not used it up
	verify(token, conversation.ReplayDetected)
	verify(hs256(good(now, fields{"iat": nil})), conversation.ReplayDetected)
	verify(hs256(good(now, fields{"iss": bob})), "") // ids are each issuer's own
	verify(hs256(good(now, fields{"jti": nil})), conversation.InvalidToken)
	verify(hs256(good(now, fields{"jti": ""})), conversation.InvalidToken)
	verify(hs256(good(now, fields{"jti": 7})), conversation.InvalidToken)

	long := hs256(good(now, fields{"jti": "long", "exp": now.Now().Add(time.Hour).Unix()}))
	verify(long, "")
	now.Add(59 * time.Minute) // longer than JTITTL: as long as the token is valid
	verify(long, conversation.ReplayDetected)
	verify(hs256(good(now, fields{"jti": "longer", "exp": now.Now().Add(MaxLife + time.Minute).Unix()})), conversation.InvalidToken)
}

type brokenReplay struct{ err error }

func (r brokenReplay) Use(context.Context, string, time.Duration) (bool, error) { return true, r.err }

func TestVerifyWithoutMemoryLetsNobodyIn(t *testing.T) {
	t.Parallel()
	now := newClock()
	for want, broken := range map[conversation.Code]error{
		conversation.Unavailable: errors.New("connection refused"),
		conversation.Overloaded:  conversation.Refuse(conversation.Overloaded, "full"),
	} {
		v := newVerifier(t, Config{JWTSecret: []byte(secret), EnforceJTI: true, Replay: brokenReplay{broken}, Clock: now.Now})
		_, err := v.Verify(t.Context(), hs256(good(now, nil)), nsid)
		wantCode(t, err, want)
	}
}

func TestVerifyRemembersGoodSignatures(t *testing.T) {
	t.Parallel()
	now := newClock()
	key := newP256(t)
	r := &fakeResolver{keys: map[string]atcrypto.PublicKey{alice: public(t, key)}}
	v := newVerifier(t, Config{Resolver: r, EnforceLXM: true, Clock: now.Now, Registerer: prometheus.NewRegistry()})
	token := signWith(t, key, "ES256", good(now, fields{"lxm": nsid, "exp": now.Now().Add(time.Hour).Unix()}))
	verify := func(token, method string, want conversation.Code, looks int) {
		t.Helper()
		_, err := v.Verify(t.Context(), token, method)
		wantCode(t, err, want)
		if r.looks != looks {
			t.Errorf("%d looks at the key, want %d", r.looks, looks)
		}
	}
	verify(token, nsid, "", 1)
	verify(token, nsid, "", 1)
	verify(token, "blue.catbird.mls.commit", conversation.InvalidToken, 1)
	verify(token[:len(token)-4]+"AAAA", nsid, conversation.InvalidToken, 2)
	now.Add(cacheLife)
	verify(token, nsid, "", 3) // the key may have changed since
	now.Add(time.Hour)
	verify(token, nsid, conversation.ExpiredToken, 3)
	if n := testutil.ToFloat64(v.metrics.hits); n != 2 {
		t.Errorf("%v hits counted, want 2", n)
	}
	if n := testutil.ToFloat64(v.metrics.results[conversation.InvalidToken]); n != 2 {
		t.Errorf("%v invalid tokens counted, want 2", n)
	}
}

func BenchmarkVerifyCached(b *testing.B) {
	v := newVerifier(b, Config{JWTSecret: []byte(secret), Clock: newClock().Now})
	token := hs256(good(newClock(), nil))
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token, nsid); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzVerify: whatever a token says, only one signed with the secret is good,
// and nothing panics.
func FuzzVerify(f *testing.F) {
	now := newClock()
	f.Add(hs256(good(now, nil)))
	f.Add(part(fields{"alg": "none"}) + "." + part(good(now, nil)) + ".")
	f.Add(signHS256(secret, fields{"alg": "ES256K"}, good(now, nil)))
	f.Add("..")
	key := newP256(f)
	v := newVerifier(f, Config{
		JWTSecret: []byte(secret), Clock: now.Now, EnforceJTI: true,
		Resolver: &fakeResolver{keys: map[string]atcrypto.PublicKey{alice: public(f, key)}},
	})
	f.Fuzz(func(t *testing.T, token string) {
		caller, err := v.Verify(t.Context(), token, nsid)
		switch code := conversation.CodeOf(err); {
		case err == nil:
			i := strings.LastIndexByte(token, '.')
			head, _, _ := strings.Cut(token, ".")
			if raw, _ := base64.RawURLEncoding.DecodeString(head); !strings.Contains(string(raw), "HS256") ||
				token[i:] != resign(token[:i]) {
				t.Fatalf("accepted %q as %q", token, caller)
			}
		case code == "" || caller != "":
			t.Fatalf("got caller %q and error %v", caller, err)
		}
	})
}
