package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"catbird/conversation"
	"catbird/persistence"
)

const (
	overviewSQL = `
SELECT c.id, ` + currentEpoch + `, ` + currentSeq + `, coalesce(c.creator_did, ''), coalesce(c.created_at, 'epoch')
FROM conversations c WHERE c.id = $1`
	overviewMembersSQL = `
SELECT m.member_did, coalesce(m.joined_at, 'epoch'), m.left_at,
	coalesce(m.unread_count, 0) + CASE WHEN m.left_at IS NULL THEN ` + unfoldedOf + ` ELSE 0 END
FROM members m WHERE m.convo_id = $1 ORDER BY m.joined_at, m.member_did`
	overviewEpochsSQL = `
SELECT coalesce(m.epoch, 0), count(*) FILTER (WHERE m.message_type = 'commit'),
	count(*) FILTER (WHERE m.message_type IS DISTINCT FROM 'commit'), min(m.created_at), max(m.created_at)
FROM (
	SELECT epoch, message_type, created_at FROM messages WHERE convo_id = $1 AND catbird_v IS NOT NULL
	UNION ALL SELECT epoch, message_type, created_at FROM messages WHERE convo_id = $1 AND catbird_v IS NULL
) m GROUP BY 1 ORDER BY 1`
)

// snapshot queues build's statements between the ends of a transaction that
// sees one moment.
func snapshot(b *pgx.Batch, build func()) {
	b.Queue("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	build()
	b.Queue("COMMIT")
}

// Overview returns what an operator sees of one conversation.
func (s *Store) Overview(ctx context.Context, convo string) (persistence.Overview, error) {
	if _, err := s.prepared(); err != nil {
		return persistence.Overview{}, err
	}
	var o persistence.Overview
	var there bool
	err := s.flight(ctx, s.main, "look at a conversation", reads, func(b *pgx.Batch) {
		o, there = persistence.Overview{Members: []persistence.OverviewMember{}, ByEpoch: []persistence.EpochSummary{}}, false
		snapshot(b, func() {
			b.Queue(overviewSQL, convo).Query(each(func(r pgx.Rows) error {
				there = true
				return r.Scan(&o.ID, &o.Epoch, &o.Seq, &o.Creator, (*utc)(&o.CreatedAt))
			}))
			b.Queue(overviewMembersSQL, convo).Query(each(func(r pgx.Rows) error {
				var m persistence.OverviewMember
				if err := r.Scan(&m.DID, (*utc)(&m.JoinedAt), &m.LeftAt, &m.Unread); err != nil {
					return err
				}
				if m.LeftAt != nil {
					left := m.LeftAt.UTC()
					m.LeftAt = &left
				}
				o.Members = append(o.Members, m)
				return nil
			}))
			b.Queue(overviewEpochsSQL, convo).Query(each(func(r pgx.Rows) error {
				var e persistence.EpochSummary
				err := r.Scan(&e.Epoch, &e.Commits, &e.Messages, (*utc)(&e.First), (*utc)(&e.Last))
				o.ByEpoch = append(o.ByEpoch, e)
				return err
			}))
		})
	})
	if err == nil && !there {
		err = conversation.Refuse(conversation.ConvoNotFound, "there is no such conversation")
	}
	if err != nil {
		return persistence.Overview{}, err
	}
	return o, nil
}

// Integrity looks at all conversations, a few at a time: each is seen in one
// moment, and none is locked.
func (s *Store) Integrity(ctx context.Context, since time.Time) (persistence.Integrity, error) {
	var out persistence.Integrity
	if _, err := s.prepared(); err != nil {
		return out, err
	}
	for from, more := "", true; more; {
		var ids []string
		err := s.many(ctx, s.main, "list conversations", integrityPageSQL, []any{from, integrityPage},
			func() { ids = nil }, func(r pgx.Rows) error {
				var id string
				err := r.Scan(&id)
				ids = append(ids, id)
				return err
			})
		if err != nil {
			return persistence.Integrity{}, err
		}
		if len(ids) == 0 {
			break
		}
		if err := s.integrityOf(ctx, ids, since, &out); err != nil {
			return persistence.Integrity{}, err
		}
		from, more = ids[len(ids)-1], len(ids) == integrityPage
	}
	return out, nil
}
