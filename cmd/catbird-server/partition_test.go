package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/internal/client"
)

// slack is what a busy machine may add to what is promised.
const slack = 3 * time.Second

// wanted is how long it may take until a node that no network leads to has let
// go of what it holds: to lose contact, to find that it lasts, to see the node
// renew its session, and for that node to look what others want.
const wanted = 1500*time.Millisecond + 2500*time.Millisecond + leaseTTL/3 + time.Second

// trouble is something that goes wrong for longer than the lease, and then is
// over, while clients go on at every node.
type trouble struct {
	name       string
	begin, end func() error
	// blind are the nodes that do not reach PostgreSQL meanwhile: they say so. All
	// others serve everything, but for the takeover.
	blind []*site
	mute  bool // the blind say nothing at all
	// within is how long those who ask the others may go without an answer.
	within time.Duration
}

// One node of three is cut off from the other nodes, from Redis, from PostgreSQL,
// and from any two of them.
func TestNodeCutOff(t *testing.T) {
	f := startParted(t)
	for i, c := range []cut{
		{nodes: true},
		{redis: refused},
		{redis: silent},
		{database: refused},
		{database: silent},
		{nodes: true, redis: silent},
		{nodes: true, database: silent},
		{redis: refused, database: refused},
	} {
		victim := f.sites[i%len(f.sites)]
		w := trouble{name: c.String()}
		w.begin = func() error { return f.apply(victim, c) }
		w.end = func() error { return f.heal(victim) }
		if c.database != open {
			w.blind = []*site{victim}
		}
		switch {
		case c.database != open: // its session ends, and others take over
			w.within = leaseTTL + time.Second
		case c.nodes: // it is asked in the database
			w.within = wanted
		default:
			w.within = leaseTTL
		}
		w.run(t, f, c.nodes)
	}
}

// A node is frozen for longer than the lease, with everything in its memory, and
// then goes on as if nothing had happened.
func TestNodeFrozen(t *testing.T) {
	f := startParted(t)
	s := f.sites[1]
	trouble{
		name: "frozen", within: leaseTTL + time.Second, blind: []*site{s}, mute: true,
		begin: func() error { return s.node.cmd.Process.Signal(syscall.SIGSTOP) },
		end:   func() error { return s.node.cmd.Process.Signal(syscall.SIGCONT) },
	}.run(t, f, false)
}

// Redis is out of reach for all, or forgets everything: it only helps to find
// who serves what.
func TestRedisGone(t *testing.T) {
	f := startParted(t)
	for _, w := range []trouble{
		{name: "frozen", begin: f.redis.Freeze, end: f.redis.Thaw},
		{name: "killed", begin: func() error { f.redis.Kill(); return nil }, end: f.redis.Start},
		{name: "flushed", begin: f.flush, end: f.flush},
	} {
		w.within = leaseTTL
		w.run(t, f, false)
	}
}

// PostgreSQL is out of reach for all: without it nobody is told anything.
func TestPostgresGone(t *testing.T) {
	f := startParted(t)
	for _, how := range []way{refused, silent} {
		trouble{
			name: string(how), blind: f.sites,
			begin: func() error {
				return errors.Join(f.eachSite(func(s *site) error { return f.apply(s, cut{database: how}) })...)
			},
			end: func() error { return errors.Join(f.eachSite(f.heal)...) },
		}.run(t, f, false)
	}
}

func (w trouble) run(t *testing.T, f *parted, cutsNodes bool) {
	if t.Failed() {
		return // what follows would fail for the same reason
	}
	t.Run(w.name, func(t *testing.T) {
		if cutsNodes && f.network == nil {
			t.Skip("nodes cannot be cut off from each other on this machine")
		}
		f.t = t
		w.watched(f, startWatch(t, f, f.topics()))
	})
}

