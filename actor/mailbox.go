package actor

import (
	"context"
	"sync/atomic"
	"time"

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
	default:
	}
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
	batch := m.letters[:n:n]
	if n == len(m.letters) {
		m.letters = nil
	} else {
		m.letters = m.letters[n:]
	}
	m.bytes -= size
	return batch
}
