package load

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"
	"time"

	"catbird/internal/client"
)

const (
	pageSize = 100
	// readersAtOnce is how many conversations are read back at the same time in
	// the end, auditorsAtOnce while the load runs.
	readersAtOnce  = 8
	auditorsAtOnce = 2
	auditEvery     = time.Second
	// What waits to be read back is held to about backlogGoal changes in all, at
	// backlogLimit the run ends: the books would outgrow the memory.
	backlogGoal  = 1 << 17
	backlogLimit = 1 << 21

	commitRow = "commit" // messageType
)

// scan is how far a log was read, from its first row on.
type scan struct {
	seq, epoch        int64
	messages, commits int64
	chain             hash.Hash // over all rows; nil: none yet
}

// advance goes on to row m.
func (s *scan) advance(m *client.Message) {
	s.seq = max(s.seq, m.Seq)
	if m.MessageType == commitRow {
		s.commits++
		s.epoch = max(s.epoch, m.Epoch)
	} else {
		s.messages++
	}
	if s.chain == nil {
		s.chain = sha256.New()
	}
	// Writing to a hash never fails.
	fmt.Fprintf(s.chain, "%d %d %q %q %q %d ", m.Seq, m.Epoch, m.MessageType, m.ID, m.Sender, m.CreatedAt.UnixNano())
	_ = binary.Write(s.chain, binary.BigEndian, uint64(len(m.Ciphertext)))
	s.chain.Write(m.Ciphertext)
}

// equal reports whether two scans saw the same rows.
func (s *scan) equal(o *scan) bool {
	if s.chain == nil || o.chain == nil {
		return s.chain == nil && o.chain == nil
	}
	return bytes.Equal(s.chain.Sum(nil), o.chain.Sum(nil))
}

// verifier reads logs back and holds them against the books. Its methods may be
// called by several goroutines at once; one conversation is read by one of them
// at a time.
type verifier struct {
	client   *client.Client
	payloads *payloads
	done     atomic.Int64 // conversations read to their end
}

// pages calls row with each row of c's log after since, up to the newest at the
// time of the last page.
func (v *verifier) pages(ctx context.Context, c *convo, since int64, row func(*client.Message)) error {
	for {
		before := c.books.mark()
		page, err := v.client.As(c.creator()).GetMessages(ctx, client.GetMessages{ConvoID: c.id, Limit: pageSize, SinceSeq: &since})
		if err != nil {
			return err
		}
		c.books.read(GetMessages, before, mark{seq: page.LastSeq, epoch: before.epoch})
		last := since
		for i := range page.Messages {
			row(&page.Messages[i])
			since = max(since, page.Messages[i].Seq)
		}
		if since >= page.LastSeq || since == last {
			return nil
		}
	}
}

// catchUp reads what is new in c's log.
func (v *verifier) catchUp(ctx context.Context, c *convo) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	return v.pages(ctx, c, c.scan.seq, func(m *client.Message) { v.row(c, &c.scan, m) })
}

// finish reads c's whole log, from its first row, when nobody changes it any
// more. What catchUp saw must read the same again.
func (v *verifier) finish(ctx context.Context, c *convo) (scan, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	before := c.books.mark()
	epoch, err := v.client.As(c.creator()).GetEpoch(ctx, c.id)
	if err != nil {
		return scan{}, err
	}
	c.books.read(GetEpoch, before, mark{epoch: epoch, seq: before.seq})

	var now scan
	err = v.pages(ctx, c, 0, func(m *client.Message) {
		if now.seq >= c.scan.seq {
			v.row(c, &now, m)
			return
		}
		now.advance(m)
		if now.seq >= c.scan.seq && !now.equal(&c.scan) {
			c.books.report(Rewritten, "the log up to seq %d is not what it was when it was read before", c.scan.seq)
		}
	})
	if err != nil {
		return now, err
	}
	if now.seq < c.scan.seq {
		c.books.report(Rewritten, "the log ends at seq %d, and had been read up to %d before", now.seq, c.scan.seq)
	}
	told := c.books.mark()
	if told.seq > now.seq {
		c.books.report(Lost, "seq %d had been told, and the log ends at seq %d", told.seq, now.seq)
	}
	if told.epoch > now.epoch {
		c.books.report(WrongEpoch, "epoch %d had been told, and the log ends at epoch %d", told.epoch, now.epoch)
	}
	return now, nil
}

