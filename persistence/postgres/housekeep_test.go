package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

var keepAll = persistence.Retention{Requests: time.Hour, Welcomes: time.Hour, Sessions: time.Hour}

func housekeep(t testing.TB, s *Store, r persistence.Retention, batch int) persistence.Removed {
	t.Helper()
	got, err := s.Housekeep(patience(t), r, batch)
	if err != nil {
		t.Fatalf("housekeep: %v", err)
	}
	return got
}

func integrity(t testing.TB, s *Store) persistence.Integrity {
	t.Helper()
	got, err := s.Integrity(patience(t), time.Time{})
	if err != nil {
		t.Fatalf("integrity: %v", err)
	}
	return got
}

// Holes that deleting by age leaves are no faults, holes beside them are.
func TestHolesLeftByAgeAreNoFaults(t *testing.T) {
	s, conn := fresh(t)
	fill := func(convo string) {
		t.Helper()
		newConvo(t, s, convo, "did:plc:alice")
		for i := range int64(5) { // messages at the odd seqs, commits at the even
			change(t, s, convo, "did:plc:alice", conversation.Send{Epoch: i, Ciphertext: []byte("m")})
			change(t, s, convo, "did:plc:alice", conversation.Commit{Commit: []byte("c")})
		}
	}
	for i, c := range []struct {
		name string
		do   string // to conversation $1
		want int64  // gaps
		mism int64
	}{
		{"expired, from the oldest", `UPDATE messages SET expires_at = now() - interval '1 hour' WHERE convo_id = $1 AND message_type = 'app' AND seq < 6`, 0, 0},
		{"expired, all", `UPDATE messages SET expires_at = now() - interval '1 hour' WHERE convo_id = $1 AND message_type = 'app'`, 0, 0},
		{"expired out of order", `UPDATE messages SET expires_at = now() - interval '1 hour' WHERE convo_id = $1 AND seq IN (3, 5)`, 0, 0},
		{"deleted by an operator, from the oldest", `DELETE FROM messages WHERE convo_id = $1 AND seq < 6`, 0, 0},
		{"messages deleted by an operator, from the oldest", `DELETE FROM messages WHERE convo_id = $1 AND message_type = 'app' AND seq < 6`, 0, 0},
		{"all deleted by an operator", `DELETE FROM messages WHERE convo_id = $1`, 0, 0},
		{"a message lost", `DELETE FROM messages WHERE convo_id = $1 AND seq = 5`, 1, 0},
		{"the newest lost", `DELETE FROM messages WHERE convo_id = $1 AND seq > 8`, 0, 1},
	} {
		convo := fmt.Sprintf("%02x", i)
		fill(convo)
		before := integrity(t, s)
		run(t, conn, c.do, convo)
		housekeep(t, s, keepAll, 100)
		after := integrity(t, s)
		if got := after.SequenceGaps.Count - before.SequenceGaps.Count; got != c.want {
			t.Errorf("%s: %d gaps more, want %d: %+v", c.name, got, c.want, after.SequenceGaps.Examples)
		}
		if got := after.EpochMismatches.Count - before.EpochMismatches.Count; got != c.mism {
			t.Errorf("%s: %d mismatches more, want %d: %+v", c.name, got, c.mism, after.EpochMismatches.Examples)
		}
		if after.MissingEpochs.Count != before.MissingEpochs.Count {
			t.Errorf("%s: missing epochs: %+v", c.name, after.MissingEpochs.Examples)
		}
		run(t, conn, `DELETE FROM conversations WHERE id = $1`, convo)
		run(t, conn, `DELETE FROM messages WHERE convo_id = $1`, convo)
	}
}

// Commits go only where an operator asks for it, batch by batch over all
// conversations, and never the newest of one.
func TestCommitRetention(t *testing.T) {
	s, conn := fresh(t)
	const convos, commits = 7, 5
	for i := range convos {
		convo := fmt.Sprintf("%02x", i)
		newConvo(t, s, convo, "did:plc:alice")
		for range commits {
			change(t, s, convo, "did:plc:alice", conversation.Commit{Commit: []byte("c")})
		}
	}
	run(t, conn, `UPDATE messages SET created_at = now() - interval '2 days'`)
	run(t, conn, `UPDATE messages SET catbird_v = NULL WHERE convo_id = '03'`) // as the old server's
	if got := housekeep(t, s, keepAll, 4); got.Commits != 0 {
		t.Errorf("%d commits are gone, and nobody asked", got.Commits)
	}
	r := keepAll
	r.Commits = 24 * time.Hour
	total := int64(0)
	for range 100 {
		got := housekeep(t, s, r, 4)
		if got.Commits > 4 {
			t.Fatalf("%d commits in a batch of 4", got.Commits)
		}
		if total += got.Commits; !got.More {
			break
		}
	}
	if want := int64(convos * (commits - 1)); total != want {
		t.Errorf("%d commits are gone, want %d", total, want)
	}
	if got := value[int](t, conn, `SELECT count(*)::int FROM messages m WHERE epoch = $1`, commits); got != convos {
		t.Errorf("%d newest commits are left, want %d", got, convos)
	}
	if got := integrity(t, s); !got.Clean() {
		t.Errorf("integrity: %+v", got)
	}
}

