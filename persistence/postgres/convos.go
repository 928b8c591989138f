package postgres

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"catbird/conversation"
	"catbird/persistence"
)

// viewSQL is a conversation as its member sees it, of c, a row of conversations,
// and m, the member's row.
func (sch schema) viewSQL() string {
	group, suite := "c.id", "coalesce(c.catbird_cipher_suite, '')"
	if sch.hasText("conversations", "group_id") {
		group = "coalesce(c.group_id, c.id)"
	}
	if sch.hasText("conversations", "cipher_suite") {
		suite = "coalesce(c.catbird_cipher_suite, c.cipher_suite, '')"
	}
	return fill(`
	c.id, {group}, coalesce(c.creator_did, ''), {current_epoch}, {suite}, coalesce(c.created_at, 'epoch'),
	greatest(c.catbird_last_message_at, (SELECT g.created_at FROM messages g
		WHERE g.convo_id = c.id AND g.catbird_v IS NULL AND g.message_type = 'app'
		ORDER BY coalesce(g.seq, 0) DESC, g.created_at DESC, g.id DESC LIMIT 1)),
	greatest(coalesce(m.unread_count, 0) + {unfolded}, 0), coalesce(c.catbird_name, ''), coalesce(c.catbird_description, ''),
	ARRAY(SELECT a.member_did FROM members a WHERE a.convo_id = c.id AND a.left_at IS NULL ORDER BY a.joined_at, a.member_did),
	ARRAY(SELECT coalesce(a.joined_at, 'epoch') FROM members a WHERE a.convo_id = c.id AND a.left_at IS NULL ORDER BY a.joined_at, a.member_did)`,
		"group", group, "suite", suite, "current_epoch", currentEpoch, "unfolded", unfoldedOf)
}

// scanView scans what viewSQL selects, and more after it.
func scanView(rows pgx.Rows, v *persistence.ConvoView, more ...any) error {
	var last pgtype.Timestamptz
	var dids []string
	var joined []time.Time
	err := rows.Scan(append([]any{
		&v.ID, &v.GroupID, &v.Creator, &v.Epoch, &v.CipherSuite, (*utc)(&v.CreatedAt), &last, &v.Unread, &v.Name, &v.Description, &dids, &joined,
	}, more...)...)
	if err != nil {
		return err
	}
	if last.Valid {
		v.LastMessageAt = last.Time.UTC()
	}
	v.Members = make([]persistence.MemberView, len(dids))
	for i, did := range dids {
		v.Members[i] = persistence.MemberView{DID: did, JoinedAt: joined[i].UTC()}
	}
	return nil
}

func (sch schema) convoSQL() string {
	return fill(`
SELECT {view}, m.member_did IS NOT NULL
FROM conversations c LEFT JOIN members m ON m.convo_id = c.id AND m.member_did = $2 AND m.left_at IS NULL
WHERE c.id = $1`, "view", sch.viewSQL())
}

// Convo returns one conversation to an active member.
func (s *Store) Convo(ctx context.Context, convo, caller string) (persistence.ConvoView, error) {
	st, err := s.prepared()
	if err != nil {
		return persistence.ConvoView{}, err
	}
	var v persistence.ConvoView
	var there, member bool
	err = s.many(ctx, s.main, "read a conversation", st.convo, []any{convo, caller},
		func() { v, there = persistence.ConvoView{}, false }, func(r pgx.Rows) error {
			there = true
			return scanView(r, &v, &member)
		})
	switch {
	case err != nil:
		return persistence.ConvoView{}, err
	case !there:
		return persistence.ConvoView{}, notFound()
	case !member:
		return persistence.ConvoView{}, notMember()
	}
	return v, nil
}

