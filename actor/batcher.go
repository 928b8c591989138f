package actor

import (
	"context"
	"sync"
)

// batcher joins what many goroutines ask for into few calls, without timers:
// whatever queued up while the last call ran is the next batch. It holds no
// goroutine while nobody asks.
type batcher[Q, A any] struct {
	// do answers a batch, in order. It is called by up to workers goroutines at
	// once.
	do func(batch []Q) ([]A, error)
	// fits reports whether q may join a batch of n that holds so many rows and
	// bytes.
	weigh   func(q Q) (rows, size int)
	maxRows int
	maxSize int
	workers int
	// alone reports whether, after err, each of a batch may be asked for alone,
	// so that one bad apple does not spoil the others.
	alone func(err error) bool

	mu      sync.Mutex
	queue   []*waiter[Q, A]
	running int
	wg      sync.WaitGroup
}

type waiter[Q, A any] struct {
	q    Q
	a    A
	err  error
	done chan struct{}
}

// ask queues q and waits for its answer. There is no way to give up: what was
// queued is answered, within the time that do allows itself.
func (b *batcher[Q, A]) ask(q Q) (A, error) {
	w := &waiter[Q, A]{q: q, done: make(chan struct{})}
	b.mu.Lock()
	b.queue = append(b.queue, w)
	if b.running < b.workers {
		b.running++
		b.wg.Go(b.run)
	}
	b.mu.Unlock()
	<-w.done
	return w.a, w.err
}

func (b *batcher[Q, A]) run() {
	for {
		batch := b.next()
		if batch == nil {
			return
		}
		b.answer(batch)
	}
}

func (b *batcher[Q, A]) answer(batch []*waiter[Q, A]) {
	qs := make([]Q, len(batch))
	for i, w := range batch {
		qs[i] = w.q
	}
	as, err := b.do(qs)
	each := err != nil && len(batch) > 1 && b.alone(err)
	for i, w := range batch {
		switch {
		case each:
			if as, w.err = b.do(qs[i : i+1]); w.err == nil {
				w.a = as[0]
			}
		case err != nil:
			w.err = err
		default:
			w.a = as[i]
		}
		close(w.done)
	}
	clear(batch) // the queue's array lives on
}

// next takes the next batch, one at least, or gives the worker up.
func (b *batcher[Q, A]) next() []*waiter[Q, A] {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, rows, size := 0, 0, 0
	for _, w := range b.queue {
		r, s := b.weigh(w.q)
		if n > 0 && (rows+r > b.maxRows || size+s > b.maxSize) {
			break
		}
		n, rows, size = n+1, rows+r, size+s
	}
	if n == 0 {
		b.queue = nil
		b.running--
		return nil
	}
	batch := b.queue[:n:n]
	b.queue = b.queue[n:]
	return batch
}

// pending returns how many wait.
func (b *batcher[Q, A]) pending() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

// wait waits until nobody is served any more, or until ctx ends.
func (b *batcher[Q, A]) wait(ctx context.Context) error { return waitFor(ctx, &b.wg) }
