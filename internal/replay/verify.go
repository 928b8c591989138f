package replay

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"catbird/conversation"
	"catbird/internal/client"
	"catbird/testdata/transcripts"
)

const (
	// page is less than what a log of the recorded groups holds, so that reading
	// takes several pages.
	page = 50
	// maxPages ends the reading of a list that does not end by itself.
	maxPages = 1000
)

// verify reads everything back as each person.
func (g *group) verify(ctx context.Context) error {
	g.progress.say(g.t.Name, "%d people read everything back", len(g.t.People))
	return g.eachPerson(ctx, g.verifyAs)
}

func (g *group) verifyAs(ctx context.Context, p transcripts.Person) []error {
	s := g.h.stays[p.DID]
	c := g.check(p.DID)
	var err error
	if s.active() {
		err = g.verifyMember(ctx, c, s)
	} else {
		err = g.verifyFormer(ctx, c, s)
	}
	if err == nil {
		err = g.verifyWelcome(ctx, c)
	}
	if err == nil {
		err = g.verifyKeyPackages(ctx, c, p)
	}
	if err != nil {
		c.found = append(c.found, fmt.Errorf("as %s: %w", p.DID, err))
	}
	return c.found
}

func (g *group) verifyMember(ctx context.Context, c *checker, s *stay) error {
	if !g.cfg.VerifyOnly { // else it was read before
		if err := g.awaitUnread(ctx, c, s.unread); err != nil {
			return err
		}
	}
	last, err := g.verifyLog(ctx, c, s)
	if err != nil {
		return err
	}
	if err := g.awaitUnread(ctx, c, 0); err != nil {
		return err
	}
	convo, err := g.convo(ctx, c.person)
	if err != nil {
		return err
	}
	c.at("getConvos")
	if convo == nil {
		c.differs("conversations", "without this one", "with it")
		return nil
	}
	g.checkConvo(c, *convo, g.h.epoch, g.h.members())
	var lastMessage time.Time // zero: none
	if convo.LastMessageAt != nil {
		lastMessage = *convo.LastMessageAt
	}
	if !lastMessage.Equal(last) {
		c.differs("lastMessageAt", show(lastMessage), show(last))
	}
	epoch, err := g.as(c.person).GetEpoch(ctx, g.t.GroupID)
	if err != nil {
		return fmt.Errorf("read the epoch: %w", err)
	}
	same(c.at("getEpoch"), "currentEpoch", epoch, g.h.epoch)
	return nil
}

// verifyFormer checks what somebody who left, or never was there, is told: the
// log up to the commit that took them out, and nothing later.
func (g *group) verifyFormer(ctx context.Context, c *checker, s *stay) error {
	_, err := g.as(c.person).GetEpoch(ctx, g.t.GroupID)
	if err := g.refused(c.at("getEpoch"), err, conversation.NotMember); err != nil {
		return err
	}
	convo, err := g.convo(ctx, c.person)
	if err != nil {
		return err
	}
	if convo != nil {
		c.at("getConvos").differs("conversations", "with this one", "without it: not a member any more")
	}
	if s.joined {
		_, err := g.verifyLog(ctx, c, s)
		return err
	}
	_, err = g.as(c.person).GetMessages(ctx, client.GetMessages{ConvoID: g.t.GroupID})
	return g.refused(c.at("getMessages"), err, conversation.NotMember)
}

// refused checks that err is the refusal that is due. Another refusal, or
// none, differs; anything else is an error of the replay.
func (g *group) refused(c *checker, err error, want conversation.Code) error {
	var refusal *client.Error
	switch {
	case err == nil:
		c.differs("answer", "given", string(want))
	case !errors.As(err, &refusal):
		return err
	default:
		same(c, "error", refusal.Name, want)
	}
	return nil
}

// verifyLog reads the log in pages, its newest page, and its commits. It
// returns when the newest application message was received.
func (g *group) verifyLog(ctx context.Context, c *checker, s *stay) (last time.Time, err error) {
	want := g.h.seen(s)
	got, err := g.readLog(ctx, c, s, len(want))
	if err != nil {
		return last, err
	}
	g.checkRows(c, got, want)
	for _, m := range got {
		if m.MessageType == app {
			last = m.CreatedAt
		}
	}
	newest, err := g.as(c.person).GetMessages(ctx, client.GetMessages{ConvoID: g.t.GroupID, Limit: page})
	if err != nil {
		return last, fmt.Errorf("read the newest page: %w", err)
	}
	same(c.at("getMessages, newest page"), "lastSeq", newest.LastSeq, s.lastSeq)
	g.checkRows(c, newest.Messages, want[max(0, len(want)-page):])
	return last, g.verifyCommits(ctx, c, s, commits(want))
}

