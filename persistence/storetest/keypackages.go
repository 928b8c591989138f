package storetest

import (
	"crypto/sha256"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

func keyPackage(did, text string, expires time.Time) persistence.KeyPackage {
	data := []byte("key package of " + did + ": " + text)
	sum := sha256.Sum256(data)
	return persistence.KeyPackage{DID: did, CipherSuite: cipherSuite, Data: data, Hash: sum[:], Expires: expires}
}

func (f *fixture) publishRequest(did string) *conversation.Request {
	return &conversation.Request{ID: newID(), Caller: did, Digest: []byte("digest")}
}

// publish publishes a key package that lives an hour.
func (f *fixture) publish(did, text string) persistence.KeyPackage {
	f.t.Helper()
	return f.publishUntil(did, text, now().Add(time.Hour))
}

func (f *fixture) publishUntil(did, text string, expires time.Time) persistence.KeyPackage {
	f.t.Helper()
	k := keyPackage(did, text, expires)
	f.ok(f.Store.PublishKeyPackage(f.ctx, f.publishRequest(did), k, conversation.MaxKeyPackages), "publish a key package")
	return k
}

func (f *fixture) find(dids ...string) []persistence.KeyPackage {
	f.t.Helper()
	got, err := f.Store.FindKeyPackages(f.ctx, persistence.KeyPackagesQuery{
		DIDs: dids, PerDID: conversation.KeyPackagesPerDID, MaxBytes: conversation.MaxAnswer,
	})
	f.ok(err, "find key packages")
	return got
}
