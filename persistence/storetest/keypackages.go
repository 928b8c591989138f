package storetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

var keyPackagesTests = []test{
	{name: "KeyPackagesFind", run: keyPackagesFind},
	{name: "KeyPackagesSameBytesAreOne", run: keyPackagesSameBytesAreOne},
	{name: "KeyPackagesLimit", run: keyPackagesLimit},
	{name: "KeyPackagesPublishByKey", run: keyPackagesPublishByKey},
	{name: "KeyPackagesMaxBytes", run: keyPackagesMaxBytes},
}

const otherSuite = "MLS_128_DHKEMP256_AES128GCM_SHA256_P256"

func keyPackage(did, text string, expires time.Time) persistence.KeyPackage {
	data := []byte("key package of " + did + ": " + text)
	return persistence.KeyPackage{DID: did, CipherSuite: cipherSuite, Data: data, Hash: sum(data), Expires: expires}
}

func sum(data []byte) []byte {
	h := sha256.Sum256(data)
	return h[:]
}

// publish publishes a key package that lives an hour.
func (f *fixture) publish(did, text string) persistence.KeyPackage {
	f.t.Helper()
	return f.publishUntil(did, text, now().Add(time.Hour))
}

func (f *fixture) publishUntil(did, text string, expires time.Time) persistence.KeyPackage {
	f.t.Helper()
	k := keyPackage(did, text, expires)
	f.ok(f.tryPublish(k, conversation.MaxKeyPackages), "publish a key package")
	return k
}

func (f *fixture) tryPublish(k persistence.KeyPackage, limit int) error {
	r := &conversation.Request{ID: newID(), Caller: k.DID, Digest: k.Hash}
	return f.Store.PublishKeyPackage(f.ctx, r, k, limit)
}

func (f *fixture) find(dids ...string) []persistence.KeyPackage {
	f.t.Helper()
	return f.findBy(persistence.KeyPackagesQuery{DIDs: dids})
}

func (f *fixture) findBy(q persistence.KeyPackagesQuery) []persistence.KeyPackage {
	f.t.Helper()
	if q.PerDID == 0 {
		q.PerDID = conversation.KeyPackagesPerDID
	}
	if q.MaxBytes == 0 {
		q.MaxBytes = conversation.MaxAnswer
	}
	got, err := f.Store.FindKeyPackages(f.ctx, q)
	f.ok(err, "find key packages")
	return got
}

func (f *fixture) areKeyPackages(got []persistence.KeyPackage, want ...persistence.KeyPackage) {
	f.t.Helper()
	equal(f, len(got), len(want), "key packages")
	for i := range want {
		f.sameBytes(got[i].Data, want[i].Data, fmt.Sprintf("key package %d", i))
		f.sameBytes(got[i].Hash, want[i].Hash, "hash")
		equal(f, got[i].DID, want[i].DID, "DID")
		equal(f, got[i].CipherSuite, want[i].CipherSuite, "cipher suite")
		f.sameTime(got[i].Expires, want[i].Expires, "end")
	}
}

func keyPackagesFind(t *testing.T, f *fixture) {
	alice, bob, carol := f.did("alice"), f.did("bob"), f.did("carol")
	b1, b2 := f.publish(bob, "1"), f.publish(bob, "2")
	f.publishUntil(bob, "expired", now().Add(-time.Second))
	b3 := f.publish(bob, "3")
	a1 := f.publish(alice, "1")
	other := keyPackage(bob, "other suite", now().Add(time.Hour))
	other.CipherSuite = otherSuite
	f.ok(f.tryPublish(other, 1), "publish for another suite")

	f.areKeyPackages(f.find(carol))
	f.areKeyPackages(f.find(alice, carol, bob), a1, b1, b2, b3, other)
	f.areKeyPackages(f.find(bob, alice), b1, b2, b3, other, a1)
	f.areKeyPackages(f.findBy(persistence.KeyPackagesQuery{DIDs: []string{bob}, PerDID: 2}), b1, b2, other)
	f.areKeyPackages(f.findBy(persistence.KeyPackagesQuery{DIDs: []string{bob, alice}, CipherSuite: otherSuite}), other)
	f.areKeyPackages(f.findBy(persistence.KeyPackagesQuery{DIDs: []string{bob}, CipherSuite: cipherSuite, PerDID: 1}), b1)
}

