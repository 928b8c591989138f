package client

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// tokenLife is short: a token is made for one request.
const tokenLife = time.Minute

// HS256 returns a source of development tokens, signed with the secret that
// the servers have as JWT_SECRET: a new one for each call, good for a minute,
// for that endpoint only, and for audience where it is not "".
func HS256(secret []byte, audience string) TokenSource {
	key := append([]byte(nil), secret...)
	return func(did, nsid string) (string, error) {
		return newToken("HS256", did, audience, nsid, func(text []byte) ([]byte, error) {
			mac := hmac.New(sha256.New, key)
			mac.Write(text) // never fails
			return mac.Sum(nil), nil
		})
	}
}

// DIDKeys returns a source of tokens as the AT Protocol has them between
// services: signed by ES256 or ES256K with the caller's own key, whose public
// half its DID document shows. Each is made for one call, as with [HS256]. A DID
// that keys does not have is an error of the call.
func DIDKeys(keys map[string]atcrypto.PrivateKey, audience string) TokenSource {
	return func(did, nsid string) (string, error) {
		key, algorithm := keys[did], ""
		switch key.(type) {
		case *atcrypto.PrivateKeyP256:
			algorithm = "ES256"
		case *atcrypto.PrivateKeyK256:
			algorithm = "ES256K"
		default:
			return "", fmt.Errorf("no key of %s to sign with", did)
		}
		return newToken(algorithm, did, audience, nsid, key.HashAndSign)
	}
}

// newToken makes a token of did for one call of nsid.
func newToken(algorithm, did, audience, nsid string, sign func(text []byte) ([]byte, error)) (string, error) {
	now := time.Now()
	claims, err := json.Marshal(struct {
		Issuer   string `json:"iss"`
		Audience string `json:"aud,omitempty"`
		Method   string `json:"lxm"`
		ID       string `json:"jti"`
		Issued   int64  `json:"iat"`
		Expires  int64  `json:"exp"`
	}{did, audience, nsid, rand.Text(), now.Unix(), now.Add(tokenLife).Unix()})
	if err != nil {
		return "", fmt.Errorf("encode the claims: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"`+algorithm+`","typ":"JWT"}`)) + "." + encode(claims)
	signature, err := sign([]byte(text))
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return text + "." + encode(signature), nil
}
