package auth

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"catbird/conversation"
)

const (
	defaultReplaySize = 1 << 21
	// replayStep is how exactly the end of a memory is known.
	replayStep = 8 * time.Second
)

// MemoryReplay remembers the used tokens of one node, in about 50 bytes each.
// Its size is bounded, and it never forgets before its time: when it is full,
// nothing new is let in.
type MemoryReplay struct {
	clock  func() time.Time
	shards [shards]replayShard
}

type replayID [16]byte

type replayShard struct {
	sync.Mutex
	size  int
	used  map[replayID]struct{}
	ends  map[int64][]replayID // what ends in each step of time
	swept int64                // the step up to which ends were looked through
}

var _ Replay = (*MemoryReplay)(nil)

// NewMemoryReplay returns a MemoryReplay for about size tokens (0: two million,
// about 17,000 requests per second at 2 minutes each). A nil clock is time.Now.
func NewMemoryReplay(size int, clock func() time.Time) *MemoryReplay {
	if size <= 0 {
		size = defaultReplaySize
	}
	if clock == nil {
		clock = time.Now
	}
	m := &MemoryReplay{clock: clock}
	for i := range m.shards {
		m.shards[i] = replayShard{
			size: max(1, size/shards),
			used: map[replayID]struct{}{},
			ends: map[int64][]replayID{},
		}
	}
	return m
}

// Use implements [Replay]. It does not block. When there is no room left it
// returns Overloaded.
func (m *MemoryReplay) Use(_ context.Context, jti string, ttl time.Duration) (fresh bool, err error) {
	sum := sha256.Sum256([]byte(jti))
	k := replayID(sum[:16])
	now := m.clock()
	s := &m.shards[sum[16]%shards]
	s.Lock()
	defer s.Unlock()
	s.sweep(step(now))
	if _, ok := s.used[k]; ok {
		return false, nil
	}
	if len(s.used) >= s.size {
		return false, conversation.Refuse(conversation.Overloaded, "too many tokens are in use")
	}
	s.used[k] = struct{}{}
	end := step(now.Add(ttl)) + 1
	s.ends[end] = append(s.ends[end], k)
	return true, nil
}

func step(t time.Time) int64 { return t.Unix() / int64(replayStep/time.Second) }

// sweep forgets what has ended before the step now.
func (s *replayShard) sweep(now int64) {
	if now <= s.swept {
		return
	}
	for end, keys := range s.ends {
		if end >= now {
			continue
		}
		for _, k := range keys {
			delete(s.used, k)
		}
		delete(s.ends, end)
	}
	s.swept = now
}