func (w trouble) watched(f *parted, all *watch) {
	t := f.t
	all.await("every line to work", time.Now(), all.lines)
	all.hush()
	f.checkMemory(f.sites...)

	began := time.Now()
	if err := w.begin(); err != nil {
		t.Fatal(err)
	}
	long := leaseTTL * 3 / 2
	if len(w.blind) > 0 {
		long = leaseTTL * 2 // what is refused after the lease is looked at
	}
	over := time.After(long)
	loud := time.AfterFunc(leaseTTL, func() { all.quiet.Store(false) })
	defer loud.Stop()
	seeing := f.without(w.blind)
	served := all.of(func(l *line) bool { return !among(l.site, w.blind) })
	all.await("everything to be served meanwhile", began.Add(leaseTTL/2), served)
	f.checkMemory(seeing...)
	<-over
	all.await("everything to be served meanwhile", time.Now(), served)
	f.checkMemory(seeing...)
	w.checkServed(t, f, served, began)
	for _, s := range w.blind {
		if w.mute {
			continue
		}
		checkRefusals(t, f, s, all.of(func(l *line) bool { return l.site == s }), began.Add(leaseTTL))
	}

	ended := time.Now()
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	f.awaitAgreement()
	all.await("everything to be served again", time.Now(), all.lines)
	t.Logf("over within %v", time.Since(ended))
	all.stopAll()
	all.ledger.Only(t, conversation.Unavailable, conversation.OutcomeUnknown)
	calm(t, all)
	all.ledger.Verify(t, f.sites[0].client, all.groups()...)
	checkUnread(t, f.sites[1].client, all.topics)
	f.checkMemory(f.sites...)
	f.checkIntegrity()
}

// checkServed checks what clients of nodes that see PostgreSQL get.
func (w trouble) checkServed(t *testing.T, f *parted, served []*line, began time.Time) {
	t.Helper()
	if len(served) == 0 {
		return
	}
	var gaps []string
	for _, s := range f.without(w.blind) {
		lines := of(served, func(l *line) bool { return l.site == s })
		gaps = append(gaps, fmt.Sprintf("%s %v", s.name, longest(lines, began).Round(time.Millisecond)))
		if !f.ready(s) {
			t.Errorf("%s is not ready", s.name)
		}
	}
	t.Logf("longest without an answer: %v; refusals: %v", gaps, failures(served, began))
	if took := longest(served, began); took > w.within+slack {
		t.Errorf("the longest time without an answer is %v, want at most %v and %v for a busy machine", took, w.within, slack)
	}
}

// checkRefusals checks what clients of a node without its database hear: no,
// soon, and when to come back; and that load balancers are told.
func checkRefusals(t *testing.T, f *parted, s *site, lines []*line, from time.Time) {
	t.Helper()
	if f.ready(s) {
		t.Errorf("%s says that it is ready", s.name)
	}
	var took []time.Duration
	for _, l := range lines {
		for _, a := range l.refusals(from, time.Now()) {
			took = append(took, a.end.Sub(a.begin))
			var e *client.Error
			if errors.As(a.err, &e) && e.Name == conversation.Unavailable && (e.Status != http.StatusServiceUnavailable || e.RetryAfter <= 0) {
				t.Errorf("refused with %v, Retry-After %v", e, e.RetryAfter)
			}
		}
	}
	if len(took) == 0 {
		t.Errorf("nobody was refused anything at %s", s.name)
	}
	if m := median(took); m > time.Second {
		t.Errorf("half of the refusals at %s took more than %v", s.name, m)
	}
	t.Logf("%d refusals at %s after the lease: half within %v, all within %v", len(took), s.name, median(took), longestOf(took))
	for _, l := range lines {
		if d := l.waits(); d > hanging {
			t.Errorf("waiting for an answer for %v: %v", d, l)
		}
	}
}

// hanging is longer than anything at a node without its database may take.
const hanging = 8 * time.Second

// calm checks that everything works at every node, at the first attempt.
func calm(t *testing.T, all *watch) {
	t.Helper()
	for _, l := range all.of(func(l *line) bool { return l.what != logs }) {
		one := all.write
		if l.what == reads {
			one = all.readEpoch
		}
		if err := one(t.Context(), l); err != nil {
			t.Errorf("%s of %s at %s when all is over: %v", l.what, l.topic.ID, l.site.name, err)
		}
	}
}

// flush makes Redis forget everything.
func (f *parted) flush() error {
	u, err := url.Parse(f.redis.URL())
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer := make([]byte, 3)
	if _, err := fmt.Fprint(conn, "FLUSHALL\r\n"); err != nil {
		return err
	}
	if _, err := conn.Read(answer); err != nil || string(answer) != "+OK" {
		return fmt.Errorf("FLUSHALL: answered %q, %w", answer, err)
	}
	return nil
}
