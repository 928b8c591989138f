package postgres

import (
	"context"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"catbird/conversation"
	"catbird/persistence"
)

// headSQL is one row about a conversation and its reader, none when the
// conversation is not there: whether the reader is known, up to where it may
// read, the newest seq of that, and what it has not read. Who left under the old
// server, which kept no seq, may read up to when that was.
const headSQL = `
SELECT c.id, m.member_did IS NOT NULL AS known, m.left_at,
	CASE WHEN m.left_at IS NULL THEN {current_seq} ELSE coalesce(m.catbird_left_seq, greatest(
		(SELECT g.seq FROM messages g WHERE g.convo_id = c.id AND g.catbird_v IS NOT NULL AND g.created_at <= m.left_at
			ORDER BY g.seq DESC LIMIT 1),
		(SELECT coalesce(g.seq, 0) FROM messages g WHERE g.convo_id = c.id AND g.catbird_v IS NULL AND g.created_at <= m.left_at
			ORDER BY coalesce(g.seq, 0) DESC LIMIT 1), 0)) END AS last,
	m.member_did IS NOT NULL AND m.left_at IS NULL AND (coalesce(m.unread_count, 0) > 0 OR {unfolded} > 0) AS unread
FROM conversations c LEFT JOIN members m ON m.convo_id = c.id AND m.member_did = $2
WHERE c.id = $1`

// messagesSQL is a page: rows of ours and of the old server, each from its own
// index, merged in the order (place, created_at, id), where the place is the
// seq, or 0 where there is none. It ends where the payload does not fit an
// answer any more.
const messagesSQL = `
WITH h AS MATERIALIZED ({head}), since AS MATERIALIZED ({since})
SELECT h.known, h.last, h.unread, (SELECT count(*) FROM since), p.id, coalesce(p.sender_did, ''), coalesce(p.message_type, ''),
	coalesce(p.epoch, 0), coalesce(p.place, 0), CASE WHEN p.n = 1 OR p.total <= {bytes} THEN coalesce(p.ciphertext, ''::bytea) END,
	p.created_at, coalesce(p.catbird_embed_type, ''), coalesce(p.catbird_embed_uri, '')
FROM h LEFT JOIN LATERAL (
	SELECT x.*, row_number() OVER (ORDER BY place {dir}, created_at {dir}, id {dir}) AS n,
		sum(coalesce(octet_length(ciphertext), 0)) OVER (ORDER BY place {dir}, created_at {dir}, id {dir}) AS total
	FROM (
		(SELECT {columns}, m.seq AS place FROM messages m
		WHERE m.convo_id = $1 AND m.catbird_v IS NOT NULL AND m.seq <= h.last AND {ours_after} AND {alive}
		ORDER BY m.seq {dir} LIMIT {limit})
		UNION ALL
		(SELECT {columns}, coalesce(m.seq, 0) FROM messages m
		WHERE m.convo_id = $1 AND m.catbird_v IS NULL AND coalesce(m.seq, 0) <= h.last AND {old_after} AND {alive}
			AND (h.left_at IS NULL OR coalesce(m.seq, 0) > 0 OR m.created_at <= h.left_at)
		ORDER BY coalesce(m.seq, 0) {dir}, m.created_at {dir}, m.id {dir} LIMIT {limit})
		ORDER BY place {dir}, created_at {dir}, id {dir} LIMIT {limit}
	) x
) p ON h.known
ORDER BY p.place, p.created_at, p.id`

// messageColumns of m; aliveMessage: an application message ends with its time.
const (
	messageColumns = `m.id, m.sender_did, m.message_type, m.epoch, m.ciphertext, m.created_at, m.catbird_embed_type, m.catbird_embed_uri`
	aliveMessage   = `(m.message_type IS DISTINCT FROM 'app' OR m.expires_at IS NULL OR m.expires_at > now())`
)

// pageKind is where a page starts.
type pageKind uint8

const (
	newestPage pageKind = iota
	afterSeq
	afterID
)

// messagesText returns the statement for a page of n rows.
func messagesText(kind pageKind, n int) string {
	head := fill(headSQL, "current_seq", currentSeq, "unfolded", unfoldedOf)
	since, ours, old, dir := `SELECT 1 AS place`, "true", "true", "DESC"
	if kind != newestPage {
		dir = "ASC"
		ours = `m.seq >= (SELECT place FROM since) AND (m.seq, m.created_at, m.id) > (SELECT place, at, id FROM since)`
		old = `coalesce(m.seq, 0) >= (SELECT place FROM since) AND (coalesce(m.seq, 0), m.created_at, m.id) > (SELECT place, at, id FROM since)`
	}
	switch kind {
	case afterSeq:
		since = `SELECT $3::bigint AS place, 'infinity'::timestamptz AS at, ''::text AS id`
	case afterID:
		since = `SELECT coalesce(s.seq, 0) AS place, s.created_at AS at, s.id FROM messages s WHERE s.id = $3 AND s.convo_id = $1`
	}
	return fill(messagesSQL, "head", head, "since", since, "ours_after", ours, "old_after", old, "dir", dir,
		"columns", messageColumns, "alive", aliveMessage, "limit", strconv.Itoa(n), "bytes", strconv.Itoa(conversation.MaxAnswer))
}

