package sqlite

import (
	"context"
	"database/sql"

	"catbird/persistence"
)

// Overview returns one conversation.
func (s *Store) Overview(ctx context.Context, convo string) (persistence.Overview, error) {
	o := persistence.Overview{ID: convo}
	err := s.snapshot(ctx, "read overview", func(c *conn) error {
		var created int64
		l, found, err := load(c, convo)
		if err != nil {
			return err
		}
		if !found {
			return noSuchConvo()
		}
		o.Epoch, o.Seq, o.Creator = l.state.Epoch, l.state.Seq, l.state.Creator
		if err := c.row(`SELECT created_at FROM conversations WHERE id = ?1`, convo).scan(&created); err != nil {
			return err
		}
		o.CreatedAt = fromMicros(created)
		if o.Members, err = overviewMembers(c, convo); err != nil {
			return err
		}
		o.ByEpoch, err = epochSummaries(c, convo)
		return err
	})
	if err != nil {
		return persistence.Overview{}, err
	}
	return o, nil
}

func overviewMembers(c *conn, convo string) ([]persistence.OverviewMember, error) {
	var out []persistence.OverviewMember
	err := c.each(func(rows *sql.Rows) error {
		var m persistence.OverviewMember
		var joined int64
		var left sql.NullInt64
		err := rows.Scan(&m.DID, &joined, &left, &m.Unread)
		m.JoinedAt = fromMicros(joined)
		if left.Valid {
			at := fromMicros(left.Int64)
			m.LeftAt = &at
		}
		out = append(out, m)
		return err
	}, `SELECT member_did, joined_at, left_at, unread_count + CASE WHEN left_at IS NULL THEN `+tailOf+` ELSE 0 END
		FROM members m WHERE convo_id = ?1 ORDER BY member_did`, convo)
	return out, err
}

func epochSummaries(c *conn, convo string) ([]persistence.EpochSummary, error) {
	var out []persistence.EpochSummary
	err := c.each(func(rows *sql.Rows) error {
		var e persistence.EpochSummary
		var first, last int64
		err := rows.Scan(&e.Epoch, &e.Commits, &e.Messages, &first, &last)
		e.First, e.Last = fromMicros(first), fromMicros(last)
		out = append(out, e)
		return err
	}, `SELECT epoch, count(*) FILTER (WHERE message_type = 'commit'), count(*) FILTER (WHERE message_type <> 'commit'),
			min(created_at), max(created_at)
		FROM messages WHERE convo_id = ?1 GROUP BY epoch ORDER BY epoch`, convo)
	return out, err
}
