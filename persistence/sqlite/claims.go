package sqlite

import (
	"context"
	"database/sql"

	"catbird/conversation"
	"catbird/persistence"
)

// loaded is a conversation's row, and whose live session claims it.
type loaded struct {
	state  conversation.State // without members
	fence  int64
	folded int64
	rowSeq int64              // state.Seq is the log's where that is larger
	holder persistence.Holder // zero: nobody, or a session that is over
}

// load reads the row of a conversation, if there is one.
func load(c *conn, convo string) (l loaded, found bool, err error) {
	var session, node, address sql.NullString
	found, err = c.row(`
		SELECT c.current_epoch, c.catbird_seq,
			max(c.catbird_seq, coalesce((SELECT max(seq) FROM messages WHERE convo_id = c.id), 0)),
			c.catbird_mls, c.creator_did, c.catbird_fence, c.catbird_folded_seq, s.id, s.node, s.address
		FROM conversations c LEFT JOIN catbird_sessions s ON s.id = c.catbird_claim AND s.ended = 0
		WHERE c.id = ?1`, convo).
		found(&l.state.Epoch, &l.rowSeq, &l.state.Seq, &l.state.MLS, &l.state.Creator, &l.fence, &l.folded, &session, &node, &address)
	if session.Valid {
		l.holder = persistence.Holder{Session: session.String, Node: node.String, Address: address.String, Fence: l.fence}
	}
	return l, found, err
}

// activeMembers returns the members of a conversation.
func activeMembers(c *conn, convo string) (conversation.Members, error) {
	var dids []string
	err := c.each(func(rows *sql.Rows) error {
		var did string
		err := rows.Scan(&did)
		dids = append(dids, did)
		return err
	}, `SELECT member_did FROM members WHERE convo_id = ?1 AND left_at IS NULL ORDER BY member_did`, convo)
	return conversation.NewMembers(dids...), err
}

// live reports whether a session has not ended.
func live(c *conn, session string) (bool, error) {
	var one int
	return c.row(`SELECT 1 FROM catbird_sessions WHERE id = ?1 AND ended = 0`, session).found(&one)
}

// Claim claims each of ids for session and loads it.
func (s *Store) Claim(ctx context.Context, session string, ids []string) ([]persistence.Claimed, error) {
	out := make([]persistence.Claimed, len(ids))
	err := s.write(ctx, "claim", func(c *conn) error {
		ok, err := live(c, session)
		if err != nil {
			return err
		}
		if !ok {
			return persistence.ErrSessionOver
		}
		for i, id := range ids {
			if out[i], err = claim(c, session, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func claim(c *conn, session, convo string) (persistence.Claimed, error) {
	out := persistence.Claimed{Convo: convo, Outcome: persistence.ClaimNotFound}
	l, found, err := load(c, convo)
	if err != nil || !found {
		return out, err
	}
	if l.holder.Session != "" && l.holder.Session != session {
		out.Outcome, out.Holder = persistence.ClaimHeld, l.holder
		return out, nil
	}
	_, err = c.exec(`UPDATE conversations SET catbird_claim = ?2, catbird_fence = catbird_fence + 1, catbird_seq = ?3 WHERE id = ?1`,
		convo, session, l.state.Seq)
	if err != nil {
		return out, err
	}
	if l.state.Members, err = activeMembers(c, convo); err != nil {
		return out, err
	}
	out.Outcome, out.State, out.Fence = persistence.ClaimGranted, l.state, l.fence+1
	out.Unfolded = l.folded < l.state.Seq
	return out, nil
}

// Release lets go of those of claims that session still holds with that fence.
func (s *Store) Release(ctx context.Context, session string, claims []persistence.Claim) error {
	if len(claims) == 0 {
		return nil
	}
	return s.write(ctx, "release", func(c *conn) error {
		for _, cl := range claims {
			_, err := c.exec(`UPDATE conversations SET catbird_claim = NULL WHERE id = ?1 AND catbird_claim = ?2 AND catbird_fence = ?3`,
				cl.Convo, session, cl.Fence)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
