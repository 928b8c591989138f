package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"catbird/internal/testenv"
)

// plainOld is exactly the four tables of before.
const plainOld = `
CREATE TABLE conversations (id text PRIMARY KEY, creator_did text, current_epoch integer DEFAULT 0, created_at timestamptz, updated_at timestamptz);
CREATE TABLE members (convo_id text, member_did text, joined_at timestamptz, left_at timestamptz, unread_count integer DEFAULT 0, PRIMARY KEY (convo_id, member_did));
CREATE TABLE messages (id text PRIMARY KEY, convo_id text, sender_did text, message_type text, epoch bigint, seq bigint, ciphertext bytea, created_at timestamptz, expires_at timestamptz);
CREATE TABLE welcome_messages (id text PRIMARY KEY, convo_id text, recipient_did text, welcome_data bytea, key_package_hash bytea, created_at timestamptz, consumed boolean DEFAULT false, consumed_at timestamptz);`

// fullOld is a fuller form: foreign keys, NOT NULL, unique indexes over all
// rows, checks, and columns whose names anybody would like.
const fullOld = `
CREATE TABLE users (did text PRIMARY KEY);
CREATE TABLE conversations (
	id text PRIMARY KEY CHECK (id ~ '^[0-9a-f]+$'), creator_did text NOT NULL, current_epoch integer NOT NULL DEFAULT 0,
	created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
	group_id text, cipher_suite text, name text, description text, group_info bytea, idempotency_key text);
CREATE UNIQUE INDEX conversations_idempotency ON conversations (idempotency_key);
CREATE TABLE members (
	convo_id text NOT NULL REFERENCES conversations (id) ON DELETE CASCADE, member_did text NOT NULL, joined_at timestamptz NOT NULL DEFAULT now(),
	left_at timestamptz, unread_count integer NOT NULL DEFAULT 0, user_did text, device_id text, is_admin boolean NOT NULL DEFAULT false,
	last_read_at timestamptz, PRIMARY KEY (convo_id, member_did));
CREATE INDEX members_active ON members (convo_id) WHERE left_at IS NULL;
CREATE TABLE messages (
	id text PRIMARY KEY, convo_id text NOT NULL REFERENCES conversations (id) ON DELETE CASCADE, sender_did text,
	message_type text NOT NULL DEFAULT 'app' CHECK (message_type IN ('app', 'commit')), epoch bigint NOT NULL DEFAULT 0,
	seq bigint NOT NULL DEFAULT 0, ciphertext bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz,
	msg_id text, embed_type text, idempotency_key text);
CREATE UNIQUE INDEX messages_msg_id ON messages (convo_id, msg_id);
CREATE UNIQUE INDEX messages_idempotency ON messages (idempotency_key);
CREATE INDEX messages_convo ON messages (convo_id, created_at);
CREATE TABLE welcome_messages (
	id text PRIMARY KEY, convo_id text NOT NULL REFERENCES conversations (id) ON DELETE CASCADE, recipient_did text NOT NULL,
	welcome_data bytea NOT NULL, key_package_hash bytea, created_at timestamptz NOT NULL DEFAULT now(),
	consumed boolean NOT NULL DEFAULT false, consumed_at timestamptz, state text DEFAULT 'available' CHECK (state IN ('available', 'in_flight', 'consumed')),
	fetched_at timestamptz);
CREATE UNIQUE INDEX welcome_unconsumed ON welcome_messages (convo_id, recipient_did, key_package_hash) WHERE consumed = false;
CREATE TABLE key_packages (
	id serial PRIMARY KEY, did text NOT NULL, cipher_suite text NOT NULL, key_data bytea NOT NULL, key_package_hash text,
	created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL, consumed boolean NOT NULL DEFAULT false, consumed_at timestamptz);
CREATE TABLE commits (id text); CREATE TABLE cursors (id text); CREATE TABLE envelopes (id text); CREATE TABLE idempotency_cache (key text);
CREATE TABLE goose_db_version (id int);`

// filenodes returns what holds each table's rows: it changes when a table is
// written anew.
func filenodes(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	return value[string](t, conn, `SELECT string_agg(relname || '=' || relfilenode, ',' ORDER BY relname) FROM pg_class
		WHERE relname IN ('conversations', 'members', 'messages', 'welcome_messages', 'key_packages')`)
}

func TestMigrationAddsOnly(t *testing.T) {
	for name, ddl := range map[string]string{"Plain": plainOld, "Full": fullOld} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Postgres(t)
			conn := connect(t, url)
			run(t, conn, ddl)
			fillOld(t, conn)
			nodes := filenodes(t, conn)
			columns := value[string](t, conn, columnsOf, false)
			rows := value[string](t, conn, digestOf)

			s := prepare(t, url)
			if got := filenodes(t, conn); got != nodes {
				t.Errorf("a table was written anew: %s, was %s", got, nodes)
			}
			if got := value[string](t, conn, columnsOf, false); got != columns {
				t.Errorf("columns of before have changed: %s, were %s", got, columns)
			}
			if got := value[string](t, conn, digestOf); got != rows {
				t.Errorf("rows of before have changed")
			}
			if got := value[int](t, conn, `SELECT count(*)::int FROM pg_attribute WHERE attname LIKE 'catbird\_%' AND attnotnull
				AND attrelid IN ('conversations'::regclass, 'members'::regclass, 'messages'::regclass, 'welcome_messages'::regclass)`); got != 0 {
				t.Errorf("%d columns that the old server does not fill are NOT NULL", got)
			}
			if err := s.Prepare(patience(t)); err != nil {
				t.Errorf("prepare again: %v", err)
			}
		})
	}
}

