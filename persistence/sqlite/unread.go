package sqlite

import (
	"context"
	"database/sql"
)

// Fold counts the application messages that unread counts do not hold yet.
func (s *Store) Fold(ctx context.Context, convos []string) error {
	if len(convos) == 0 {
		return nil
	}
	return s.write(ctx, "fold", func(c *conn) error {
		for _, convo := range convos {
			if _, err := fold(c, convo); err != nil {
				return err
			}
		}
		return nil
	})
}

// fold counts one conversation and reports whether there was something to
// count. Every active member is counted at least up to the conversation's
// folded seq. Most stand before the first message beyond it: for those the
// whole tail counts but for what they sent, by numbers; only members who reset
// or joined in the midst of the tail are counted by its rows.
func fold(c *conn, convo string) (bool, error) {
	var seq, folded int64
	found, err := c.row(`SELECT catbird_seq, catbird_folded_seq FROM conversations WHERE id = ?1`, convo).found(&seq, &folded)
	if err != nil || !found || folded >= seq {
		return false, err
	}
	t, err := readTail(c, convo, folded, seq)
	if err != nil {
		return false, err
	}
	if t.total > 0 {
		if err := countTail(c, convo, seq, t); err != nil {
			return false, err
		}
	}
	_, err = c.exec(`UPDATE conversations SET catbird_folded_seq = ?2 WHERE id = ?1`, convo, seq)
	return true, err
}

// tail is what lies beyond a seq: how many application messages, the seq of the
// first, and how many each sender sent.
type tail struct {
	total, first int64
	senders      []string
	sent         []int64
}

func readTail(c *conn, convo string, after, to int64) (tail, error) {
	var t tail
	err := c.each(func(rows *sql.Rows) error {
		var sender sql.NullString
		var n, first int64
		if err := rows.Scan(&sender, &n, &first); err != nil {
			return err
		}
		if t.total == 0 || first < t.first {
			t.first = first
		}
		t.total += n
		if sender.Valid {
			t.senders, t.sent = append(t.senders, sender.String), append(t.sent, n)
		}
		return nil
	}, `SELECT sender_did, count(*), min(seq) FROM messages
		WHERE convo_id = ?1 AND seq > ?2 AND seq <= ?3 AND message_type = 'app' GROUP BY sender_did`, convo, after, to)
	return t, err
}

func countTail(c *conn, convo string, seq int64, t tail) error {
	_, err := c.exec(`
		UPDATE members SET unread_count = unread_count + ?3, catbird_counted_seq = ?2
		WHERE convo_id = ?1 AND left_at IS NULL AND catbird_counted_seq < ?4
			AND member_did NOT IN (SELECT value FROM json_each(?5))`,
		convo, seq, t.total, t.first, jsonList(t.senders))
	if err != nil {
		return err
	}
	for i, did := range t.senders {
		_, err := c.exec(`
			UPDATE members SET unread_count = unread_count + ?3, catbird_counted_seq = ?2
			WHERE convo_id = ?1 AND member_did = ?5 AND left_at IS NULL AND catbird_counted_seq < ?4`,
			convo, seq, t.total-t.sent[i], t.first, did)
		if err != nil {
			return err
		}
	}
	_, err = c.exec(`
		UPDATE members SET catbird_counted_seq = ?2, unread_count = unread_count + (
			SELECT count(*) FROM messages WHERE convo_id = ?1 AND seq > members.catbird_counted_seq AND seq <= ?2
				AND message_type = 'app' AND sender_did IS NOT members.member_did)
		WHERE convo_id = ?1 AND left_at IS NULL AND catbird_counted_seq < ?2`, convo, seq)
	return err
}

// ResetUnread makes what the caller has not read the messages after seq. For
// one who is not an active member there is nothing to reset.
func (s *Store) ResetUnread(ctx context.Context, convo, caller string, seq int64) error {
	return s.write(ctx, "reset unread", func(c *conn) error {
		// A seq beyond the log would leave messages uncounted that are yet to come.
		_, err := c.exec(`
			UPDATE members SET
				unread_count = CASE WHEN catbird_counted_seq <= read.seq THEN 0 ELSE (
					SELECT count(*) FROM messages WHERE convo_id = ?1 AND seq > read.seq AND seq <= members.catbird_counted_seq
						AND message_type = 'app' AND sender_did IS NOT ?2) END,
				catbird_counted_seq = max(catbird_counted_seq, read.seq)
			FROM (SELECT min(?3, catbird_seq) AS seq FROM conversations WHERE id = ?1) AS read
			WHERE convo_id = ?1 AND member_did = ?2 AND left_at IS NULL`, convo, caller, seq)
		return err
	})
}

// tailOf is the SQL for how many messages by others lie beyond what the member
// row m of conversation c is counted up to.
const tailOf = `(SELECT count(*) FROM messages t WHERE t.convo_id = m.convo_id AND t.seq > m.catbird_counted_seq
	AND t.message_type = 'app' AND t.sender_did IS NOT m.member_did)`
