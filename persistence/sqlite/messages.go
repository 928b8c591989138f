package sqlite

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

// Messages returns a page of the log. A page ends before its limit where its
// ciphertexts would make more than conversation.MaxAnswer bytes, one row at
// least.
func (s *Store) Messages(ctx context.Context, q persistence.MessagesQuery) (persistence.MessagesPage, error) {
	var p persistence.MessagesPage
	err := s.snapshot(ctx, "read messages", func(c *conn) (err error) {
		p, err = messagesPage(c, q)
		return err
	})
	if err != nil {
		return persistence.MessagesPage{}, err
	}
	return p, nil
}

func messagesPage(c *conn, q persistence.MessagesQuery) (persistence.MessagesPage, error) {
	a, err := readAccess(c, q.Convo, q.Caller)
	if err != nil {
		return persistence.MessagesPage{}, err
	}
	p := persistence.MessagesPage{LastSeq: a.last, Unread: a.unread > 0}
	g := gather{limit: q.Limit, bytes: conversation.MaxAnswer}
	if q.SinceSeq == nil && q.SinceID == "" {
		err = c.each(g.add, selectMessage+visible+`AND seq <= ?2 ORDER BY seq DESC LIMIT ?4`,
			q.Convo, a.last, micros(time.Now()), q.Limit)
		slices.Reverse(g.messages)
		p.Messages = g.messages
		return p, err
	}
	since, err := sinceOf(c, q, a.last)
	if err != nil {
		return persistence.MessagesPage{}, err
	}
	err = c.each(g.add, selectMessage+visible+`AND seq > ?5 AND seq <= ?2 ORDER BY seq LIMIT ?4`,
		q.Convo, a.last, micros(time.Now()), q.Limit+1, since)
	p.Messages, p.More = g.messages, g.more
	return p, err
}

// visible leaves out application messages that have expired by ?3.
const visible = ` WHERE convo_id = ?1 AND (message_type = 'commit' OR expires_at IS NULL OR expires_at > ?3) `

func sinceOf(c *conn, q persistence.MessagesQuery, last int64) (int64, error) {
	if q.SinceSeq != nil {
		return *q.SinceSeq, nil
	}
	var since int64
	found, err := c.row(`SELECT seq FROM messages WHERE id = ?1 AND convo_id = ?2 AND seq <= ?3`, q.SinceID, q.Convo, last).found(&since)
	if err == nil && !found {
		err = conversation.Refuse(conversation.InvalidCursor, "sinceMessage: is no message of this conversation")
	}
	return since, err
}

const selectMessage = `SELECT id, coalesce(sender_did, ''), message_type, epoch, coalesce(seq, 0), ciphertext, created_at,
	coalesce(catbird_embed_type, ''), coalesce(catbird_embed_uri, '') FROM messages `

// gather collects rows of selectMessage up to limit and bytes, one at least;
// more says that there was another.
type gather struct {
	limit, bytes int
	messages     []persistence.Message
	size         int
	more         bool
}

func (g *gather) add(rows *sql.Rows) error {
	if len(g.messages) == g.limit {
		g.more = true
		return errStop
	}
	var m persistence.Message
	var at int64
	err := rows.Scan(&m.ID, &m.Sender, &m.Kind, &m.Epoch, &m.Seq, &m.Ciphertext, &at, &m.EmbedType, &m.EmbedURI)
	if err != nil {
		return err
	}
	m.CreatedAt = fromMicros(at)
	g.size += len(m.Ciphertext)
	if len(g.messages) > 0 && g.size > g.bytes {
		g.more = true
		return errStop
	}
	g.messages = append(g.messages, m)
	return nil
}

// Commits returns commits by epoch.
func (s *Store) Commits(ctx context.Context, q persistence.CommitsQuery) (persistence.CommitsPage, error) {
	var p persistence.CommitsPage
	err := s.snapshot(ctx, "read commits", func(c *conn) (err error) {
		p, err = commitsPage(c, q)
		return err
	})
	if err != nil {
		return persistence.CommitsPage{}, err
	}
	return p, nil
}

func commitsPage(c *conn, q persistence.CommitsQuery) (persistence.CommitsPage, error) {
	a, err := readAccess(c, q.Convo, q.Caller)
	if err != nil {
		return persistence.CommitsPage{}, err
	}
	to := a.epoch
	if q.To != nil {
		if q.From > *q.To {
			return persistence.CommitsPage{}, conversation.Refuse(conversation.InvalidEpochRange, "fromEpoch: is after toEpoch")
		}
		to = min(to, *q.To)
	}
	g := gather{limit: q.Limit, bytes: q.MaxBytes}
	err = c.each(g.add, selectMessage+`
		WHERE convo_id = ?1 AND message_type = 'commit' AND epoch BETWEEN ?2 AND ?3 AND (?4 OR seq <= ?5)
		ORDER BY epoch, seq LIMIT ?6`,
		q.Convo, q.From, to, a.active, a.last, q.Limit+1)
	return persistence.CommitsPage{Commits: g.messages, More: g.more}, err
}
