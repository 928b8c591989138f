package peer

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"time"
)

// errBye: the peer has said that nothing follows.
var errBye = errors.New("peer has ended the stream")

// stream is the client's end of one connection: a goroutine that writes what
// the lane's queue holds, and one that reads answers. The lane's lock guards
// all that has no other owner.
type stream struct {
	lane    *lane
	session *session
	wake    chan struct{} // of size 1: there is something to write
	dead    chan struct{} // closed by endLocked
	heard   atomic.Bool   // since the last tick

	calls     map[uint64]*call // that wait for their answer
	lastID    uint64
	cancels   []uint64
	pingDue   bool
	finishDue bool
	finishing bool // takes no more calls
	proven    bool // something authentic has come
	ended     bool
	silent    int    // ticks without a sign of life, while one is due
	written   uint64 // bytes up to the last tick
	idle      int    // ticks without a call
}

func newStream(l *lane, s *session) *stream {
	return &stream{
		lane: l, session: s,
		wake: make(chan struct{}, 1), dead: make(chan struct{}),
		calls: map[uint64]*call{},
		// The first frame proves to the server that this is no repeated hello.
		pingDue: true,
	}
}

func (s *stream) start() {
	s.wakeUp()
	s.lane.client.wg.Go(s.write)
	s.lane.client.wg.Go(s.read)
}

func (s *stream) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// controls are the frames that go out beside questions.
type controls struct {
	cancels      []uint64
	ping, finish bool
}

func (s *stream) write() {
	var out outbox
	var batch []*call
	m := s.lane.remote.metrics.Load()
	for {
		select {
		case <-s.wake:
		case <-s.dead:
			return
		}
		// Whoever is about to ask as well gets to do it first: fewer, fuller writes.
		runtime.Gosched()
		for {
			var ctl controls
			batch, ctl = s.take(batch[:0])
			encode(&out, batch, ctl)
			if out.empty() {
				break
			}
			before := s.session.writer.total.Load()
			err := s.session.writer.flush(&out)
			m.sent.Add(float64(s.session.writer.total.Load() - before))
			if err != nil {
				s.end(fmt.Errorf("writing: %w", err))
				return
			}
		}
	}
}

// take returns what is to be written next. From here on its calls count as
// possibly received.
func (s *stream) take(batch []*call) ([]*call, controls) {
	l := s.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	ctl := controls{cancels: s.cancels, ping: s.pingDue, finish: s.finishDue}
	s.cancels, s.pingDue, s.finishDue = nil, false, false
	if s.finishing || s.ended {
		return batch, ctl
	}
	batch = l.takeLocked(batch, s.session.window-len(s.calls), writeChunk)
	for _, c := range batch {
		s.idle = 0
		s.lastID++
		c.state, c.stream, c.id = callSent, s, s.lastID
		s.calls[c.id] = c
	}
	return batch, ctl
}

func encode(out *outbox, batch []*call, ctl controls) {
	if ctl.ping {
		out.add(kindPing, 0)
	}
	for _, id := range ctl.cancels {
		out.add(kindCancel, id)
	}
	if len(batch) > 0 {
		now := time.Now()
		for _, c := range batch {
			kind := kindEpoch
			if c.q.Change != nil {
				kind = kindChange
			}
			start := out.begin(kind, c.id)
			out.plain = appendQuestion(out.plain, &c.q, c.left(now))
			out.end(start)
		}
	}
	if ctl.finish {
		out.add(kindFinish, 0)
	}
}

func (s *stream) read() {
	m := s.lane.remote.metrics.Load()
	for {
		before := s.session.records.total.Load()
		f, err := s.session.frames.next()
		m.received.Add(float64(s.session.records.total.Load() - before))
		if err == nil {
			err = s.handle(f)
		}
		if err != nil {
			s.end(fmt.Errorf("reading: %w", err))
			return
		}
	}
}

func (s *stream) handle(f frame) error {
	s.heard.Store(true)
	switch f.kind {
	case kindAnswer:
		a, err := decodeAnswer(f.body)
		if err != nil {
			return err
		}
		s.answered(f.id, a)
	case kindPong:
		s.lane.mu.Lock()
		s.proven = true
		s.lane.backoff = 0
		s.lane.mu.Unlock()
	case kindGoAway:
		s.lane.mu.Lock()
		s.lane.detachLocked(s)
		s.lane.mu.Unlock()
	case kindBye:
		return errBye
	}
	return nil
}

// answered passes an answer on to who waits for it, if somebody still does.
func (s *stream) answered(id uint64, a Answer) {
	s.lane.mu.Lock()
	c := s.calls[id]
	if c != nil {
		delete(s.calls, id)
		c.state = callEnded
		if len(s.lane.queue) > 0 { // there is room for one more
			s.wakeUp()
		}
	}
	s.lane.mu.Unlock()
	if c == nil {
		return
	}
	switch a.Status {
	case statusBusy:
		c.end(Answer{}, ErrBusy)
	case statusUnsupported:
		c.end(Answer{}, ErrUnsupported)
	default:
		c.end(a, nil)
	}
}

func (s *stream) cancelLocked(id uint64) {
	if s.ended {
		return
	}
	s.cancels = append(s.cancels, id)
	s.wakeUp()
}

func (s *stream) finishLocked() {
	s.finishing, s.finishDue = true, true
	s.wakeUp()
}

// silentLocked is called at every tick; it returns true for a stream whose peer
// counts as dead. A peer that owes nothing may be silent.
func (s *stream) silentLocked() bool {
	heard := s.heard.Swap(false)
	if written := s.session.writer.total.Load(); written != s.written {
		s.written = written
		heard = heard || s.lane.purpose == purposeBulk // a large question may take long to arrive
	}
	if heard || len(s.calls) == 0 && !s.finishing {
		s.silent = 0
		return false
	}
	s.silent++
	if s.silent == 1 {
		s.pingDue = true
		s.wakeUp()
	}
	return s.silent > 1+s.lane.client.deadTicks()
}

// idleLocked is called at every tick; it returns true for a stream that has had
// nothing to do for long.
func (s *stream) idleLocked() bool {
	if len(s.calls) > 0 || len(s.lane.queue) > 0 {
		s.idle = 0
		return false
	}
	s.idle++
	return s.idle > s.lane.client.idleTicks()
}

// end ends the stream. What was sent and not answered is lost.
func (s *stream) end(err error) {
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	s.endLocked(err)
}

func (s *stream) endLocked(err error) {
	if s.ended {
		return
	}
	s.ended = true
	close(s.dead)
	s.session.close()
	graceful := len(s.calls) == 0 && (errors.Is(err, errBye) || errors.Is(err, io.EOF) || errors.Is(err, ErrClosed))
	for id, c := range s.calls {
		delete(s.calls, id)
		c.state = callEnded
		c.end(Answer{}, fail(ErrLost, err))
	}
	s.lane.endedLocked(s, err, graceful)
}
