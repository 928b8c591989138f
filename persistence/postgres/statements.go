package postgres

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// statements are the SQL texts that depend on what the tables of this database
// are like. Each is prepared once on each connection.
type statements struct {
	lockKeyPackages    string
	consumeKeyPackages string
	core               string
	upsertMembers      string
	insertWelcomes     string
	insertConversation string
	convo              string
	convos             string
	fetchWelcome       string
	confirmWelcome     string
	publishKeyPackage  string
	keyPackageThere    string
	findKeyPackages    string
	purgeKeyPackages   string
	purgeWelcomes      string
}

func newStatements(sch schema) *statements {
	return &statements{
		lockKeyPackages:    sch.lockKeyPackagesSQL(),
		consumeKeyPackages: sch.consumeKeyPackagesSQL(),
		core:               sch.coreSQL(),
		upsertMembers:      sch.upsertMembersSQL(),
		insertWelcomes:     sch.insertWelcomesSQL(),
		insertConversation: sch.insertConversationSQL(),
		convo:              sch.convoSQL(),
		convos:             sch.convosSQL(),
		fetchWelcome:       sch.fetchWelcomeSQL(),
		confirmWelcome:     sch.confirmWelcomeSQL(),
		publishKeyPackage:  sch.publishKeyPackageSQL(),
		keyPackageThere:    sch.keyPackageThereSQL(),
		findKeyPackages:    sch.findKeyPackagesSQL(),
		purgeKeyPackages:   sch.purgeKeyPackagesSQL(),
		purgeWelcomes:      sch.purgeWelcomesSQL(),
	}
}

// fill replaces {name} in text by the pair's value, as often as it occurs.
func fill(text string, pairs ...string) string {
	if len(pairs)%2 != 0 {
		panic("postgres: a name without a value")
	}
	for i := 0; i < len(pairs); i += 2 {
		text = strings.ReplaceAll(text, "{"+pairs[i]+"}", pairs[i+1])
	}
	if strings.ContainsRune(text, '{') {
		panic(fmt.Sprintf("postgres: a name is not filled in: %s", text))
	}
	return text
}

// texts keeps statements that are made of a number, each made once.
type texts struct {
	made []atomic.Pointer[string]
	text func(n int) string
}

// upTo returns texts for the numbers 0 to n.
func upTo(n int, text func(n int) string) *texts {
	return &texts{made: make([]atomic.Pointer[string], n+1), text: text}
}

func (t *texts) of(n int) string {
	if text := t.made[n].Load(); text != nil {
		return *text
	}
	text := t.text(n)
	t.made[n].Store(&text)
	return text
}

// lockSQL is the first statement of whatever changes conversations.
const lockSQL = `SELECT 1 FROM conversations WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE`

// written says that an earlier statement of this transaction has written c's
// row: then the row is this transaction's own version.
const written = `c.xmin = pg_current_xact_id()::xid`

// Fragments on c, a row of conversations. Each is an index probe.
const (
	maxMarkedSeq = `(SELECT max(m.seq) FROM messages m WHERE m.convo_id = c.id AND m.catbird_v IS NOT NULL)`
	maxOldSeq    = `(SELECT max(coalesce(m.seq, 0)) FROM messages m WHERE m.convo_id = c.id AND m.catbird_v IS NULL)`
	maxOurEpoch  = `(SELECT max(m.epoch) FROM messages m WHERE m.convo_id = c.id AND m.catbird_v IS NOT NULL AND m.message_type = 'commit')`
	maxOldEpoch  = `(SELECT max(m.epoch) FROM messages m WHERE m.convo_id = c.id AND m.catbird_v IS NULL AND m.message_type = 'commit')`

	// currentEpoch and currentSeq go on from whatever is in the log: the old
	// server writes a commit and the epoch one after the other, and never our
	// seq.
	currentEpoch = `greatest(coalesce(c.current_epoch, 0), ` + maxOurEpoch + `, ` + maxOldEpoch + `)::bigint`
	currentSeq   = `greatest(coalesce(c.catbird_seq, 0), ` + maxMarkedSeq + `, ` + maxOldSeq + `)::bigint`
)

// unfoldedOf counts what members.unread_count does not hold yet, for m, a row of
// members. Rows of the old server are counted by it; a member it has added
// counts ours from joining on.
const unfoldedOf = `(SELECT count(*) FROM messages g WHERE g.convo_id = m.convo_id AND g.catbird_v IS NOT NULL
	AND g.message_type = 'app' AND g.seq > coalesce(m.catbird_counted_seq, 0)
	AND (m.catbird_counted_seq IS NOT NULL OR g.created_at > m.joined_at)
	AND g.sender_did IS DISTINCT FROM m.member_did)`