// convosSQL is a page of a member's conversations in the order of (activity,
// id), both falling, where the activity is what it was in the snapshot of the
// first page. So later pages neither repeat nor skip a conversation whatever is
// written meanwhile, also by transactions that were open at the first page, and
// whatever any clock shows.
//
// A conversation's row that the snapshot sees knows its activity itself; so does
// one that has changed since, but got no new row in its log. Of any other the
// newest row of the log that the snapshot sees tells. Whether it sees a row is asked by the row's xmin: the transaction's id
// without its epoch, which is the one nearest to the snapshot's. Rows made long
// before the first page are seen whatever their xmin, which may have wrapped.
func (sch schema) convosSQL() string {
	seen := `pg_visible_in_snapshot(greatest(snap.top + ((({row}.xmin::text::bigint - snap.top + 2147483648) & 4294967295) - 2147483648), 3)::text::xid8, snap.at)`
	seenRow := func(row string) string {
		return `(` + row + `.created_at < snap.began - interval '1 hour' OR ` + fill(seen, "row", row) + `)`
	}
	newest := func(where, order string) string {
		return fill(`(SELECT g.created_at FROM messages g WHERE g.convo_id = c.id AND {where} AND {seen} ORDER BY {order} LIMIT 1)`,
			"where", where, "seen", seenRow("g"), "order", order)
	}
	return fill(`
WITH snap AS MATERIALIZED (
	SELECT s.at, pg_snapshot_xmax(s.at)::text::bigint AS top, coalesce($5::timestamptz, now()) AS began
	FROM (SELECT coalesce($4::text::pg_snapshot, pg_current_snapshot()) AS at) s
), mine AS MATERIALIZED (
	SELECT c.id, greatest(c.created_at,
		CASE WHEN {seen_convo} OR {seen_newest} IS NOT FALSE THEN c.catbird_last_activity ELSE {newest_ours} END,
		{newest_old}, {newest_old_commit}, 'epoch') AS activity
	FROM snap CROSS JOIN members m
	CROSS JOIN LATERAL (SELECT c.xmin, c.* FROM conversations c WHERE c.id = m.convo_id OFFSET 0) c
	WHERE m.member_did = $1 AND m.left_at IS NULL
), page AS MATERIALIZED (
	SELECT * FROM mine WHERE $2::timestamptz IS NULL OR (mine.activity, mine.id) < ($2, $3) ORDER BY activity DESC, id DESC LIMIT $6
)
SELECT {view}, page.activity, snap.at::text, snap.began
FROM snap CROSS JOIN page
CROSS JOIN LATERAL (SELECT * FROM conversations c WHERE c.id = page.id OFFSET 0) c
CROSS JOIN LATERAL (SELECT * FROM members m WHERE m.convo_id = page.id AND m.member_did = $1 OFFSET 0) m
ORDER BY page.activity DESC, page.id DESC`,
		"seen_convo", fill(seen, "row", "c"),
		"seen_newest", fill(`(SELECT {seen} FROM messages g WHERE g.convo_id = c.id AND g.catbird_v IS NOT NULL ORDER BY g.seq DESC LIMIT 1)`,
			"seen", seenRow("g")),
		"newest_ours", newest("g.catbird_v IS NOT NULL", "g.seq DESC"),
		"newest_old", newest("g.catbird_v IS NULL", "coalesce(g.seq, 0) DESC, g.created_at DESC, g.id DESC"),
		"newest_old_commit", newest("g.catbird_v IS NULL AND g.message_type = 'commit'", "g.epoch DESC, g.created_at DESC, g.id DESC"),
		"view", sch.viewSQL())
}

// place is where a page of conversations ended.
type place struct {
	Snapshot string `json:"s"` // of the first page
	Began    int64  `json:"t"` // when that was, in microseconds
	Activity int64  `json:"a"` // of the last conversation, in microseconds
	ID       string `json:"i"` // of the last conversation
}

func (p place) cursor() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic("postgres: a cursor that does not encode: " + err.Error()) // strings and numbers always do
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

var snapshotForm = regexp.MustCompile(`^[0-9]{1,20}:[0-9]{1,20}:([0-9]{1,20}(,[0-9]{1,20})*)?$`)

const maxCursor = 32 << 10

func parseCursor(cursor string) (place, error) {
	var p place
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) > maxCursor {
		return place{}, invalidCursor()
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil || p.ID == "" || p.Began <= 0 || !snapshotForm.MatchString(p.Snapshot) {
		return place{}, invalidCursor()
	}
	return p, nil
}

func invalidCursor() error {
	return conversation.Refuse(conversation.InvalidCursor, "cursor: is not one that this service gave")
}

// Convos returns a page of the caller's active conversations.
func (s *Store) Convos(ctx context.Context, q persistence.ConvosQuery) (persistence.ConvosPage, error) {
	st, err := s.prepared()
	if err != nil {
		return persistence.ConvosPage{}, err
	}
	limit := max(1, min(q.Limit, conversation.MaxPage))
	args := []any{q.Caller, nil, nil, nil, nil, limit + 1}
	if q.Cursor != "" {
		p, err := parseCursor(q.Cursor)
		if err != nil {
			return persistence.ConvosPage{}, err
		}
		args = []any{q.Caller, time.UnixMicro(p.Activity), p.ID, p.Snapshot, time.UnixMicro(p.Began), limit + 1}
	}
	var page persistence.ConvosPage
	var last place
	err = s.many(ctx, s.main, "read conversations", st.convos, args,
		func() { page = persistence.ConvosPage{} }, func(r pgx.Rows) error {
			var v persistence.ConvoView
			var at place
			var activity, began time.Time
			if err := scanView(r, &v, &activity, &at.Snapshot, &began); err != nil {
				return err
			}
			if len(page.Convos) == limit {
				page.Cursor = last.cursor()
				return nil
			}
			at.ID, at.Activity, at.Began = v.ID, activity.UnixMicro(), began.UnixMicro()
			page.Convos, last = append(page.Convos, v), at
			return nil
		})
	if code := codeOf(err); q.Cursor != "" && len(code) == 5 && code[:2] == "22" { // no snapshot, no time
		return persistence.ConvosPage{}, invalidCursor()
	}
	if err != nil {
		return persistence.ConvosPage{}, err
	}
	return page, nil
}
