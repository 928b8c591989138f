package client

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// tokenLife is short: a token is made for one request.
const tokenLife = time.Minute

// HS256 returns a source of development tokens, signed with the secret that
// the servers have as JWT_SECRET: a new one for each call, good for a minute,
// for that endpoint only, and for audience where it is not "".
func HS256(secret []byte, audience string) TokenSource {
	key := append([]byte(nil), secret...)
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))
	return func(did, nsid string) (string, error) {
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
		signed := header + "." + base64.RawURLEncoding.EncodeToString(claims)
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(signed)) // never fails
		return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), nil
	}
}
