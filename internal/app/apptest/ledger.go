package apptest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"

	"catbird/conversation"
	"catbird/internal/client"
)

// Ledger keeps what nodes said about the changes that a test asked for. It is
// safe for use by several goroutines at once.
type Ledger struct {
	mu      sync.Mutex
	sent    map[string]*entry // by the message's text
	commits map[string]*entry // by the commit's text
	names   map[conversation.Code]int
	strange []error
	last    error // the last that was no success
}

type outcome int

const (
	unknown outcome = iota
	acknowledged
	refused
)

type entry struct {
	convo   string
	outcome outcome
	id      string
	seq     int64
	epoch   int64
}

// NewLedger returns an empty one.
func NewLedger() *Ledger {
	return &Ledger{sent: map[string]*entry{}, commits: map[string]*entry{}, names: map[conversation.Code]int{}}
}

// Send sends a message that is like no other, built on epoch, and notes what
// became of it.
func (l *Ledger) Send(ctx context.Context, c *client.Client, g *Group, did string, epoch int64) (client.Sent, error) {
	return l.SendText(ctx, c, g, did, epoch, rand.Text())
}

// SendText is Send of a text that the test knows, and sends once.
func (l *Ledger) SendText(ctx context.Context, c *client.Client, g *Group, did string, epoch int64, text string) (client.Sent, error) {
	e := &entry{convo: g.ID}
	l.put(l.sent, text, e)
	out, err := c.As(did).SendMessage(ctx, client.SendMessage{
		ConvoID: g.ID, Ciphertext: client.Bytes(text), Epoch: epoch, IdempotencyKey: rand.Text(),
	})
	l.note(e, err, func() { e.id, e.seq, e.epoch = out.MessageID, out.Seq, out.Epoch })
	return out, err
}

// Commit makes a commit that is like no other, put in line with the others, and
// notes what became of it.
func (l *Ledger) Commit(ctx context.Context, c *client.Client, g *Group, did string) (client.Changed, error) {
	text := rand.Text()
	e := &entry{convo: g.ID}
	l.put(l.commits, text, e)
	out, err := c.As(did).Commit(ctx, client.MakeCommit{ConvoID: g.ID, Commit: []byte(text), IdempotencyKey: text})
	l.note(e, err, func() { e.epoch = out.NewEpoch })
	return out, err
}

// Add adds a member with a commit that is like no other.
func (l *Ledger) Add(ctx context.Context, c *client.Client, g *Group, by, did string) (client.Changed, error) {
	text := rand.Text()
	e := &entry{convo: g.ID}
	l.put(l.commits, text, e)
	out, err := c.As(by).AddMembers(ctx, client.AddMembers{ConvoID: g.ID, DIDs: []string{did}, Commit: []byte(text), IdempotencyKey: text})
	l.note(e, err, func() { e.epoch = out.NewEpoch })
	return out, err
}

func (l *Ledger) put(where map[string]*entry, text string, e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	where[text] = e
}

func (l *Ledger) note(e *entry, err error, success func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		e.outcome = acknowledged
		success()
		l.names[""]++
		return
	}
	l.last = err
	var refusal *client.Error
	var broken *client.ConnectionError
	switch {
	case client.OutcomeUnknown(err):
		l.names[conversation.OutcomeUnknown]++
	case errors.As(err, &refusal) && refusal.Name != "":
		e.outcome = refused
		l.names[refusal.Name]++
		if refusal.Name == conversation.InternalServerError {
			l.strange = append(l.strange, err)
		}
	case errors.As(err, &broken):
		e.outcome = refused
		l.names["unreachable"]++
	default:
		l.strange = append(l.strange, err)
	}
}

// Acknowledged returns how many changes were acknowledged.
func (l *Ledger) Acknowledged() int { return l.Count("") }

// Count returns how many changes were answered with the error name; ""
// means success, "unreachable" that nobody was there, OutcomeUnknown that no
// answer came.
func (l *Ledger) Count(name conversation.Code) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.names[name]
}

// Only fails the test if changes were answered with errors other than names, and
// EpochMismatch, which is for those who are late.
func (l *Ledger) Only(t testing.TB, names ...conversation.Code) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, n := range l.names {
		allowed := name == "" || name == conversation.EpochMismatch
		for _, other := range names {
			allowed = allowed || name == other
		}
		if !allowed {
			t.Errorf("%d changes were answered with %q, for example: %v", n, name, l.last)
		}
	}
}

// Verify holds the logs of groups against the books, read through c: numbered
// from 1 without gap, one commit an epoch from 1 on, everything acknowledged
// there once and where the node said, nothing refused.
func (l *Ledger) Verify(t testing.TB, c *client.Client, groups ...*Group) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.strange {
		t.Errorf("a change was answered with %v", err)
	}
	seen := map[string]client.Message{}
	for _, g := range groups {
		log := ReadLog(t, c, g.ID, g.Members[0])
		checkLog(t, g.ID, log)
		for _, m := range log {
			text := string(m.Ciphertext)
			if old, twice := seen[text]; twice && text != "" {
				t.Errorf("%q is stored twice: in %s at %d and in %s at %d", text, old.ConvoID, old.Seq, m.ConvoID, m.Seq)
			}
			seen[text] = m
		}
	}
	for text, e := range l.sent {
		checkEntry(t, "message", text, e, seen)
	}
	for text, e := range l.commits {
		checkEntry(t, "commit", text, e, seen)
	}
}

func checkEntry(t testing.TB, what, text string, e *entry, seen map[string]client.Message) {
	t.Helper()
	m, stored := seen[text]
	switch {
	case e.outcome == acknowledged && !stored:
		t.Errorf("acknowledged %s %s of %s (seq %d, epoch %d) is lost", what, text, e.convo, e.seq, e.epoch)
	case e.outcome == refused && stored:
		t.Errorf("refused %s %s of %s is stored at seq %d", what, text, e.convo, m.Seq)
	case e.outcome != acknowledged:
	case m.ConvoID != e.convo || m.Epoch != e.epoch || (e.seq != 0 && m.Seq != e.seq) || (e.id != "" && m.ID != e.id):
		t.Errorf("%s %s was acknowledged as %+v and is stored as %s seq %d epoch %d id %s",
			what, text, *e, m.ConvoID, m.Seq, m.Epoch, m.ID)
	}
}

// checkLog checks the order of one log, from its first row on.
func checkLog(t testing.TB, convo string, log []client.Message) {
	t.Helper()
	epoch := int64(0)
	for i, m := range log {
		if m.Seq != int64(i+1) {
			t.Errorf("%s: row %d of the log has seq %d", convo, i+1, m.Seq)
			return
		}
		if m.MessageType == "commit" {
			epoch++
		}
		if m.Epoch != epoch {
			t.Errorf("%s: row %d (%s) has epoch %d, want %d", convo, i+1, m.MessageType, m.Epoch, epoch)
			return
		}
	}
}

// String sums up what was answered.
func (l *Ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.names)
}
