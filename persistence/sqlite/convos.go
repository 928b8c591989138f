package sqlite

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"

	"catbird/conversation"
	"catbird/persistence"
)

// cursor is where a page of conversations ended, and which rows of all logs
// were there when its first page was read. Later rows do not count: the order
// that the pages go through stands still while the conversations go on.
type cursor struct {
	No     int64  `json:"n"`
	Active int64  `json:"a"`
	ID     string `json:"i"`
}

func (cur cursor) String() string {
	b, err := json.Marshal(cur)
	if err != nil {
		panic("sqlite: a cursor that does not encode: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseCursor(s string) (cur cursor, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &cur)
	}
	if err != nil || cur.ID == "" || cur.No < 0 {
		return cursor{}, conversation.Refuse(conversation.InvalidCursor, "cursor: is not one that this service gave")
	}
	return cur, nil
}

// Convos returns a page of the caller's active conversations.
func (s *Store) Convos(ctx context.Context, q persistence.ConvosQuery) (persistence.ConvosPage, error) {
	var p persistence.ConvosPage
	err := s.snapshot(ctx, "read conversations", func(c *conn) (err error) {
		p, err = convosPage(c, q)
		return err
	})
	if err != nil {
		return persistence.ConvosPage{}, err
	}
	return p, nil
}

func convosPage(c *conn, q persistence.ConvosQuery) (persistence.ConvosPage, error) {
	var after cursor
	var err error
	q.Limit = max(q.Limit, 1)
	if q.Cursor == "" {
		err = c.row(`SELECT coalesce(max(catbird_no), 0) FROM messages`).scan(&after.No)
	} else {
		after, err = parseCursor(q.Cursor)
	}
	if err != nil {
		return persistence.ConvosPage{}, err
	}
	found, err := listConvos(c, q, after)
	if err != nil {
		return persistence.ConvosPage{}, err
	}
	var p persistence.ConvosPage
	if len(found) > q.Limit {
		found = found[:q.Limit]
		p.Cursor = found[len(found)-1].String()
	}
	p.Convos, err = views(c, q.Caller, found)
	return p, err
}

// listConvos returns one conversation more than the page holds, if there is
// one, each as the cursor that would follow it.
func listConvos(c *conn, q persistence.ConvosQuery, after cursor) ([]cursor, error) {
	var out []cursor
	err := c.each(func(rows *sql.Rows) error {
		cur := cursor{No: after.No}
		err := rows.Scan(&cur.ID, &cur.Active)
		out = append(out, cur)
		return err
	}, `WITH mine AS MATERIALIZED (
			SELECT c.id, CASE WHEN c.catbird_last_no <= ?2 THEN c.catbird_last_activity ELSE coalesce(
				(SELECT t.created_at FROM messages t WHERE t.convo_id = c.id AND t.catbird_no <= ?2 ORDER BY t.seq DESC LIMIT 1),
				c.created_at) END AS active
			FROM members m JOIN conversations c ON c.id = m.convo_id
			WHERE m.member_did = ?1 AND m.left_at IS NULL)
		SELECT id, active FROM mine WHERE ?3 = '' OR (active, id) < (?4, ?3) ORDER BY active DESC, id DESC LIMIT ?5`,
		q.Caller, after.No, after.ID, after.Active, q.Limit+1)
	return out, err
}

// Convo returns one conversation as its member sees it.
func (s *Store) Convo(ctx context.Context, convo, caller string) (persistence.ConvoView, error) {
	var v []persistence.ConvoView
	err := s.snapshot(ctx, "read conversation", func(c *conn) (err error) {
		if err := checkActive(c, convo, caller); err != nil {
			return err
		}
		v, err = views(c, caller, []cursor{{ID: convo}})
		return err
	})
	if err != nil {
		return persistence.ConvoView{}, err
	}
	return v[0], nil
}

// views returns conversations of which caller is an active member.
func views(c *conn, caller string, of []cursor) ([]persistence.ConvoView, error) {
	out := make([]persistence.ConvoView, 0, len(of))
	for _, cur := range of {
		v := persistence.ConvoView{ID: cur.ID}
		var created int64
		var last sql.NullInt64
		err := c.row(`
			SELECT c.group_id, c.creator_did, c.current_epoch, c.catbird_cipher_suite, c.created_at, c.catbird_last_message_at,
				c.catbird_name, c.catbird_description, m.unread_count + `+tailOf+`
			FROM conversations c JOIN members m ON m.convo_id = c.id AND m.member_did = ?2
			WHERE c.id = ?1`, cur.ID, caller).
			scan(&v.GroupID, &v.Creator, &v.Epoch, &v.CipherSuite, &created, &last, &v.Name, &v.Description, &v.Unread)
		if err != nil {
			return nil, err
		}
		v.CreatedAt, v.LastMessageAt = fromMicros(created), fromNullMicros(last)
		if v.Members, err = memberViews(c, cur.ID); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func memberViews(c *conn, convo string) ([]persistence.MemberView, error) {
	var out []persistence.MemberView
	err := c.each(func(rows *sql.Rows) error {
		var m persistence.MemberView
		var joined int64
		err := rows.Scan(&m.DID, &joined)
		m.JoinedAt = fromMicros(joined)
		out = append(out, m)
		return err
	}, `SELECT member_did, joined_at FROM members WHERE convo_id = ?1 AND left_at IS NULL ORDER BY member_did`, convo)
	return out, err
}
