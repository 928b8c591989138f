package actor

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"catbird/conversation"
)

// letter is a request in a mailbox.
type letter struct {
	ctx context.Context
	// req is nil for a letter that only wants the conversation loaded.
	req  *conversation.Request
	size int
	at   time.Time
	// taken is set once, by the actor that begins with the letter or by the
	// sender that gives up.
	taken atomic.Bool
	// unknown says that an append with this change was sent and its outcome is
	// not known.
	unknown bool
	reply   chan reply // holds one
	// span is what the letter belongs to, nil for nothing that is recorded.
	span trace.Span
	// node is where the letter counts until it is answered or thrown away.
	node *nodeLoad
}

type reply struct {
	result conversation.Result
	err    error
}

func newLetter(ctx context.Context, r *conversation.Request) *letter {
	l := &letter{ctx: ctx, req: r, at: time.Now(), reply: make(chan reply, 1)}
	if r != nil {
		l.size = r.Command.Size()
	}
	return l
}

// answer tells the sender; only the first answer counts.
func (l *letter) answer(res conversation.Result, err error) {
	select {
	case l.reply <- reply{res, err}:
		l.node.leave(l)
	default:
	}
}

// begin takes a letter out of its sender's hands and reports whether that
// worked. A sender whose time is up gives up by itself: nothing has begun then.
func (l *letter) begin() bool {
	if l.ctx.Err() == nil && l.taken.CompareAndSwap(false, true) {
		return true
	}
	l.node.leave(l)
	return false
}

// nodeLoad bounds all letters of a node that are not answered yet, in number and
// in bytes (rule 24).
type nodeLoad struct {
	letters, bytes       atomic.Int64
	maxLetters, maxBytes int64
}

// enter reports false when the node has too much to do. A letter always fits on
// a node that has nothing to do.
func (n *nodeLoad) enter(l *letter) bool {
	letters, bytes := n.letters.Add(1), n.bytes.Add(int64(l.size))
	l.node = n
	if letters > 1 && (letters > n.maxLetters || bytes > n.maxBytes) {
		n.leave(l)
		return false
	}
	return true
}

func (n *nodeLoad) leave(l *letter) {
	n.letters.Add(-1)
	n.bytes.Add(-int64(l.size))
}

// mailbox is what waits for one actor, first in, first out, bounded in number
// and in bytes. It is guarded by the actor's lock.
type mailbox struct {
	letters []*letter
	bytes   int
}

// put reports false when the mailbox is full. A letter always fits in an empty
// one.
func (m *mailbox) put(l *letter, maxLetters, maxBytes int) bool {
	if len(m.letters) > 0 && (len(m.letters) >= maxLetters || m.bytes+l.size > maxBytes) {
		return false
	}
	m.letters = append(m.letters, l)
	m.bytes += l.size
	return true
}

// take returns the next letters, as many as one append may hold.
func (m *mailbox) take(maxRows, maxBytes int) []*letter {
	n, size := 0, 0
	for n < len(m.letters) && n < maxRows {
		if s := m.letters[n].size; n > 0 && size+s > maxBytes {
			break
		} else {
			size += s
		}
		n++
	}
	m.bytes -= size
	batch := m.letters[:n:n]
	if n == len(m.letters) {
		m.letters = nil
		return batch
	}
	batch = slices.Clone(batch)
	clear(m.letters[:n]) // the mailbox's array lives on
	m.letters = m.letters[n:]
	return batch
}
