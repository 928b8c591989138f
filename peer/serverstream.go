package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"
)

const (
	// maxOut is from how many bytes of answers on, which the client does not
	// take, no more of its questions are read.
	maxOut = 1 << 20
	// linger is how long a client may take to close a stream that has ended.
	linger = 2 * time.Second
)

// serverStream is the server's end of one stream: a goroutine that reads
// questions and answers at once what needs no waiting, one that writes, and
// those of the pool that serve the rest.
type serverStream struct {
	server  *Server
	peer    string // the client's name
	conn    net.Conn
	records *recordReader
	frames  *frameReader
	writer  *recordWriter
	pending *outbox // the writer's: what is being written
	// gathering is the reader's: what is reserved for a large question that is
	// being read.
	gathering int

	ctx    context.Context // ends with the stream
	cancel context.CancelCauseFunc
	wake   chan struct{}  // of size 1: there is something to write
	space  chan struct{}  // of size 1: something was taken from out
	jobs   sync.WaitGroup // those that were started

	mu       sync.Mutex
	out      outbox
	running  map[uint64]*job
	goingOff bool // the client was told to ask elsewhere
	finished bool // the client sends no more questions
	closing  bool // bye is in out, or was sent
}

// job is a question that is served by the pool.
type job struct {
	stream *serverStream
	id     uint64
	q      Question
	size   int
	ctx    context.Context
	cancel context.CancelFunc
}

func newServerStream(s *Server, client hello) *serverStream {
	st := &serverStream{
		server: s, peer: client.node, pending: &outbox{},
		wake: make(chan struct{}, 1), space: make(chan struct{}, 1),
		running: map[uint64]*job{},
	}
	st.ctx, st.cancel = context.WithCancelCause(s.ctx)
	return st
}

// hijack takes the connection over from net/http and says hello on it.
func (st *serverStream) hijack(w http.ResponseWriter, header string, k keys) error {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusUpgradeRequired) // HTTP/2, or something in between
		return err
	}
	st.conn = conn
	if err := conn.SetDeadline(time.Now().Add(st.server.cfg.HandshakeTimeout)); err != nil {
		return errors.Join(err, conn.Close())
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %s\r\n\r\n",
		upgradeName, helloHeader, header)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	br := bufio.NewReaderSize(io.MultiReader(io.LimitReader(rw.Reader, int64(rw.Reader.Buffered())), conn), readBuffer)
	st.writer = newRecordWriter(conn, k.toClient)
	st.records = newRecordReader(br, k.toServer)
	st.frames = &frameReader{records: st, max: maxQuestion, admit: st.admitLarge}
	return nil
}

// run serves the stream until it ends.
func (st *serverStream) run() {
	var writer sync.WaitGroup
	writer.Go(st.write)
	closed := make(chan struct{})
	context.AfterFunc(st.ctx, func() {
		_ = st.conn.Close() // ends reads and writes; it is given up
		close(closed)
	})
	err := st.read()
	st.cancel(err)
	<-closed
	st.server.release(st.gathering)
	writer.Wait()
	st.jobs.Wait()
	st.mu.Lock()
	graceful := st.closing || errors.Is(err, io.EOF)
	st.mu.Unlock()
	if !graceful {
		st.server.log.Info("lost connection of peer", "peer", st.peer, "error", err)
	}
}

func (st *serverStream) read() error {
	for {
		f, err := st.frames.next()
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		st.gathering = 0
		if err := st.handle(f); err != nil {
			return err
		}
	}
}

// next is where the frames come from. Before it blocks, the answers to what came
// before are on their way.
func (st *serverStream) next() ([]byte, error) {
	st.kick()
	if err := st.waitForSpace(); err != nil {
		return nil, err
	}
	plain, err := st.records.next()
	if err == nil {
		st.setReadTimeout()
	}
	return plain, err
}

// setReadTimeout sets how long the next bytes may take.
func (st *serverStream) setReadTimeout() {
	st.mu.Lock()
	defer st.mu.Unlock()
	d := st.server.cfg.IdleTimeout
	if st.closing {
		d = linger
	}
	_ = st.conn.SetReadDeadline(time.Now().Add(d)) // fails only on a closed connection, as the next read does
}

// waitForSpace blocks while the client does not take its answers.
func (st *serverStream) waitForSpace() error {
	for {
		st.mu.Lock()
		full := len(st.out.plain) > maxOut
		st.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-st.space:
		case <-st.ctx.Done():
			return context.Cause(st.ctx)
		}
	}
}

func (st *serverStream) handle(f frame) error {
	switch f.kind {
	case kindEpoch:
		return st.epoch(f)
	case kindChange:
		return st.start(f)
	case kindCancel:
		st.mu.Lock()
		if j := st.running[f.id]; j != nil {
			j.cancel()
		}
		st.mu.Unlock()
	case kindPing:
		st.mu.Lock()
		st.out.add(kindPong, f.id)
		st.mu.Unlock()
	case kindFinish:
		st.mu.Lock()
		st.finished = true
		st.byeLocked()
		st.mu.Unlock()
	default:
		if f.kind&questionBit != 0 {
			if f.owned {
				st.server.release(len(f.body))
			}
			st.put(f.id, st.server.unsupported())
		}
	}
	return nil
}

