package cluster

import (
	"crypto/rand"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// Nodes ask each other for a sign of life by message, since the library's own
// ping takes no answer that comes later than a probe may, and a busy node is no
// dead one.
//
//	question: mark, 1, nonce, length of the asker's address, that address, name in gossip of whom it is for
//	answer:   mark, 2, nonce, the answerer's metadata
//
// Only the life that is named answers: its address may be another node's now.
// The answer says what the life is now; gossip may lag behind that.
const (
	kindQuestion = 1
	kindAnswer   = 2

	askAgain = 200 * time.Millisecond
	// maxAsked is how many questions wait; more are dropped and come again.
	maxAsked = 16
)

type nonce [8]byte

// question is one that this life must answer.
type question struct {
	nonce nonce
	from  netip.AddrPort
}

// expected is an answer to come.
type expected struct {
	nonce nonce
	heard <-chan life
}

// expect begins to wait for an answer, until forget.
func (m *Members) expect() (e expected, forget func()) {
	_, _ = rand.Read(e.nonce[:]) // it never fails
	heard := make(chan life, 1)
	e.heard = heard
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asking[e.nonce] = heard
	return e, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.asking, e.nonce)
	}
}

func (m *Members) sendQuestion(address, gossip string, n nonce) {
	m.mu.Lock()
	own := m.self.GossipAddress
	m.mu.Unlock()
	b := append([]byte{metaMark, kindQuestion}, n[:]...)
	b = append(append(b, byte(len(own))), own...)
	m.send(address, append(b, gossip...))
}

func (m *Members) answer(q question) {
	b := append([]byte{metaMark, kindAnswer}, q.nonce[:]...)
	m.send(q.from.String(), append(b, *m.meta.Load()...))
}

func (m *Members) send(address string, b []byte) {
	if err := m.list.Load().SendToAddress(memberlist.Address{Addr: address}, b); err != nil {
		m.log.Debug("message not sent", "address", address, "error", err)
	}
}

// hear takes a message, which may come from anybody, inside the library's
// receive loop.
func (m *Members) hear(b []byte) {
	var n nonce
	if len(b) < 2+len(n) || b[0] != metaMark {
		return
	}
	copy(n[:], b[2:])
	rest := b[2+len(n):]
	switch b[1] {
	case kindAnswer:
		l, err := decodeLife(rest)
		m.mu.Lock()
		heard, ok := m.asking[n]
		m.mu.Unlock()
		if ok && err == nil {
			select {
			case heard <- l:
			default: // an answer to the same question asked again
			}
		}
	case kindQuestion:
		if len(rest) < 1 || len(rest) < 1+int(rest[0]) {
			return
		}
		address, name := rest[1:1+int(rest[0])], rest[1+int(rest[0]):]
		from, err := netip.ParseAddrPort(string(address))
		if err != nil || string(name) != m.gossip {
			return
		}
		select {
		case m.asked <- question{n, from}:
		default:
		}
	}
}
