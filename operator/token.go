package operator

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
)

// StatusToken returns the bearer token by which nodes of one cluster ask each
// other for GET /node, "" where there is no secret. It opens nothing else: the
// secret itself never goes to an address that is known from gossip only.
func StatusToken(secret string) string {
	if secret == "" {
		return ""
	}
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte("catbird operator API: GET /node"))
	return hex.EncodeToString(h.Sum(nil))
}

// key is a bearer token in a form whose comparison tells nothing by its time.
type key [sha256.Size]byte

func keyOf(token string) key { return sha256.Sum256([]byte(token)) }

func (k key) opens(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given := keyOf(token)
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(given[:], k[:]) == 1
}

func (a *API) authorized(r *http.Request) bool {
	if a.cfg.Secret == "" || a.secret.opens(r) {
		return true
	}
	return r.Method == http.MethodGet && r.URL.Path == "/node" && a.status.opens(r)
}
