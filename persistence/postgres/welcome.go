package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"catbird/conversation"
	"catbird/persistence"
)

// standingSQL says what the caller is to a conversation: no row, not there.
const standingSQL = `
SELECT m.member_did IS NOT NULL FROM conversations c
LEFT JOIN members m ON m.convo_id = c.id AND m.member_did = $2 AND m.left_at IS NULL WHERE c.id = $1`

// standing queues standingSQL and returns, filled when the batch has run, why
// the caller may not.
func standing(b *pgx.Batch, convo, caller string) *error {
	err := notFound()
	b.Queue(standingSQL, convo, caller).Query(each(func(r pgx.Rows) error {
		var member bool
		if serr := r.Scan(&member); serr != nil {
			return serr
		}
		if err = nil; !member {
			err = notMember()
		}
		return nil
	}))
	return &err
}

// fetchWelcomeSQL marks the newest welcome that is not consumed as fetched and
// returns it. Welcomes of the old server do not say where reading begins: that is
// the newest commit that is not younger, and the newest seq.
func (sch schema) fetchWelcomeSQL() string {
	before := func(what, where, order string) string {
		return fill(`(SELECT {what} FROM messages g WHERE g.convo_id = w.convo_id AND {where} AND g.created_at <= w.created_at ORDER BY {order} LIMIT 1)`,
			"what", what, "where", where, "order", order)
	}
	set := ""
	if sch.hasText("welcome_messages", "state") {
		set += ", state = 'in_flight'"
	}
	if sch.columns["welcome_messages"]["fetched_at"] == "timestamp with time zone" {
		set += ", fetched_at = coalesce(w.fetched_at, now())"
	}
	return fill(`
UPDATE welcome_messages w SET catbird_fetched_at = coalesce(w.catbird_fetched_at, now()){set}
WHERE w.id = (SELECT n.id FROM welcome_messages n WHERE n.convo_id = $1 AND n.recipient_did = $2 AND n.consumed IS NOT TRUE
		ORDER BY n.created_at DESC, n.id DESC LIMIT 1)
	AND EXISTS (SELECT FROM members m WHERE m.convo_id = $1 AND m.member_did = $2 AND m.left_at IS NULL)
RETURNING w.welcome_data,
	coalesce(w.catbird_epoch, greatest({our_epoch}, {old_epoch}, 0)), coalesce(w.catbird_seq, greatest({our_seq}, {old_seq}, 0))`,
		"set", set,
		"our_epoch", before("g.epoch", "g.catbird_v IS NOT NULL AND g.message_type = 'commit'", "g.epoch DESC"),
		"old_epoch", before("g.epoch", "g.catbird_v IS NULL AND g.message_type = 'commit'", "g.epoch DESC, g.created_at DESC, g.id DESC"),
		"our_seq", before("g.seq", "g.catbird_v IS NOT NULL", "g.seq DESC"),
		"old_seq", before("coalesce(g.seq, 0)", "g.catbird_v IS NULL", "coalesce(g.seq, 0) DESC, g.created_at DESC, g.id DESC"))
}

// Welcome returns the caller's newest welcome that is not consumed.
func (s *Store) Welcome(ctx context.Context, convo, caller string) (persistence.WelcomeView, error) {
	st, err := s.prepared()
	if err != nil {
		return persistence.WelcomeView{}, err
	}
	var v persistence.WelcomeView
	var found bool
	var refused *error
	err = s.flight(ctx, s.main, "read a welcome", reads, func(b *pgx.Batch) {
		found = false
		refused = standing(b, convo, caller)
		b.Queue(st.fetchWelcome, convo, caller).Query(each(func(r pgx.Rows) error {
			found = true
			return r.Scan(&v.Data, &v.Epoch, &v.Seq)
		}))
	})
	return v, welcomeError(err, refused, found)
}

func welcomeError(err error, refused *error, found bool) error {
	switch {
	case err != nil:
		return err
	case *refused != nil:
		return *refused
	case !found:
		return conversation.Refuse(conversation.WelcomeNotFound, "there is no welcome for the caller")
	}
	return nil
}

// confirmWelcomeSQL marks the newest welcome, consumed or not. One that becomes
// available again beside an equal one would break an index that some databases
// have; the other one then stands for both.
func (sch schema) confirmWelcomeSQL() string {
	set := ""
	if sch.hasText("welcome_messages", "state") {
		set = ", state = CASE WHEN $3 THEN 'consumed' ELSE 'available' END"
	}
	return fill(`
WITH newest AS MATERIALIZED (
	SELECT n.id, n.key_package_hash FROM welcome_messages n WHERE n.convo_id = $1 AND n.recipient_did = $2
		AND EXISTS (SELECT FROM members m WHERE m.convo_id = $1 AND m.member_did = $2 AND m.left_at IS NULL)
	ORDER BY n.created_at DESC, n.id DESC LIMIT 1
), marked AS (
	UPDATE welcome_messages w SET consumed = $3::boolean,
		consumed_at = CASE WHEN $3 THEN coalesce(w.consumed_at, now()) END{set}
	FROM newest WHERE w.id = newest.id AND ($3 OR NOT EXISTS (SELECT FROM welcome_messages o
		WHERE o.convo_id = $1 AND o.recipient_did = $2 AND o.consumed IS NOT TRUE AND o.id <> newest.id
			AND o.key_package_hash IS NOT DISTINCT FROM newest.key_package_hash))
)
SELECT id FROM newest`, "set", set)
}

// ConfirmWelcome marks the newest welcome consumed, or available again.
func (s *Store) ConfirmWelcome(ctx context.Context, convo, caller string, success bool) error {
	st, err := s.prepared()
	if err != nil {
		return err
	}
	var found bool
	var refused *error
	err = s.flight(ctx, s.main, "confirm a welcome", changes, func(b *pgx.Batch) {
		found = false
		refused = standing(b, convo, caller)
		b.Queue(st.confirmWelcome, convo, caller, success).Query(each(func(pgx.Rows) error {
			found = true
			return nil
		}))
	})
	return welcomeError(err, refused, found)
}

// purgeWelcomesSQL deletes welcomes that were consumed $1 seconds ago.
func (sch schema) purgeWelcomesSQL() string {
	return `DELETE FROM welcome_messages WHERE id IN (SELECT id FROM welcome_messages
	WHERE consumed AND consumed_at <= now() - make_interval(secs => $1) ORDER BY consumed_at LIMIT $2)`
}
