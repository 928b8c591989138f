package peer

import "time"

const (
	// rememberedHellos bounds the hellos that are known to have been used. An
	// older one that is sent again passes, and ends in nothing: the keys of the
	// stream that it opens come from a fresh key of the server's.
	rememberedHellos = 4096
	// maxSessions and sessionLife bound the plain requests that have said hello
	// and not asked yet.
	maxSessions = 1024
	sessionLife = 10 * time.Second
)

// helloGuard tells a hello from a copy of it. The zero value is ready.
type helloGuard struct {
	seen map[string]struct{}
	ring []string // the same, oldest at next
	next int
}

// first reports whether key is new, and remembers it.
func (g *helloGuard) first(key string) bool {
	if _, ok := g.seen[key]; ok {
		return false
	}
	if g.seen == nil {
		g.seen = map[string]struct{}{}
	}
	if len(g.ring) < rememberedHellos {
		g.ring = append(g.ring, key)
	} else {
		delete(g.seen, g.ring[g.next])
		g.ring[g.next] = key
		g.next = (g.next + 1) % rememberedHellos
	}
	g.seen[key] = struct{}{}
	return true
}

// plainSession is a plain request that has said hello and may ask once.
type plainSession struct {
	keys    keys
	expires time.Time
}

// plainSessions holds them by the client's public key. The zero value is ready.
type plainSessions struct {
	m map[string]plainSession
}

// add reports false when there are too many.
func (p *plainSessions) add(key string, k keys, now time.Time) bool {
	if len(p.m) >= maxSessions {
		for old, s := range p.m {
			if now.After(s.expires) {
				delete(p.m, old)
			}
		}
		if len(p.m) >= maxSessions {
			return false
		}
	}
	if p.m == nil {
		p.m = map[string]plainSession{}
	}
	p.m[key] = plainSession{keys: k, expires: now.Add(sessionLife)}
	return true
}

// take returns a session's keys and ends it.
func (p *plainSessions) take(key string, now time.Time) (keys, bool) {
	s, ok := p.m[key]
	delete(p.m, key)
	return s.keys, ok && now.Before(s.expires)
}