const (
	columnsOf = `SELECT string_agg(attrelid::regclass || '.' || attname || ' ' || format_type(atttypid, atttypmod) || attnotnull, ',' ORDER BY attrelid, attnum)
		FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attname LIKE 'catbird\_%' = $1
		AND attrelid IN ('conversations'::regclass, 'members'::regclass, 'messages'::regclass, 'welcome_messages'::regclass)`
	digestOf = `SELECT md5(string_agg(x, '|' ORDER BY x)) FROM (
		SELECT id || creator_did || current_epoch AS x FROM conversations UNION ALL
		SELECT convo_id || member_did || unread_count || coalesce(left_at::text, '-') FROM members UNION ALL
		SELECT id || convo_id || coalesce(sender_did, '') || epoch || coalesce(seq, -1) || ciphertext FROM messages UNION ALL
		SELECT id || recipient_did || consumed FROM welcome_messages) r`
)

// Conversations of the old server: a whole one, and three that are damaged.
const (
	oldWhole   = "00000000000000000000000000000001"
	oldForked  = "00000000000000000000000000000002" // two commits at one epoch, the row behind
	oldNoSeq   = "00000000000000000000000000000003" // commits without seq, senders system and null
	oldSkipped = "00000000000000000000000000000004" // the row's epoch is ahead
)

// fillOld writes rows as the old server does.
func fillOld(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	nullSeq := "NULL"
	if value[bool](t, conn, `SELECT attnotnull FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname = 'seq'`) {
		nullSeq = "0"
	}
	text := strings.ReplaceAll(`
INSERT INTO conversations (id, creator_did, current_epoch, created_at, updated_at) VALUES
	('{1}', 'did:plc:alice', 2, now() - interval '3 days', now() - interval '1 day'),
	('{2}', 'did:plc:alice', 1, now() - interval '3 days', now() - interval '1 day'),
	('{3}', 'did:plc:alice', 3, now() - interval '3 days', now() - interval '1 day'),
	('{4}', 'did:plc:alice', 9, now() - interval '3 days', now() - interval '1 day');
INSERT INTO members (convo_id, member_did, joined_at, left_at, unread_count)
	SELECT c.id, d.did, c.created_at, NULL, d.unread FROM conversations c,
		(VALUES ('did:plc:alice', 0), ('did:plc:bob', 2), ('did:plc:carol#phone', 3)) d (did, unread);
INSERT INTO members (convo_id, member_did, joined_at, left_at) VALUES ('{1}', 'did:plc:dave', now() - interval '3 days', now() - interval '2 days 11 hours');
INSERT INTO messages (id, convo_id, sender_did, message_type, epoch, seq, ciphertext, created_at, expires_at) VALUES
	('11', '{1}', 'did:plc:alice', 'commit', 1, 1, 'c1', now() - interval '3 days', NULL),
	('12', '{1}', 'did:plc:bob', 'app', 1, 2, 'm1', now() - interval '60 hours', now() + interval '9 days'),
	('13', '{1}', 'did:plc:alice', 'app', 1, 3, 'm2', now() - interval '58 hours', now() + interval '9 days'),
	('14', '{1}', 'did:plc:bob', 'commit', 2, 4, 'c2', now() - interval '50 hours', NULL),
	('15', '{1}', 'did:plc:alice', 'app', 2, 5, 'gone', now() - interval '49 hours', now() - interval '1 hour'),
	('16', '{1}', 'did:plc:alice', 'app', 2, 6, 'm3', now() - interval '48 hours', now() + interval '9 days'),
	('21', '{2}', 'did:plc:alice', 'commit', 1, 1, 'c1', now() - interval '3 days', NULL),
	('22', '{2}', 'did:plc:alice', 'commit', 2, 2, 'c2', now() - interval '2 days', NULL),
	('23', '{2}', 'did:plc:bob', 'commit', 2, 2, 'c2 too', now() - interval '2 days' + interval '1 second', NULL),
	('24', '{2}', 'did:plc:bob', 'app', 2, 3, 'm1', now() - interval '1 day', NULL),
	('31', '{3}', NULL, 'commit', 1, {null}, '', now() - interval '70 hours', NULL),
	('32', '{3}', 'system', 'commit', 2, 0, '', now() - interval '69 hours', NULL),
	('33', '{3}', 'did:plc:alice', 'commit', 3, 0, '', now() - interval '68 hours', NULL),
	('34', '{3}', 'did:plc:bob', 'app', 3, 1, 'm1', now() - interval '67 hours', NULL),
	('41', '{4}', 'did:plc:alice', 'commit', 1, 1, 'c1', now() - interval '3 days', NULL),
	('42', '{4}', 'did:plc:alice', 'commit', 4, 3, 'c4', now() - interval '2 days', NULL);
INSERT INTO welcome_messages (id, convo_id, recipient_did, welcome_data, key_package_hash, created_at, consumed) VALUES
	('w1', '{1}', 'did:plc:bob', 'old welcome', NULL, now() - interval '3 days', false),
	('w2', '{1}', 'did:plc:bob', 'welcome', '\x01', now() - interval '49 hours 30 minutes', false);`, "{null}", nullSeq)
	for i, id := range []string{oldWhole, oldForked, oldNoSeq, oldSkipped} {
		text = strings.ReplaceAll(text, fmt.Sprintf("{%d}", i+1), id)
	}
	run(t, conn, text)
}