// Messages that a dead node left uncounted are counted before they go.
func TestExpiredMessagesAreCountedFirst(t *testing.T) {
	s, conn := fresh(t)
	ses := session(t, s)
	newConvo(t, s, "aa", "did:plc:alice", "did:plc:bob")
	c := hold(t, s, ses, "aa")
	if out, err := s.Append(patience(t), []*conversation.Unit{unitOf(t, c, request("aa", "did:plc:alice", text("x")))}); err != nil || out[0] != persistence.Appended {
		t.Fatal(out, err)
	}
	run(t, conn, `UPDATE messages SET expires_at = now() - interval '1 hour'`)
	got := housekeep(t, s, keepAll, 10)
	if got.Messages != 1 || got.Folded != 1 {
		t.Errorf("got %+v, want one message gone and one conversation counted", got)
	}
	v, err := s.Convo(patience(t), "aa", "did:plc:bob")
	if err != nil || v.Unread != 1 {
		t.Errorf("bob has %d unread, %v, want 1", v.Unread, err)
	}
}

// Housekeeping finds uncounted conversations wherever they are, a few at a time.
func TestHousekeepingGoesThroughAllConversations(t *testing.T) {
	s, conn := fresh(t)
	const n = 25 // more than one round of batch 1 looks at
	for i := range n {
		convo := fmt.Sprintf("%02x", i)
		newConvo(t, s, convo, "did:plc:alice", "did:plc:bob")
		change(t, s, convo, "did:plc:alice", text("x"))
	}
	run(t, conn, `UPDATE conversations SET catbird_folded_seq = 0`)
	run(t, conn, `UPDATE members SET catbird_counted_seq = 0, unread_count = 0`)
	folded := int64(0)
	for range 4 {
		folded += housekeep(t, s, keepAll, 1).Folded
	}
	if folded != n {
		t.Errorf("%d conversations are counted, want %d", folded, n)
	}
	if got := value[int](t, conn, `SELECT sum(unread_count)::int FROM members`); got != n {
		t.Errorf("%d unread in all, want %d", got, n)
	}
}

func TestHousekeepingIsOneNodeAtATime(t *testing.T) {
	s, conn := fresh(t)
	run(t, conn, `SELECT pg_advisory_lock($1)`, int64(housekeepingLock))
	if got := housekeep(t, s, keepAll, 10); !got.Busy {
		t.Errorf("got %+v, want busy", got)
	}
	run(t, conn, `SELECT pg_advisory_unlock($1)`, int64(housekeepingLock))
	for range 3 { // on whatever connection: the lock is given back each time
		if got := housekeep(t, s, keepAll, 10); got.Busy {
			t.Errorf("got %+v, want not busy", got)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Housekeep(ctx, keepAll, 10); err == nil {
		t.Error("a caller who has gone is served")
	}
	if got := housekeep(t, s, keepAll, 10); got.Busy {
		t.Errorf("got %+v after a caller who has gone", got)
	}
}

// Members whom the old server has added count our messages from joining on.
func TestOldMembersAreCountedFromJoiningOn(t *testing.T) {
	s, conn := fresh(t)
	newConvo(t, s, "aa", "did:plc:alice")
	change(t, s, "aa", "did:plc:alice", text("before"))
	run(t, conn, `INSERT INTO members (convo_id, member_did, joined_at, unread_count) VALUES ('aa', 'did:plc:old', now(), 4)`)
	unread := func() int64 {
		t.Helper()
		v, err := s.Convo(patience(t), "aa", "did:plc:old")
		if err != nil {
			t.Fatal(err)
		}
		return v.Unread
	}
	if got := unread(); got != 4 {
		t.Errorf("%d unread on joining, want what the old server says", got)
	}
	ses := session(t, s)
	c := hold(t, s, ses, "aa")
	if out, err := s.Append(patience(t), []*conversation.Unit{unitOf(t, c, request("aa", "did:plc:alice", text("after")))}); err != nil || out[0] != persistence.Appended {
		t.Fatal(out, err)
	}
	if got := unread(); got != 5 {
		t.Errorf("%d unread before the fold, want 5", got)
	}
	if err := s.Fold(patience(t), []string{"aa"}); err != nil {
		t.Fatal(err)
	}
	if got := unread(); got != 5 {
		t.Errorf("%d unread after the fold, want 5", got)
	}
}

// A fold of a large conversation whose members have all read up to somewhere
// else costs one sort, not one look at the log for each.
func TestFoldOfManyPlaces(t *testing.T) {
	s, conn := fresh(t)
	const members, messages = 1000, 2000
	newConvo(t, s, "aa", "did:plc:alice")
	run(t, conn, `INSERT INTO members (convo_id, member_did, joined_at, unread_count, catbird_counted_seq)
		SELECT 'aa', 'did:plc:' || n, now(), 0, n FROM generate_series(1, $1::int) n`, members)
	run(t, conn, `INSERT INTO messages (id, convo_id, sender_did, message_type, epoch, seq, ciphertext, created_at, catbird_v)
		SELECT 'm' || n, 'aa', 'did:plc:' || (n % 10 + 1), 'app', 0, n, '', now(), 1 FROM generate_series(1, $1::int) n`, messages)
	run(t, conn, `UPDATE conversations SET catbird_seq = $1 WHERE id = 'aa'`, messages)
	start := time.Now()
	if err := s.Fold(patience(t), []string{"aa"}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("the fold took %v", d)
	}
	wrong := value[int](t, conn, `SELECT count(*)::int FROM members m WHERE member_did <> 'did:plc:alice' AND unread_count <> (
		SELECT count(*) FROM messages g WHERE g.seq > substr(m.member_did, 9)::int AND g.sender_did <> m.member_did)`)
	if wrong != 0 {
		t.Errorf("%d of %d members are counted wrong", wrong, members)
	}
}