// row checks the row m, which follows what s has seen.
func (v *verifier) row(c *convo, s *scan, m *client.Message) {
	if m.Seq != s.seq+1 {
		c.books.report(Gap, "seq %d follows seq %d", m.Seq, s.seq)
	}
	want := s.epoch
	if m.MessageType == commitRow {
		want++
	}
	if m.Epoch != want {
		c.books.report(WrongEpoch, "the row at seq %d (%q) has epoch %d, and %d was next", m.Seq, m.MessageType, m.Epoch, want)
	}
	s.advance(m)

	id, ok := v.payloads.identify(m.Ciphertext)
	switch {
	case !ok:
		c.books.report(Foreign, "the row at seq %d holds nothing that this run has sent", m.Seq)
		return
	case id.convo != c.index || m.ConvoID != c.id:
		c.books.report(Misplaced, "the row at seq %d belongs to another conversation", m.Seq)
		return
	}
	e, known := c.books.peek(id.serial)
	if !known {
		c.books.report(Foreign, "the row at seq %d holds change %d, which was not made", m.Seq, id.serial)
		return
	}
	if e.what != "" && !v.same(c, id, &e, m) {
		c.books.report(Altered, "the row at seq %d (%q by %q) is not what was sent as change %d (%s by %s)",
			m.Seq, m.MessageType, m.Sender, id.serial, e.what, e.by)
	}
	c.books.see(id.serial, receipt{id: m.ID, seq: m.Seq, epoch: m.Epoch})
}

// same reports whether m has the kind, sender and bytes of the change e.
func (v *verifier) same(c *convo, id identity, e *entry, m *client.Message) bool {
	if m.Sender != e.by || (m.MessageType == commitRow) != (e.what != SendMessage) {
		return false
	}
	if e.what == SendMessage {
		return bytes.Equal(m.Ciphertext, v.payloads.message(c.group, id, e.built))
	}
	return bytes.Equal(m.Ciphertext, v.payloads.commit(c.group, id, e.built))
}

// Verification is what reading back has shown.
type Verification struct {
	// Complete says that every conversation was read to its end. If it is false,
	// Error says why not, and nothing is known of the rest.
	Complete      bool   `json:"complete"`
	Error         string `json:"error,omitempty"`
	Conversations int    `json:"conversations"` // read to their end
	Messages      int64  `json:"messages"`      // found in their logs
	Commits       int64  `json:"commits"`
	// Changes whose outcome clients were left in doubt about, by whether they
	// were found.
	UncertainStored  int64 `json:"uncertainStored"`
	UncertainMissing int64 `json:"uncertainMissing"`

	Counts   map[Kind]int64 `json:"counts"`   // of what is wrong
	Findings []Finding      `json:"findings"` // the first ones, at most 200
	Seconds  float64        `json:"seconds"`
}

// OK reports whether everything was read back and found right.
func (v *Verification) OK() bool { return v.Complete && len(v.Counts) == 0 }

// all reads all conversations back.
func (v *verifier) all(ctx context.Context, convos []*convo) (out Verification) {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		next int
		fail error
	)
	take := func() *convo {
		mu.Lock()
		defer mu.Unlock()
		if next == len(convos) || fail != nil {
			return nil
		}
		next++
		return convos[next-1]
	}
	for range min(readersAtOnce, len(convos)) {
		wg.Go(func() {
			for c := take(); c != nil; c = take() {
				s, err := v.finish(ctx, c)
				stored, missing := int64(0), int64(0)
				if err == nil {
					stored, missing = c.books.close()
				}
				mu.Lock()
				if err != nil {
					fail = fmt.Errorf("read back conversation %s: %w", c.id, err)
				} else {
					out.Conversations++
					v.done.Add(1)
				}
				out.Messages += s.messages
				out.Commits += s.commits
				out.UncertainStored += stored
				out.UncertainMissing += missing
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if out.Complete = fail == nil; fail != nil {
		out.Error = fail.Error()
	}
	return out
}