// messagesTexts are the statements by where a page starts. Its length is in
// the text: a plan that knows the limit reads the index in order and stops.
var messagesTexts = [...]*texts{
	newestPage: upTo(conversation.MaxPage+1, func(n int) string { return messagesText(newestPage, n) }),
	afterSeq:   upTo(conversation.MaxPage+1, func(n int) string { return messagesText(afterSeq, n) }),
	afterID:    upTo(conversation.MaxPage+1, func(n int) string { return messagesText(afterID, n) }),
}

// messageRow is a row of a page; its id is nil in the row that stands for none.
type messageRow struct {
	persistence.Message
	id   *string
	cut  bool // left out for its size
	kind string
	at   pgtype.Timestamptz
}

// Messages returns a page of the log. Beside the limit, a page holds no more
// than conversation.MaxAnswer bytes of ciphertext, one message at least.
func (s *Store) Messages(ctx context.Context, q persistence.MessagesQuery) (persistence.MessagesPage, error) {
	if _, err := s.prepared(); err != nil {
		return persistence.MessagesPage{}, err
	}
	limit := max(1, min(q.Limit, conversation.MaxPage))
	kind, args := newestPage, []any{q.Convo, q.Caller}
	switch {
	case q.SinceID != "":
		kind, args = afterID, append(args, q.SinceID)
	case q.SinceSeq != nil:
		kind, args = afterSeq, append(args, *q.SinceSeq)
	}
	var page persistence.MessagesPage
	var there, known bool
	var since int
	var rows []messageRow
	err := s.many(ctx, s.main, "read messages", messagesTexts[kind].of(limit+1), args,
		func() { page, there, rows = persistence.MessagesPage{}, false, nil }, func(r pgx.Rows) error {
			var m messageRow
			err := r.Scan(&known, &page.LastSeq, &page.Unread, &since, &m.id, &m.Sender, &m.kind, &m.Epoch, &m.Seq, &m.Ciphertext,
				&m.at, &m.EmbedType, &m.EmbedURI)
			there = true
			if m.id != nil {
				m.ID, m.Kind, m.CreatedAt, m.cut = *m.id, conversation.Kind(m.kind), m.at.Time.UTC(), m.Ciphertext == nil
				rows = append(rows, m)
			}
			return err
		})
	switch {
	case err != nil:
		return persistence.MessagesPage{}, err
	case !there:
		return persistence.MessagesPage{}, notFound()
	case !known:
		return persistence.MessagesPage{}, notMember()
	case since == 0:
		return persistence.MessagesPage{}, conversation.Refuse(conversation.InvalidCursor, "sinceMessage: is no message of this conversation")
	}
	page.Messages, page.More = cut(rows, limit, kind)
	return page, nil
}

// cut takes what fits the page out of the rows, which are one more than the
// limit where the log goes on. It never ends between two rows of one seq, which
// a database from before may hold, so that a reader who goes on after that seq
// misses none.
func cut(rows []messageRow, limit int, kind pageKind) (messages []persistence.Message, more bool) {
	if kind == newestPage {
		for len(rows) > limit || (len(rows) > 0 && rows[0].cut) {
			rows = rows[1:]
		}
	} else {
		n := min(limit, len(rows))
		if i := slices.IndexFunc(rows[:n], func(m messageRow) bool { return m.cut }); i >= 0 {
			n = i
		}
		more = n < len(rows)
		if end := n; more && kind == afterSeq {
			for end > 0 && rows[end-1].Seq == rows[n].Seq {
				end--
			}
			if end > 0 {
				n = end
			}
		}
		rows = rows[:n]
	}
	messages = make([]persistence.Message, len(rows))
	for i := range rows {
		messages[i] = rows[i].Message
	}
	return messages, more
}

func notFound() error {
	return conversation.Refuse(conversation.ConvoNotFound, "there is no such conversation")
}

func notMember() error {
	return conversation.Refuse(conversation.NotMember, "the caller is not a member of this conversation")
}

