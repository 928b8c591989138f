package router

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"catbird/conversation"
	"catbird/persistence"
	"catbird/router/wire"
)

type publishKeyPackageInput struct {
	KeyPackage     wire.Base64 `json:"keyPackage" xrpc:"required"`
	CipherSuite    string      `json:"cipherSuite" xrpc:"required"`
	Expires        *wire.Time  `json:"expires"`
	IdempotencyKey string      `json:"idempotencyKey"`
}

type publishKeyPackageOutput struct{}

// publishKeyPackage stores a key package by which others add the caller.
func (rt *Router) publishKeyPackage(c *call, in *publishKeyPackageInput) (publishKeyPackageOutput, error) {
	now := rt.now()
	if err := in.check(now); err != nil {
		return publishKeyPackageOutput{}, err
	}
	r, err := c.newRequest("", in.IdempotencyKey, func() []byte { return digestOf(in) })
	if err != nil {
		return publishKeyPackageOutput{}, err
	}
	if in.Expires != nil && !in.Expires.After(now) { // unless it was not, the first time
		_, err := rt.repeated(c, r, conversation.OpPublishKeyPackage, conversation.Refuse(conversation.InvalidRequest, "expires: is past"))
		return publishKeyPackageOutput{}, err
	}
	expires := now.Add(conversation.MaxKeyPackageLife)
	if in.Expires != nil {
		expires = in.Expires.Time
	}
	hash := sha256.Sum256(in.KeyPackage)
	return publishKeyPackageOutput{}, rt.config.Store.PublishKeyPackage(c.ctx, r, persistence.KeyPackage{
		DID: c.caller, CipherSuite: in.CipherSuite, Data: in.KeyPackage, Hash: hash[:], Expires: expires,
	}, conversation.MaxKeyPackages)
}

func (in *publishKeyPackageInput) check(now time.Time) error {
	switch {
	case !knownSuite(in.CipherSuite):
		return badSuite()
	case len(in.KeyPackage) == 0:
		return conversation.Refuse(conversation.InvalidKeyPackage, "keyPackage: is empty")
	case len(in.KeyPackage) > conversation.MaxKeyPackage:
		return conversation.Refuse(conversation.InvalidKeyPackage, "keyPackage: more than %d bytes", conversation.MaxKeyPackage)
	case in.Expires == nil:
		return nil
	case in.Expires.After(now.Add(conversation.MaxKeyPackageLife)):
		return conversation.Refuse(conversation.ExpirationTooFar, "expires: more than %d days on",
			int(conversation.MaxKeyPackageLife/(24*time.Hour)))
	}
	return nil
}

func knownSuite(name string) bool {
	_, ok := conversation.CipherSuites[name]
	return ok
}

func badSuite() error {
	return conversation.Refuse(conversation.InvalidCipherSuite, "cipherSuite: is none that this service knows")
}

type getKeyPackagesInput struct {
	DIDs        []string `json:"dids" xrpc:"required"`
	CipherSuite string   `json:"cipherSuite"`
}

type keyPackageView struct {
	DID            string `json:"did"`
	KeyPackage     []byte `json:"keyPackage"` // base64, which is how encoding/json writes bytes
	CipherSuite    string `json:"cipherSuite"`
	KeyPackageHash string `json:"keyPackageHash"`
}

type getKeyPackagesOutput struct {
	KeyPackages []keyPackageView `json:"keyPackages"`
	Missing     []string         `json:"missing"`
}

// getKeyPackages returns key packages of others, and who has none.
func (rt *Router) getKeyPackages(c *call, in *getKeyPackagesInput) (getKeyPackagesOutput, error) {
	dids, err := in.check()
	if err != nil {
		return getKeyPackagesOutput{}, err
	}
	found, err := rt.config.Store.FindKeyPackages(c.ctx, persistence.KeyPackagesQuery{
		DIDs: dids, CipherSuite: in.CipherSuite, PerDID: conversation.KeyPackagesPerDID, MaxBytes: conversation.MaxAnswer,
	})
	if err != nil {
		return getKeyPackagesOutput{}, err
	}
	out := getKeyPackagesOutput{KeyPackages: make([]keyPackageView, len(found)), Missing: []string{}}
	has := make(map[string]bool, len(dids))
	size := int64(0)
	for i, k := range found {
		has[k.DID] = true
		size += int64(len(k.Data)) * 7 / 3
		out.KeyPackages[i] = keyPackageView{
			DID: k.DID, KeyPackage: notNil(k.Data), CipherSuite: k.CipherSuite, KeyPackageHash: hex.EncodeToString(k.Hash),
		}
	}
	for _, did := range dids {
		if !has[did] {
			out.Missing = append(out.Missing, did)
		}
	}
	return out, rt.inFlight.hold(c, size)
}

// check checks the form and returns the DIDs, each once.
func (in *getKeyPackagesInput) check() ([]string, error) {
	if len(in.DIDs) > conversation.MaxKeyPackageDIDs {
		return nil, conversation.Refuse(conversation.TooManyDids, "dids: more than %d", conversation.MaxKeyPackageDIDs)
	}
	if in.CipherSuite != "" && !knownSuite(in.CipherSuite) {
		return nil, badSuite()
	}
	seen := make(map[string]bool, len(in.DIDs))
	dids := make([]string, 0, len(in.DIDs))
	for _, did := range in.DIDs {
		if !conversation.CheckDID(did) {
			return nil, conversation.Refuse(conversation.InvalidRequest, "dids: holds something that is not a DID")
		}
		if !seen[did] {
			seen[did] = true
			dids = append(dids, did)
		}
	}
	return dids, nil
}