// epoch answers at once if that is possible.
func (st *serverStream) epoch(f frame) error {
	q, err := decodeEpochQuery(f.body)
	if err != nil {
		return err
	}
	if q.recorded { // whoever records it wants to see this node
		return st.start(f)
	}
	a, ok := st.server.tryEpoch(q.convo, q.caller)
	if !ok {
		return st.start(f)
	}
	if f.owned {
		st.server.release(len(f.body))
	}
	st.server.finish(q.convo, false, &a)
	st.put(f.id, a)
	return nil
}

// admitLarge is asked before memory is taken for a question of more than one
// record: what it takes is reserved, or it is refused unread.
func (st *serverStream) admitLarge(kind frameKind, id uint64, size int) bool {
	if kind&questionBit == 0 {
		return false // nothing of that size that we know
	}
	if st.server.reserve(size) {
		st.gathering = size
		return true
	}
	st.put(id, st.server.busy())
	return false
}

// start hands a question to the pool.
func (st *serverStream) start(f frame) error {
	s := st.server
	size := len(f.body)
	if !f.owned && !s.reserve(size) {
		st.put(f.id, s.busy())
		return nil
	}
	q, left, err := decodeQuestion(f.kind, f.body, f.owned)
	if err != nil {
		s.release(size)
		return err
	}
	if q.Change != nil && q.Change.Command == nil {
		s.release(size)
		st.put(f.id, s.unsupported())
		return nil
	}
	j := &job{stream: st, id: f.id, q: q, size: size}
	if err := st.register(j, left); err != nil {
		s.release(size)
		if errors.Is(err, ErrBusy) {
			st.put(f.id, s.busy())
			return nil
		}
		return err
	}
	s.metrics.inFlight.Inc()
	s.pool.run(j)
	return nil
}

func (st *serverStream) register(j *job, left time.Duration) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.running[j.id] != nil:
		return fmt.Errorf("%w: id %d is in use", errMalformed, j.id)
	case st.finished:
		return fmt.Errorf("%w: question after the last", errMalformed)
	case len(st.running) >= 2*st.server.cfg.MaxInFlight:
		// Twice what the client was told: it does not count those that it has
		// cancelled.
		return ErrBusy
	}
	j.ctx, j.cancel = context.WithTimeout(st.ctx, st.server.wait(left))
	st.running[j.id] = j
	st.jobs.Add(1)
	return nil
}

// run serves the question, unless nobody waits for it any more.
func (j *job) run() {
	st, s := j.stream, j.stream.server
	defer st.jobs.Done()
	a := s.busy()
	if j.ctx.Err() == nil {
		a = s.serve(j.ctx, &j.q)
	}
	j.cancel()
	s.finish(j.q.Subject(), j.q.Change != nil, &a)
	s.release(j.size)
	s.metrics.inFlight.Dec()

	st.mu.Lock()
	delete(st.running, j.id)
	st.putLocked(j.id, &a)
	st.byeLocked()
	st.mu.Unlock()
	st.kick()
}

// put adds an answer to what is to be written; kick starts the writing.
func (st *serverStream) put(id uint64, a Answer) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.putLocked(id, &a)
}

func (st *serverStream) putLocked(id uint64, a *Answer) {
	if st.ctx.Err() != nil {
		return // nobody will take it
	}
	start := st.out.begin(kindAnswer, id)
	st.out.plain = appendAnswer(st.out.plain, a)
	st.out.end(start)
}

// goAway tells the client to ask elsewhere.
func (st *serverStream) goAway() {
	st.mu.Lock()
	if !st.goingOff && !st.closing {
		st.goingOff = true
		st.out.add(kindGoAway, 0)
	}
	st.mu.Unlock()
	st.kick()
}

// byeLocked ends the stream when the client has finished and has all answers.
func (st *serverStream) byeLocked() {
	if st.finished && !st.closing && len(st.running) == 0 {
		st.out.add(kindBye, 0)
		st.closing = true
	}
}

func (st *serverStream) kick() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

func (st *serverStream) write() {
	for {
		select {
		case <-st.wake:
		case <-st.ctx.Done():
			return
		}
		// Whoever is about to answer as well gets to do it first.
		runtime.Gosched()
		for st.take() {
			_ = st.conn.SetWriteDeadline(time.Now().Add(st.server.cfg.WriteTimeout)) // as for reads
			if err := st.writer.flush(st.pending); err != nil {
				st.cancel(fmt.Errorf("writing: %w", err))
				return
			}
		}
		if st.ended() {
			return
		}
	}
}

// take moves what is to be written to pending.
func (st *serverStream) take() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.out.empty() {
		return false
	}
	*st.pending, st.out = st.out, *st.pending
	select {
	case st.space <- struct{}{}:
	default:
	}
	return true
}

// ended reports whether bye was written; then the client is given a moment to
// close the connection, so that no answer is lost on the way.
func (st *serverStream) ended() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.closing || !st.out.empty() {
		return false
	}
	if c, ok := st.conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite() // the read below notices a broken connection
	}
	_ = st.conn.SetReadDeadline(time.Now().Add(linger))
	return true
}