const epochSQL = `
SELECT m.member_did IS NOT NULL AND m.left_at IS NULL, ` + currentEpoch + `
FROM conversations c LEFT JOIN members m ON m.convo_id = c.id AND m.member_did = $2
WHERE c.id = $1`

// Epoch returns the current epoch to an active member.
func (s *Store) Epoch(ctx context.Context, convo, caller string) (int64, error) {
	if _, err := s.prepared(); err != nil {
		return 0, err
	}
	var there, member bool
	var epoch int64
	err := s.many(ctx, s.main, "read the epoch", epochSQL, []any{convo, caller},
		func() { there = false }, func(r pgx.Rows) error {
			there = true
			return r.Scan(&member, &epoch)
		})
	switch {
	case err != nil:
		return 0, err
	case !there:
		return 0, notFound()
	case !member:
		return 0, notMember()
	}
	return epoch, nil
}

// commitsSQL is commits by epoch, ours and the old server's merged.
const commitsSQL = `
WITH h AS MATERIALIZED ({head})
SELECT h.known, p.id, coalesce(p.sender_did, ''), coalesce(p.epoch, 0), coalesce(p.seq, 0),
	CASE WHEN p.n = 1 OR p.total <= $5 THEN coalesce(p.ciphertext, ''::bytea) END, p.created_at
FROM h LEFT JOIN LATERAL (
	SELECT x.*, row_number() OVER (ORDER BY epoch, seq, created_at, id) AS n,
		sum(coalesce(octet_length(ciphertext), 0)) OVER (ORDER BY epoch, seq, created_at, id) AS total
	FROM (
		(SELECT m.id, m.sender_did, m.epoch, m.seq, m.ciphertext, m.created_at FROM messages m
		WHERE m.convo_id = $1 AND m.catbird_v IS NOT NULL AND m.message_type = 'commit'
			AND m.epoch >= $3 AND m.epoch <= $4 AND m.seq <= h.last
		ORDER BY m.epoch LIMIT {limit})
		UNION ALL
		(SELECT m.id, m.sender_did, m.epoch, coalesce(m.seq, 0), m.ciphertext, m.created_at FROM messages m
		WHERE m.convo_id = $1 AND m.catbird_v IS NULL AND m.message_type = 'commit'
			AND m.epoch >= $3 AND m.epoch <= $4 AND coalesce(m.seq, 0) <= h.last
			AND (h.left_at IS NULL OR coalesce(m.seq, 0) > 0 OR m.created_at <= h.left_at)
		ORDER BY m.epoch, m.created_at, m.id LIMIT {limit})
		ORDER BY epoch, seq, created_at, id LIMIT {limit}
	) x
) p ON h.known
ORDER BY p.epoch, p.seq, p.created_at, p.id`

func commitsText(n int) string {
	return fill(commitsSQL, "head", fill(headSQL, "current_seq", currentSeq, "unfolded", "0"), "limit", strconv.Itoa(n))
}

var commitsTexts = upTo(conversation.MaxCommits+1, commitsText)

// Commits returns commits by epoch.
func (s *Store) Commits(ctx context.Context, q persistence.CommitsQuery) (persistence.CommitsPage, error) {
	if _, err := s.prepared(); err != nil {
		return persistence.CommitsPage{}, err
	}
	limit := max(1, min(q.Limit, conversation.MaxCommits))
	to := int64(1<<63 - 1)
	if q.To != nil {
		to = *q.To
	}
	if q.From > to {
		return persistence.CommitsPage{}, conversation.Refuse(conversation.InvalidEpochRange, "fromEpoch: is after toEpoch")
	}
	var page persistence.CommitsPage
	var there, known bool
	n, complete := 0, true
	err := s.many(ctx, s.main, "read commits", commitsTexts.of(limit+1), []any{q.Convo, q.Caller, q.From, to, q.MaxBytes},
		func() { page, there, n, complete = persistence.CommitsPage{}, false, 0, true }, func(r pgx.Rows) error {
			m := persistence.Message{Kind: conversation.KindCommit}
			var id *string
			var at pgtype.Timestamptz
			if err := r.Scan(&known, &id, &m.Sender, &m.Epoch, &m.Seq, &m.Ciphertext, &at); err != nil {
				return err
			}
			there = true
			if id == nil {
				return nil
			}
			n++
			if complete = complete && n <= limit && m.Ciphertext != nil; !complete {
				page.More = true
				return nil
			}
			m.ID, m.CreatedAt = *id, at.Time.UTC()
			page.Commits = append(page.Commits, m)
			return nil
		})
	switch {
	case err != nil:
		return persistence.CommitsPage{}, err
	case !there:
		return persistence.CommitsPage{}, notFound()
	case !known:
		return persistence.CommitsPage{}, notMember()
	}
	return page, nil
}