func keyPackagesSameBytesAreOne(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	k := f.publish(bob, "1")
	f.ok(f.tryPublish(k, 1), "the same bytes at the limit")
	f.areKeyPackages(f.find(bob), k)

	// Nobody blocks another's key package by publishing its bytes first.
	stolen := k
	stolen.DID = alice
	f.ok(f.tryPublish(stolen, 1), "the same bytes by another DID")
	f.areKeyPackages(f.find(bob), k)

	convo := f.convo(alice)
	f.direct(convo, alice, conversation.AddMembers{
		DIDs: []string{bob}, KeyPackages: []conversation.KeyPackageRef{{DID: bob, Hash: k.Hash}},
	})
	f.ok(f.tryPublish(k, 1), "the same bytes after they were used up")
	f.areKeyPackages(f.find(bob))
}

func keyPackagesLimit(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	first := f.publish(bob, "1")
	f.publishUntil(bob, "expired does not count", now().Add(-time.Second))
	f.ok(f.tryPublish(keyPackage(bob, "2", now().Add(time.Hour)), 2), "the second of two")
	third := keyPackage(bob, "3", now().Add(time.Hour))
	f.refused(f.tryPublish(third, 2), conversation.TooManyKeyPackages, "the third of two")
	other := third
	other.CipherSuite = otherSuite
	f.ok(f.tryPublish(other, 2), "another suite")
	convo := f.convo(alice)
	f.direct(convo, alice, conversation.AddMembers{
		DIDs: []string{bob}, KeyPackages: []conversation.KeyPackageRef{{DID: bob, Hash: first.Hash}},
	})
	f.ok(f.tryPublish(keyPackage(bob, "4", now().Add(time.Hour)), 2), "one more after one was used up")
}

func keyPackagesPublishByKey(t *testing.T, f *fixture) {
	bob := f.did("bob")
	publish := func(key, digest string, k persistence.KeyPackage) error {
		r := &conversation.Request{ID: newID(), Caller: bob, Key: key, Digest: []byte(digest)}
		return f.Store.PublishKeyPackage(f.ctx, r, k, 2)
	}
	first, second := keyPackage(bob, "1", now().Add(time.Hour)), keyPackage(bob, "2", now().Add(time.Hour))
	f.ok(publish("k", "d1", first), "publish")
	f.ok(publish("k", "d1", first), "publish again")
	f.areKeyPackages(f.find(bob), first)
	f.refused(publish("k", "d2", second), conversation.IdempotencyConflict, "the key with another body")
	f.ok(publish("l", "d2", second), "another key")
	third := keyPackage(bob, "3", now().Add(time.Hour))
	f.refused(publish("m", "d3", third), conversation.TooManyKeyPackages, "the third of two")
	f.ok(publish("l", "d2", second), "a repeat at the limit")
	f.areKeyPackages(f.find(bob), first, second)
}

func keyPackagesMaxBytes(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	for _, did := range []string{alice, bob} {
		data := bytes.Repeat([]byte(did), 100)[:1000]
		k := persistence.KeyPackage{DID: did, CipherSuite: cipherSuite, Data: data, Hash: sum(data), Expires: now().Add(time.Hour)}
		f.ok(f.tryPublish(k, 1), "publish")
	}
	equal(f, len(f.findBy(persistence.KeyPackagesQuery{DIDs: []string{alice, bob}, MaxBytes: 2000})), 2, "just enough")
	_, err := f.Store.FindKeyPackages(f.ctx, persistence.KeyPackagesQuery{DIDs: []string{alice, bob}, PerDID: 5, MaxBytes: 1999})
	f.refused(err, conversation.TooManyDids, "more than fits")
}
