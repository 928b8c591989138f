package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// serveHello is the first half of a plain request.
func (s *Server) serveHello(w http.ResponseWriter, client hello, raw []byte) {
	// What follows the hellos is the same in all versions: one frame.
	header, k, err := s.secret.answer(s.hello(s.version), client, raw)
	if err != nil {
		s.refuse(w, http.StatusBadRequest, refusedVersion)
		return
	}
	s.mu.Lock()
	reason := ""
	if s.stopping {
		reason = refusedStop
	} else if !s.sessions.add(string(client.key), k, time.Now()) {
		reason = refusedFull
	}
	s.mu.Unlock()
	if reason != "" {
		s.refuse(w, http.StatusServiceUnavailable, reason)
		return
	}
	w.Header().Set(helloHeader, header)
	w.WriteHeader(http.StatusOK)
}

// serveAsk is the second half: one frame in, one frame out.
func (s *Server) serveAsk(w http.ResponseWriter, r *http.Request) {
	k, status := s.beginAsk(r)
	switch status {
	case http.StatusOK:
	case http.StatusUnauthorized:
		s.metrics.refused[refusedSecret].Inc()
		unauthorized(w, r)
		return
	default:
		s.refuse(w, status, refusedStop)
		return
	}
	defer s.wg.Done()
	const sealedQuestion = maxQuestion + maxQuestion/64
	body := http.MaxBytesReader(w, r.Body, sealedQuestion)
	a, err := s.ask(r.Context(), body, k, int(max(r.ContentLength, 0)))
	if err != nil {
		s.log.Warn("refused a peer's request", "remote", r.RemoteAddr, "error", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var out outbox
	start := out.begin(kindAnswer, 1)
	out.plain = appendAnswer(out.plain, &a)
	out.end(start)
	var sealed bytes.Buffer
	err = newRecordWriter(&sealed, k.toClient).flush(&out)
	if err == nil {
		_, err = w.Write(sealed.Bytes())
	}
	if err != nil {
		s.log.Info("cannot deliver an answer", "remote", r.RemoteAddr, "error", err)
	}
}

// beginAsk finds the session of a request; with status 200, s.wg counts it.
func (s *Server) beginAsk(r *http.Request) (k keys, status int) {
	name, ok := strings.CutPrefix(r.Header.Get("Authorization"), sessionScheme+" ")
	key, err := base64.RawURLEncoding.DecodeString(name)
	if !ok || err != nil {
		return keys{}, http.StatusUnauthorized
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok = s.sessions.take(string(key), time.Now())
	if !ok {
		return keys{}, http.StatusUnauthorized
	}
	if s.stopping {
		return keys{}, http.StatusServiceUnavailable
	}
	s.wg.Add(1)
	return k, http.StatusOK
}

// ask reads one question and answers it.
func (s *Server) ask(ctx context.Context, body io.Reader, k keys, size int) (Answer, error) {
	if !s.reserve(size) {
		return s.busy(), nil
	}
	defer s.release(size)
	frames := frameReader{
		records: newRecordReader(bufio.NewReaderSize(body, readBuffer), k.toServer), max: min(maxQuestion, max(size, maxRecord)),
	}
	f, err := frames.next()
	if err != nil {
		return Answer{}, fmt.Errorf("reading question: %w", err)
	}
	if f.kind != kindEpoch && f.kind != kindChange {
		return s.unsupported(), nil
	}
	q, left, err := decodeQuestion(f.kind, f.body, f.owned)
	if err != nil {
		return Answer{}, err
	}
	if q.Change != nil && q.Change.Command == nil {
		return s.unsupported(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.wait(left))
	defer cancel()
	stop := context.AfterFunc(s.ctx, cancel)
	defer stop()
	a := s.serve(ctx, &q)
	s.finish(q.Subject(), q.Change != nil, &a)
	return a, nil
}

func (s *Server) busy() Answer { return Answer{Status: statusBusy, Draining: s.draining.Load()} }

func (s *Server) unsupported() Answer {
	return Answer{Status: statusUnsupported, Draining: s.draining.Load()}
}

// wait is how long a question may take whose client has left time.
func (s *Server) wait(left time.Duration) time.Duration {
	if left < 0 {
		return s.cfg.MaxWait
	}
	return min(left, s.cfg.MaxWait)
}
