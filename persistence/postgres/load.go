package postgres

import (
	"github.com/jackc/pgx/v5"

	"catbird/conversation"
	"catbird/persistence"
)

// loaded is what a transaction has read of one conversation under its lock.
type loaded struct {
	state conversation.State
	// row is what the row says, where state goes on from what the log says.
	row      conversation.Version
	folded   int64
	claim    string // the session in the row, "" for none
	live     bool   // that session has not ended
	holder   persistence.Holder
	mls      bool
	prefixes [][]byte // of old commits that may be MLS
	members  []string
}

const stateSQL = `
SELECT c.id, coalesce(c.creator_did, ''), coalesce(c.current_epoch, 0)::bigint, coalesce(c.catbird_seq, 0),
	coalesce(c.catbird_fence, 0), coalesce(c.catbird_folded_seq, 0), c.catbird_mls IS TRUE,
	coalesce(c.catbird_claim, ''), s.id IS NOT NULL AND NOT s.ended, coalesce(s.node, ''), coalesce(s.address, ''),
	{epoch}, {seq}
FROM unnest($1::text[]) u (id)
CROSS JOIN LATERAL (SELECT * FROM conversations c WHERE c.id = u.id OFFSET 0) c
LEFT JOIN catbird_sessions s ON s.id = c.catbird_claim`

// stateByLogSQL goes on from the log where it is ahead of the row;
// stateByRowSQL is for when the row has just been brought up to it.
var (
	stateByLogSQL = fill(stateSQL, "epoch", currentEpoch, "seq", currentSeq)
	stateByRowSQL = fill(stateSQL, "epoch", "coalesce(c.current_epoch, 0)::bigint", "seq", "coalesce(c.catbird_seq, 0)")
)

const activeMembersSQL = `
SELECT u.id, m.dids FROM unnest($1::text[]) u (id)
CROSS JOIN LATERAL (SELECT array_agg(m.member_did) AS dids FROM members m WHERE m.convo_id = u.id AND m.left_at IS NULL) m
WHERE m.dids IS NOT NULL`

// oldMLSSQL finds commits of the old server that look like MLS; a header fits
// into what it returns of each. Ours say so in the conversation's row.
const oldMLSSQL = `
SELECT u.id, g.prefix FROM unnest($1::text[]) u (id)
CROSS JOIN LATERAL (
	SELECT substring(m.ciphertext from 1 for 4096) AS prefix FROM messages m
	WHERE m.convo_id = u.id AND m.catbird_v IS NULL AND m.message_type = 'commit' AND ` + mlsPrefix + `
		AND (SELECT c.catbird_mls FROM conversations c WHERE c.id = u.id) IS NOT TRUE
	LIMIT 16
) g`

// queueLoad queues the reading of ids into what it returns, which is filled
// when the batch has run.
func queueLoad(b *pgx.Batch, sql string, ids []string) map[string]*loaded {
	found := make(map[string]*loaded, len(ids))
	b.Queue(sql, ids).Query(each(func(rows pgx.Rows) error {
		l := &loaded{}
		var id string
		err := rows.Scan(&id, &l.state.Creator, &l.row.Epoch, &l.row.Seq, &l.row.Fence, &l.folded, &l.mls,
			&l.claim, &l.live, &l.holder.Node, &l.holder.Address, &l.state.Epoch, &l.state.Seq)
		l.holder.Session, l.holder.Fence = l.claim, l.row.Fence
		found[id] = l
		return err
	}))
	b.Queue(activeMembersSQL, ids).Query(each(func(rows pgx.Rows) error {
		var id string
		var dids []string
		if err := rows.Scan(&id, &dids); err != nil {
			return err
		}
		if l := found[id]; l != nil {
			l.members = dids
		}
		return nil
	}))
	b.Queue(oldMLSSQL, ids).Query(each(func(rows pgx.Rows) error {
		var id string
		var prefix []byte
		if err := rows.Scan(&id, &prefix); err != nil {
			return err
		}
		if l := found[id]; l != nil {
			l.prefixes = append(l.prefixes, prefix)
		}
		return nil
	}))
	return found
}

// finish makes the state of what was read.
func (l *loaded) finish() {
	l.state.Members = conversation.NewMembers(l.members...)
	l.state.MLS = l.mls
	for _, prefix := range l.prefixes {
		if _, ok := conversation.ParseHeader(prefix); ok {
			l.state.MLS = true
		}
	}
	l.members, l.prefixes = nil, nil
}
