package cluster

import "sync"

// bell wakes subscribers. Each has a channel of size 1, so rings coalesce and
// ringing never blocks. The zero value is ready for use.
type bell struct {
	mu   sync.Mutex
	subs map[chan struct{}]struct{}
}

// Subscribe returns a channel that receives after each ring, with several
// rings in one, until cancel is called.
func (b *bell) Subscribe() (changes <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = map[chan struct{}]struct{}{}
	}
	b.subs[ch] = struct{}{}
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs, ch)
	}
}

func (b *bell) wakeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.subs {
		wake(ch)
	}
}

// wake puts a token into ch unless one is there.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
