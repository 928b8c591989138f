package sqlite

import (
	"context"
)

// access is what a caller may see of a conversation.
type access struct {
	active bool
	epoch  int64 // the newest they may see
	last   int64 // the newest seq they may see
	unread int64 // exact; 0 for one who has left
}

// readAccess returns NotMember for a stranger and ConvoNotFound for an id that
// exists nowhere. Who has left sees the conversation as they left it.
func readAccess(c *conn, convo, caller string) (access, error) {
	var a access
	var member bool
	var leftSeq int64
	found, err := c.row(`
		SELECT c.current_epoch, max(c.catbird_seq, coalesce((SELECT max(seq) FROM messages WHERE convo_id = c.id), 0)),
			m.member_did IS NOT NULL, m.member_did IS NOT NULL AND m.left_at IS NULL, coalesce(m.catbird_left_seq, 0),
			CASE WHEN m.left_at IS NULL THEN coalesce(m.unread_count, 0) + `+tailOf+` ELSE 0 END
		FROM conversations c LEFT JOIN members m ON m.convo_id = c.id AND m.member_did = ?2
		WHERE c.id = ?1`, convo, caller).found(&a.epoch, &a.last, &member, &a.active, &leftSeq, &a.unread)
	switch {
	case err != nil:
		return access{}, err
	case !found:
		return access{}, noSuchConvo()
	case !member:
		return access{}, notMember()
	case a.active:
		return a, nil
	}
	a.last = min(a.last, leftSeq)
	err = c.row(`SELECT coalesce((SELECT epoch FROM messages WHERE convo_id = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1), 0)`,
		convo, a.last).scan(&a.epoch)
	return a, err
}

// Epoch returns the current epoch to an active member.
func (s *Store) Epoch(ctx context.Context, convo, caller string) (int64, error) {
	var epoch int64
	err := s.query(ctx, "read epoch", func(c *conn) error {
		var active bool
		found, err := c.row(`
			SELECT c.current_epoch, EXISTS (SELECT 1 FROM members m WHERE m.convo_id = c.id AND m.member_did = ?2 AND m.left_at IS NULL)
			FROM conversations c WHERE c.id = ?1`, convo, caller).found(&epoch, &active)
		return activeOnly(found, active, err)
	})
	if err != nil {
		return 0, err
	}
	return epoch, nil
}

// activeOnly refuses those who are not active members of a conversation.
func activeOnly(found, active bool, err error) error {
	switch {
	case err != nil:
		return err
	case !found:
		return noSuchConvo()
	case !active:
		return notMember()
	}
	return nil
}

func checkActive(c *conn, convo, caller string) error {
	var active bool
	found, err := c.row(`
		SELECT EXISTS (SELECT 1 FROM members m WHERE m.convo_id = c.id AND m.member_did = ?2 AND m.left_at IS NULL)
		FROM conversations c WHERE c.id = ?1`, convo, caller).found(&active)
	return activeOnly(found, active, err)
}
