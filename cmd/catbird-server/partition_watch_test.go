package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/internal/app/apptest"
	"catbird/internal/client"
)

// watch is traffic on some conversations, at every node for each of them: one
// writer and two readers, which go on whatever they hear. It fails the test if
// anybody hears of a past that he, or anybody else, is beyond.
type watch struct {
	t      *testing.T
	ledger *apptest.Ledger
	topics []*topic
	quiet  atomic.Bool // nobody writes to the rare ones
	lines  []*line
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// told is how far a conversation has come, as somebody was told.
type told struct{ epoch, seq atomic.Int64 }

// raise makes at least n of v.
func raise(v *atomic.Int64, n int64) {
	for old := v.Load(); old < n && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

// line is one client of one node that asks for one thing of one conversation
// again and again.
type line struct {
	site  *site
	topic *topic
	what  what

	wrong    sync.Once // it was told of a past, which fails the test
	mu       sync.Mutex
	attempts []attempt
	asking   time.Time // since when, zero: it pauses
}

type what string

const (
	writes what = "write"
	reads  what = "read" // of the epoch
	logs   what = "log"  // getMessages
)

type attempt struct {
	begin, end time.Time
	err        error
}

const linePause = 120 * time.Millisecond

// startWatch begins; it ends with stopAll or the test.
func startWatch(t *testing.T, f *parted, topics []*topic) *watch {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w := &watch{t: t, ledger: apptest.NewLedger(), topics: topics, stop: cancel}
	t.Cleanup(w.stopAll)
	for _, c := range topics {
		for _, s := range f.sites {
			if !c.rare || s.name != c.owner {
				w.begin(ctx, &line{site: s, topic: c, what: writes}, w.write)
			}
			w.begin(ctx, &line{site: s, topic: c, what: reads}, w.readEpoch)
			w.begin(ctx, &line{site: s, topic: c, what: logs}, w.readLog)
		}
	}
	return w
}

func (w *watch) begin(ctx context.Context, l *line, one func(context.Context, *line) error) {
	w.lines = append(w.lines, l)
	w.wg.Go(func() {
		for ; ctx.Err() == nil; pause(ctx) {
			if l.rareWriter() && w.quiet.Load() {
				continue
			}
			// What was begun gets its answer.
			ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*requestTimeout)
			a := l.ask(func() error { return one(ask, l) })
			cancel()
			l.mu.Lock()
			l.attempts, l.asking = append(l.attempts, a), time.Time{}
			l.mu.Unlock()
		}
	})
}

func pause(ctx context.Context) {
	select {
	case <-time.After(linePause/2 + rand.N(linePause)):
	case <-ctx.Done():
	}
}

func (l *line) rareWriter() bool { return l.topic.rare && l.what == writes }

// hush lets nobody write to the rare ones any more, and returns when all that
// was begun is done.
func (w *watch) hush() {
	w.t.Helper()
	w.quiet.Store(true)
	since := time.Now()
	apptest.Await(w.t, "the rare writers to fall silent", func() bool {
		for _, l := range w.of((*line).rareWriter) {
			if l.waits() > 0 || time.Since(since) < 2*linePause {
				return false
			}
		}
		return true
	})
}

func (l *line) ask(one func() error) attempt {
	a := attempt{begin: time.Now()}
	l.mu.Lock()
	l.asking = a.begin
	l.mu.Unlock()
	a.err = one()
	a.end = time.Now()
	return a
}

// waits returns how long the line has waited for an answer that has not come.
func (l *line) waits() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asking.IsZero() {
		return 0
	}
	return time.Since(l.asking)
}

// stopAll asks for nothing more and waits for what is due.
func (w *watch) stopAll() {
	w.stop()
	w.wg.Wait()
}

func (w *watch) write(ctx context.Context, l *line) error {
	g, at := l.topic.Group, &l.topic.told
	epoch, seq := at.epoch.Load(), at.seq.Load()
	did := g.Members[rand.N(len(g.Members))]
	if rand.N(8) == 0 {
		out, err := w.ledger.Commit(ctx, l.site.client, g, did)
		if err == nil {
			w.notBefore(l, "a commit's epoch", out.NewEpoch, epoch+1)
			raise(&at.epoch, out.NewEpoch)
		}
		return err
	}
	out, err := w.ledger.Send(ctx, l.site.client, g, did, epoch)
	var behind *client.Error
	switch {
	case err == nil:
		w.notBefore(l, "a message's seq", out.Seq, seq+1)
		raise(&at.seq, out.Seq)
	case errors.As(err, &behind) && behind.Name == conversation.EpochMismatch:
		w.notBefore(l, "EpochMismatch: the epoch", behind.CurrentEpoch, epoch+1)
		raise(&at.epoch, behind.CurrentEpoch)
		return nil // an answer like another
	}
	return err
}

