package load

import (
	"context"
	"math/rand/v2"

	"catbird/internal/client"
)

const (
	readLimit = 50
	// commitsBack is from how far behind the epoch getCommits is asked at most.
	commitsBack = 20
)

func (e *Engine) doGetEpoch(ctx context.Context, rng *rand.Rand, c *convo, o *Operation) {
	m := c.borrow(rng)
	defer c.giveBack(m)
	o.DID = m.did
	before := c.books.mark()
	epoch, err := e.client.As(m.did).GetEpoch(ctx, c.id)
	if o.Err = err; err != nil {
		return
	}
	o.Epoch = epoch
	c.books.read(GetEpoch, before, mark{epoch: epoch, seq: before.seq})
	c.moved(epoch)
}

// doGetMessages reads the newest page, or one from somewhere in the log on.
func (e *Engine) doGetMessages(ctx context.Context, rng *rand.Rand, c *convo, o *Operation) {
	m := c.borrow(rng)
	defer c.giveBack(m)
	o.DID = m.did
	before := c.books.mark()
	in := client.GetMessages{ConvoID: c.id, Limit: readLimit}
	if rng.IntN(2) == 0 {
		since := rng.Int64N(before.seq + 1)
		in.SinceSeq = &since
	}
	page, err := e.client.As(m.did).GetMessages(ctx, in)
	if o.Err = err; err != nil {
		return
	}
	o.Seq = page.LastSeq
	c.books.read(GetMessages, before, mark{seq: page.LastSeq, epoch: before.epoch})
	checkPage(c.books, in.SinceSeq, &page)
}

// checkPage checks that a page's rows follow each other, and what they should
// follow.
func checkPage(b *books, since *int64, page *client.Messages) {
	rows := page.Messages
	if since != nil && len(rows) > 0 && rows[0].Seq != *since+1 {
		b.report(Gap, "a page from seq %d on begins with seq %d", *since, rows[0].Seq)
	}
	for i := 1; i < len(rows); i++ {
		if rows[i].Seq != rows[i-1].Seq+1 {
			b.report(Gap, "on a page seq %d follows seq %d", rows[i].Seq, rows[i-1].Seq)
		}
	}
	last := int64(0)
	if since != nil {
		last = *since
	}
	if len(rows) > 0 {
		last = rows[len(rows)-1].Seq
	}
	if whole := since == nil || len(rows) == 0; whole && last < page.LastSeq {
		b.report(Gap, "a page ends at seq %d, and the newest is %d", last, page.LastSeq)
	}
}

// doGetCommits reads the latest commits.
func (e *Engine) doGetCommits(ctx context.Context, rng *rand.Rand, c *convo, o *Operation) {
	m := c.borrow(rng)
	defer c.giveBack(m)
	o.DID = m.did
	before := c.books.mark()
	from := max(before.epoch-rng.Int64N(commitsBack), 1)
	out, err := e.client.As(m.did).GetCommits(ctx, c.id, from, nil)
	if o.Err = err; err != nil {
		return
	}
	last := from - 1
	for _, commit := range out.Commits {
		if commit.Epoch != last+1 {
			c.books.report(Gap, "among the commits epoch %d follows epoch %d", commit.Epoch, last)
		}
		last = commit.Epoch
	}
	o.Epoch = last
	c.books.read(GetCommits, before, mark{epoch: last, seq: before.seq})
}

// doGetConvos reads a page of somebody's conversations.
func (e *Engine) doGetConvos(ctx context.Context, rng *rand.Rand, c *convo, o *Operation) {
	m := c.borrow(rng)
	defer c.giveBack(m)
	o.DID = m.did
	before := c.books.mark()
	out, err := e.client.As(m.did).GetConvos(ctx, pageSize, "")
	if o.Err = err; err != nil {
		return
	}
	for i := range out.Conversations {
		if v := &out.Conversations[i]; v.ID == c.id {
			o.Epoch = v.Epoch
			c.books.read(GetConvos, before, mark{epoch: v.Epoch, seq: before.seq})
			return
		}
	}
	if out.Cursor == "" { // it is on no other page
		c.books.report(StaleAnswer, "getConvos does not list it for %s, who is a member", m.did)
	}
}
