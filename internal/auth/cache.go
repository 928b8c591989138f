package auth

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// shards is how many locks caches are spread over.
const shards = 16

// tokenCache remembers the claims of tokens whose signature was good, by the
// hash of the token: the token itself is not kept. The least recently used make
// room.
type tokenCache struct {
	shards [shards]struct {
		sync.Mutex
		lru *simplelru.LRU[[sha256.Size]byte, verified]
	}
}

type verified struct {
	claims *claims
	until  time.Time
}

func newTokenCache(size int) *tokenCache {
	c := &tokenCache{}
	for i := range c.shards {
		c.shards[i].lru = newLRU[[sha256.Size]byte, verified](size / shards)
	}
	return c
}

// get returns the claims of a token that was verified not too long ago, nil
// otherwise. The caller checks them again: time goes on, methods differ.
func (c *tokenCache) get(sum [sha256.Size]byte, now time.Time) *claims {
	s := &c.shards[sum[0]%shards]
	s.Lock()
	defer s.Unlock()
	v, ok := s.lru.Get(sum)
	if !ok || !now.Before(v.until) {
		return nil
	}
	return v.claims
}

func (c *tokenCache) add(sum [sha256.Size]byte, claims *claims, until time.Time) {
	s := &c.shards[sum[0]%shards]
	s.Lock()
	defer s.Unlock()
	s.lru.Add(sum, verified{claims, until})
}

// newLRU returns a cache of at least one entry.
func newLRU[K comparable, V any](size int) *simplelru.LRU[K, V] {
	lru, err := simplelru.NewLRU[K, V](max(size, 1), nil)
	if err != nil {
		panic("auth: " + err.Error()) // only for sizes below 1
	}
	return lru
}