func (w *watch) readEpoch(ctx context.Context, l *line) error {
	at := &l.topic.told
	floor := at.epoch.Load()
	epoch, err := l.site.client.As(l.topic.Members[1]).GetEpoch(ctx, l.topic.ID)
	if err == nil {
		w.notBefore(l, "getEpoch", epoch, floor)
		raise(&at.epoch, epoch)
	}
	return err
}

func (w *watch) readLog(ctx context.Context, l *line) error {
	at := &l.topic.told
	floor := at.seq.Load()
	page, err := l.site.client.As(l.topic.Members[2]).GetMessages(ctx, client.GetMessages{ConvoID: l.topic.ID, Limit: 5})
	if err == nil {
		w.notBefore(l, "getMessages: lastSeq", page.LastSeq, floor)
		raise(&at.seq, page.LastSeq)
	}
	return err
}

func (w *watch) notBefore(l *line, what string, got, floor int64) {
	if got < floor {
		l.wrong.Do(func() {
			w.t.Errorf("node %s, conversation %s: %s is %d, when %d was known", l.site.name, l.topic.ID, what, got, floor)
		})
	}
}

// worksSince reports whether a request that began after since was answered.
func (l *line) worksSince(since time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.attempts) - 1; i >= 0 && l.attempts[i].begin.After(since); i-- {
		if l.attempts[i].err == nil {
			return true
		}
	}
	return false
}

// await waits until all of lines are answered that began after since.
func (w *watch) await(what string, since time.Time, lines []*line) {
	w.t.Helper()
	slow := ""
	defer func() {
		if w.t.Failed() && slow != "" {
			w.t.Logf("not answered: %s", slow)
		}
	}()
	apptest.Await(w.t, what, func() bool {
		for _, l := range lines {
			if !l.worksSince(since) {
				slow = l.String()
				return false
			}
		}
		slow = ""
		return true
	})
}

// String tells the line's end.
func (l *line) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s at %s:", l.what, l.topic.ID, l.site.name)
	for _, a := range l.attempts[max(0, len(l.attempts)-5):] {
		fmt.Fprintf(&b, " [%v ago, %v: %v]", time.Since(a.begin).Round(time.Millisecond), a.end.Sub(a.begin).Round(time.Millisecond), a.err)
	}
	return b.String()
}

// gap is the longest time between two answers, the later of which came after
// since: how long the line got nothing.
func (l *line) gap(since time.Time) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var last time.Time
	for _, a := range l.attempts {
		if a.err != nil {
			continue
		}
		if !last.IsZero() && a.end.After(since) {
			longest = max(longest, a.end.Sub(last))
		}
		last = a.end
	}
	return longest
}

// refusals returns the attempts between two times that failed.
func (l *line) refusals(from, until time.Time) (out []attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.attempts {
		if a.err != nil && a.begin.After(from) && a.begin.Before(until) {
			out = append(out, a)
		}
	}
	return out
}

// of returns the lines that which names.
func (w *watch) of(which func(*line) bool) []*line { return of(w.lines, which) }

func (w *watch) groups() (out []*apptest.Group) {
	for _, c := range w.topics {
		out = append(out, c.Group)
	}
	return out
}

func of(lines []*line, which func(*line) bool) (out []*line) {
	for _, l := range lines {
		if which(l) {
			out = append(out, l)
		}
	}
	return out
}

// longest returns the longest gap of lines since, but for those that had nothing
// to ask.
func longest(lines []*line, since time.Time) (out time.Duration) {
	for _, l := range lines {
		if l.rareWriter() {
			continue
		}
		out = max(out, l.gap(since))
	}
	return out
}

// failures counts what lines heard since, by what it was.
func failures(lines []*line, since time.Time) map[string]int {
	out := map[string]int{}
	for _, l := range lines {
		for _, a := range l.refusals(since, time.Now()) {
			name := string(client.NameOf(a.err))
			if client.OutcomeUnknown(a.err) {
				name = string(conversation.OutcomeUnknown)
			}
			if name == "" {
				name = a.err.Error()
			}
			out[name]++
		}
	}
	return out
}

// checkUnread waits until the unread counts of those who never read are those of
// the log, and fails the test if they do not become that.
func checkUnread(t *testing.T, c *client.Client, groups []*topic) {
	t.Helper()
	for _, g := range groups {
		log := apptest.ReadLog(t, c, g.ID, g.Members[0])
		for _, did := range []string{g.Members[1], g.Members[3]} {
			want := int64(0)
			for _, m := range log {
				if m.MessageType == "app" && m.Sender != did {
					want++
				}
			}
			apptest.Await(t, fmt.Sprintf("%s to have %d unread in %s", did, want, g.ID), func() bool {
				got := apptest.Unread(t, c, g.ID, did)
				if got > want {
					t.Fatalf("%s has %d unread in %s, want %d", did, got, g.ID, want)
				}
				return got == want
			})
		}
	}
}

// median sorts durations and returns the middle one, 0 of none.
func median(ds []time.Duration) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// longestOf returns the longest of durations, 0 of none.
func longestOf(ds []time.Duration) (out time.Duration) {
	for _, d := range ds {
		out = max(out, d)
	}
	return out
}