// readLog reads the log from its beginning: half of the people by seq, half by
// message id. It stops where the service says the log ends, or where it has
// given more than there can be.
func (g *group) readLog(ctx context.Context, c *checker, s *stay, most int) ([]client.Message, error) {
	byID := s.joinedSeq%2 == 1
	var got []client.Message
	in := client.GetMessages{ConvoID: g.t.GroupID, Limit: page, SinceSeq: new(int64)}
	for len(got) <= most {
		p, err := g.as(c.person).GetMessages(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		c.at("getMessages after %d rows", len(got))
		same(c, "lastSeq", p.LastSeq, s.lastSeq)
		if len(p.Messages) > page {
			c.differs("messages", fmt.Sprint(len(p.Messages)), fmt.Sprintf("at most %d, as asked", page))
		}
		got = append(got, p.Messages...)
		if len(p.Messages) == 0 || p.Messages[len(p.Messages)-1].Seq >= p.LastSeq {
			break
		}
		newest := got[len(got)-1]
		if byID {
			in.SinceSeq, in.SinceMessage = nil, newest.ID
		} else {
			in.SinceSeq = &newest.Seq
		}
	}
	return got, nil
}

// checkRows compares rows one by one, up to the first that is not where it
// should be: what follows would only repeat that.
func (g *group) checkRows(c *checker, got []client.Message, want []row) {
	if len(got) != len(want) {
		c.differs("number of messages", fmt.Sprint(len(got)), fmt.Sprint(len(want)))
	}
	ids := make(map[string]bool)
	reading := c.where
	for i := range min(len(got), len(want)) {
		m, w := got[i], want[i]
		c.at("%s, row %d (step %d)", reading, w.seq, w.step)
		if m.Seq != w.seq {
			same(c, "seq", m.Seq, w.seq)
			break
		}
		same(c, "epoch", m.Epoch, w.epoch)
		same(c, "messageType", m.MessageType, w.kind)
		same(c, "sender", m.Sender, w.sender)
		same(c, "convoId", m.ConvoID, g.t.GroupID)
		c.sameBytes("ciphertext", m.Ciphertext, w.bytes)
		if ids[m.ID] || m.ID == "" {
			c.differs("id", show(m.ID), "an id of its own")
		}
		ids[m.ID] = true
		if i > 0 && m.CreatedAt.Before(got[i-1].CreatedAt) {
			c.differs("createdAt", show(m.CreatedAt), "not before the row before it, "+show(got[i-1].CreatedAt))
		}
		if sent, ok := g.sent[w.seq]; ok {
			same(c, "id", m.ID, sent.MessageID)
			if !m.CreatedAt.Equal(sent.ReceivedAt) {
				c.differs("createdAt", show(m.CreatedAt), show(sent.ReceivedAt)+" as it was acknowledged")
			}
		}
	}
	c.at("%s", reading)
}

func (g *group) verifyCommits(ctx context.Context, c *checker, s *stay, want []row) error {
	all, err := g.as(c.person).GetCommits(ctx, g.t.GroupID, 0, nil)
	if err != nil {
		return fmt.Errorf("read the commits: %w", err)
	}
	g.checkCommits(c.at("getCommits"), all, want)
	if len(want) > 2 { // a part of them, both ends included
		from, to := want[1].epoch, want[len(want)-2].epoch
		part, err := g.as(c.person).GetCommits(ctx, g.t.GroupID, from, &to)
		if err != nil {
			return fmt.Errorf("read some of the commits: %w", err)
		}
		g.checkCommits(c.at("getCommits from %d to %d", from, to), part, want[1:len(want)-1])
	}
	none, err := g.as(c.person).GetCommits(ctx, g.t.GroupID, s.lastEpoch+1, nil)
	if err != nil {
		return fmt.Errorf("read commits past the last: %w", err)
	}
	g.checkCommits(c.at("getCommits past the last epoch"), none, nil)
	return nil
}

func (g *group) checkCommits(c *checker, got client.Commits, want []row) {
	same(c, "convoId", got.ConvoID, g.t.GroupID)
	if len(got.Commits) != len(want) {
		c.differs("number of commits", fmt.Sprint(len(got.Commits)), fmt.Sprint(len(want)))
	}
	reading := c.where
	for i := range min(len(got.Commits), len(want)) {
		m, w := got.Commits[i], want[i]
		c.at("%s, epoch %d (step %d)", reading, w.epoch, w.step)
		if m.Epoch != w.epoch {
			same(c, "epoch", m.Epoch, w.epoch)
			break
		}
		same(c, "seq", m.Seq, w.seq)
		same(c, "sender", m.Sender, w.sender)
		c.sameBytes("commitData", m.CommitData, w.bytes)
	}
	c.at("%s", reading)
}

// verifyWelcome checks that nothing is left to join by: who was added has
// confirmed the welcome, who was not never had one.
func (g *group) verifyWelcome(ctx context.Context, c *checker) error {
	_, err := g.as(c.person).GetWelcome(ctx, g.t.GroupID)
	want := conversation.WelcomeNotFound
	if !g.h.stays[c.person].active() && client.NameOf(err) == conversation.NotMember {
		want = conversation.NotMember // who has left has nothing to join
	}
	return g.refused(c.at("getWelcome"), err, want)
}

// verifyKeyPackages checks that exactly those that were not used are left, in
// the order they were published in.
func (g *group) verifyKeyPackages(ctx context.Context, c *checker, p transcripts.Person) error {
	got, err := g.as(c.person).GetKeyPackages(ctx, []string{p.DID}, g.t.CipherSuite)
	if err != nil {
		return fmt.Errorf("read key packages: %w", err)
	}
	c.at("getKeyPackages")
	var want []transcripts.KeyPackage
	for _, k := range p.KeyPackages {
		if !g.h.used[k.SHA256] {
			want = append(want, k)
		}
	}
	if len(got.KeyPackages) != len(want) {
		c.differs("number of key packages left", fmt.Sprint(len(got.KeyPackages)), fmt.Sprint(len(want)))
	}
	for i := range min(len(got.KeyPackages), len(want)) {
		k := got.KeyPackages[i]
		field := fmt.Sprintf("key package %d", i)
		same(c, field+": did", k.DID, p.DID)
		same(c, field+": keyPackageHash", k.Hash, want[i].SHA256)
		same(c, field+": cipherSuite", k.CipherSuite, g.t.CipherSuite)
		c.sameBytes(field, k.KeyPackage, want[i].Data)
		if _, err := hex.DecodeString(k.Hash); err != nil {
			c.differs(field+": keyPackageHash", show(k.Hash), "hexadecimal")
		}
	}
	missing := []string{}
	if len(want) == 0 {
		missing = append(missing, p.DID)
	}
	c.sameSet("missing", got.Missing, missing)
	return nil
}

// awaitUnread waits until the caller's unread count is want. One that is lower
// may be late, as may be the reset to 0; one that is higher is wrong at once.
func (g *group) awaitUnread(ctx context.Context, c *checker, want int64) error {
	c.at("getConvos")
	deadline := time.Now().Add(g.cfg.Settle)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		convo, err := g.convo(ctx, c.person)
		if err != nil {
			return err
		}
		if convo == nil {
			c.differs("conversations", "without this one", "with it")
			return nil
		}
		got := convo.UnreadCount
		if got == want {
			return nil
		}
		if time.Now().After(deadline) || (want > 0 && got > want) {
			same(c, "unreadCount", got, want)
			return nil
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// convo returns the conversation as it is in the caller's list, nil if it is
// not there.
func (g *group) convo(ctx context.Context, did string) (*client.Convo, error) {
	cursor := ""
	for range maxPages {
		p, err := g.as(did).GetConvos(ctx, page, cursor)
		if err != nil {
			return nil, fmt.Errorf("read the conversations: %w", err)
		}
		for i := range p.Conversations {
			if p.Conversations[i].ID == g.t.GroupID {
				return &p.Conversations[i], nil
			}
		}
		if p.Cursor == "" {
			return nil, nil
		}
		cursor = p.Cursor
	}
	return nil, fmt.Errorf("the list of conversations does not end within %d pages", maxPages)
}
