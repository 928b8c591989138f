package postgres

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"catbird/conversation"
	"catbird/internal/testenv"
	"catbird/persistence"
)

// oldSend is what the old server does to send a message: its next seq from
// MAX + 1, without a lock; others' unread counts by one.
func oldSend(t testing.TB, conn *pgx.Conn, convo, sender string) {
	t.Helper()
	id := newID()
	run(t, conn, `INSERT INTO messages (id, convo_id, sender_did, message_type, epoch, seq, ciphertext, created_at)
		SELECT $1, $2, $3, 'app', c.current_epoch, coalesce((SELECT max(seq) FROM messages WHERE convo_id = $2), 0) + 1, 'old', now()
		FROM conversations c WHERE c.id = $2`, id, convo, sender)
	run(t, conn, `UPDATE members SET unread_count = unread_count + 1 WHERE convo_id = $1 AND member_did <> $2 AND left_at IS NULL`, convo, sender)
}

// oldCommit is what it does to commit: a row without a seq, then the epoch.
func oldCommit(t testing.TB, conn *pgx.Conn, convo, sender string, bytes []byte) {
	t.Helper()
	epoch := value[int64](t, conn, `SELECT current_epoch FROM conversations WHERE id = $1`, convo) + 1
	run(t, conn, `INSERT INTO messages (id, convo_id, sender_did, message_type, epoch, ciphertext, created_at)
		VALUES ($1, $2, $3, 'commit', $4, $5, now())`, newID(), convo, sender, epoch, bytes)
	run(t, conn, `UPDATE conversations SET current_epoch = $2, updated_at = now() WHERE id = $1`, convo, epoch)
}

func old(t *testing.T, ddl string) (*Store, *pgx.Conn) {
	t.Helper()
	url := testenv.Postgres(t)
	conn := connect(t, url)
	run(t, conn, ddl)
	fillOld(t, conn)
	return prepare(t, url), conn
}

func page(t *testing.T, s *Store, q persistence.MessagesQuery) persistence.MessagesPage {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 50
	}
	p, err := s.Messages(patience(t), q)
	if err != nil {
		t.Fatalf("messages: %v", err)
	}
	return p
}

func ids(messages []persistence.Message) []string {
	out := []string{}
	for _, m := range messages {
		out = append(out, m.ID)
	}
	return out
}

func TestOldRowsAreServed(t *testing.T) {
	for name, ddl := range map[string]string{"Plain": plainOld, "Full": fullOld} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := old(t, ddl)
			zero := int64(0)
			for _, c := range []struct {
				what string
				q    persistence.MessagesQuery
				want []string
				last int64
			}{
				{"whole, newest", persistence.MessagesQuery{Convo: oldWhole, Caller: "did:plc:bob"}, []string{"11", "12", "13", "14", "16"}, 6},
				{"whole, two", persistence.MessagesQuery{Convo: oldWhole, Caller: "did:plc:bob", Limit: 2}, []string{"14", "16"}, 6},
				{"whole, after an id", persistence.MessagesQuery{Convo: oldWhole, Caller: "did:plc:bob", SinceID: "12", Limit: 2}, []string{"13", "14"}, 6},
				{"whole, who left", persistence.MessagesQuery{Convo: oldWhole, Caller: "did:plc:dave"}, []string{"11", "12"}, 2},
				{"forked, all", persistence.MessagesQuery{Convo: oldForked, Caller: "did:plc:bob"}, []string{"21", "22", "23", "24"}, 3},
				{"forked, never between two of a seq", persistence.MessagesQuery{Convo: oldForked, Caller: "did:plc:bob", SinceSeq: &zero, Limit: 2}, []string{"21"}, 3},
				{"forked, between two of a seq by id", persistence.MessagesQuery{Convo: oldForked, Caller: "did:plc:bob", SinceID: "22"}, []string{"23", "24"}, 3},
				{"no seq, newest", persistence.MessagesQuery{Convo: oldNoSeq, Caller: "did:plc:bob"}, []string{"31", "32", "33", "34"}, 1},
				{"no seq, two", persistence.MessagesQuery{Convo: oldNoSeq, Caller: "did:plc:bob", Limit: 2}, []string{"33", "34"}, 1},
				{"no seq, from the start", persistence.MessagesQuery{Convo: oldNoSeq, Caller: "did:plc:bob", SinceSeq: &zero}, []string{"34"}, 1},
				{"no seq, after one without", persistence.MessagesQuery{Convo: oldNoSeq, Caller: "did:plc:bob", SinceID: "32"}, []string{"33", "34"}, 1},
			} {
				p := page(t, s, c.q)
				if got := ids(p.Messages); !slices.Equal(got, c.want) || p.LastSeq != c.last {
					t.Errorf("%s: got %v, last %d, want %v, last %d", c.what, got, p.LastSeq, c.want, c.last)
				}
			}
			for convo, want := range map[string][]string{
				oldWhole: {"11", "14"}, oldForked: {"21", "22", "23"}, oldNoSeq: {"31", "32", "33"}, oldSkipped: {"41", "42"},
			} {
				p, err := s.Commits(patience(t), persistence.CommitsQuery{Convo: convo, Caller: "did:plc:bob", Limit: 50, MaxBytes: 1 << 20})
				if err != nil || !slices.Equal(ids(p.Commits), want) {
					t.Errorf("commits of %s: got %v, %v, want %v", convo, ids(p.Commits), err, want)
				}
			}
			w, err := s.Welcome(patience(t), oldWhole, "did:plc:bob")
			if err != nil || string(w.Data) != "welcome" || w.Epoch != 2 || w.Seq != 4 {
				t.Errorf("welcome: got %+v, %v, want that of the commit at epoch 2, seq 4", w, err)
			}
			v, err := s.Convo(patience(t), oldWhole, "did:plc:bob")
			if err != nil || v.Unread != 2 || v.Epoch != 2 || len(v.Members) != 3 || v.LastMessageAt.IsZero() {
				t.Errorf("conversation: got %+v, %v", v, err)
			}
		})
	}
}

// What is damaged is counted on from, and not made worse.
func TestOldDamageIsCountedOnFrom(t *testing.T) {
	for name, ddl := range map[string]string{"Plain": plainOld, "Full": fullOld} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := old(t, ddl)
			ctx := patience(t)
			before, err := s.Integrity(ctx, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if before.DuplicateEpochs.Count != 1 || before.MissingEpochs.Count != 2 || before.SequenceGaps.Count != 1+3 || before.EpochMismatches.Count != 2 {
				t.Errorf("integrity: %+v", before)
			}
			for convo, want := range map[string]struct{ epoch, seq int64 }{
				oldWhole: {2, 6}, oldForked: {2, 3}, oldNoSeq: {3, 1}, oldSkipped: {9, 3},
			} {
				epoch, err := s.Epoch(ctx, convo, "did:plc:bob")
				if err != nil || epoch != want.epoch {
					t.Errorf("epoch of %s: got %d, %v, want %d", convo, epoch, err, want.epoch)
				}
				got := change(t, s, convo, "did:plc:bob", conversation.Send{Epoch: want.epoch, Ciphertext: []byte("new")})
				if got.Seq != want.seq+1 {
					t.Errorf("next seq of %s: got %d, want %d", convo, got.Seq, want.seq+1)
				}
				got = change(t, s, convo, "did:plc:alice", conversation.Commit{Commit: []byte("next")})
				if got.Epoch != want.epoch+1 || got.Seq != want.seq+2 {
					t.Errorf("next commit of %s: got %+v, want epoch %d", convo, got, want.epoch+1)
				}
			}
			after, err := s.Integrity(ctx, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			// The epochs between 4 and 9, which the row had skipped, are told now.
			if after.DuplicateEpochs.Count != 1 || after.MissingEpochs.Count != 2+5 || after.SequenceGaps.Count != 1+3 || after.EpochMismatches.Count != 0 {
				t.Errorf("integrity afterwards: %+v", after)
			}
		})
	}
}

// Back to the old server and forward again: its plain statements work beside
// our rows, and ours beside its.
func TestOldServerWorksAfterwards(t *testing.T) {
	for name, ddl := range map[string]string{"Plain": plainOld, "Full": fullOld} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, conn := old(t, ddl)
			send := func(caller string) conversation.Result {
				t.Helper()
				epoch, err := s.Epoch(patience(t), oldWhole, caller)
				if err != nil {
					t.Fatal(err)
				}
				return change(t, s, oldWhole, caller, conversation.Send{Epoch: epoch, Ciphertext: []byte("x")})
			}
			unread := func(did string) int64 {
				t.Helper()
				v, err := s.Convo(patience(t), oldWhole, did)
				if err != nil {
					t.Fatal(err)
				}
				return v.Unread
			}
			send("did:plc:alice") // 7
			for range 2 {
				oldSend(t, conn, oldWhole, "did:plc:alice") // 8, 10
				oldCommit(t, conn, oldWhole, "did:plc:alice", []byte("old commit"))
				got := change(t, s, oldWhole, "did:plc:alice", conversation.Commit{Commit: []byte("c")})
				if want := value[int64](t, conn, `SELECT max(seq) FROM messages WHERE convo_id = $1`, oldWhole); got.Seq != want {
					t.Fatalf("seq %d, want the last, %d", got.Seq, want)
				}
			}
			if got := send("did:plc:bob"); got.Seq != 12 || got.Epoch != 6 {
				t.Errorf("got %+v, want seq 12 at epoch 6", got)
			}
			if got := unread("did:plc:bob"); got != 2+1+2 {
				t.Errorf("bob has %d unread, want those of before, ours and the old server's", got)
			}
			if got := unread("did:plc:alice"); got != 1 {
				t.Errorf("alice has %d unread, want 1", got)
			}
			if err := s.ResetUnread(patience(t), oldWhole, "did:plc:bob", 9); err != nil {
				t.Fatal(err)
			}
			if got := unread("did:plc:bob"); got != 1 {
				t.Errorf("bob has %d unread after seq 9, want the old server's at 10", got)
			}
			found, err := s.Integrity(patience(t), time.Time{})
			if err != nil || found.DuplicateEpochs.Count != 1 || found.MissingEpochs.Count != 2 {
				t.Errorf("integrity: %+v, %v", found, err)
			}
		})
	}
}

// The old server writes no flag when a commit is MLS; its row says so.
func TestOldCommitMakesMLSGroup(t *testing.T) {
	s, conn := old(t, fullOld)
	group := []byte{0, 1, 0, 2, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 3}
	leave := request(oldWhole, "did:plc:bob", conversation.Leave{})
	oldCommit(t, conn, oldWhole, "did:plc:alice", append([]byte{0, 1, 0, 9}, "no MLS"...))
	oldCommit(t, conn, oldWhole, "did:plc:alice", group)
	session := persistence.Session{ID: newID(), Node: "n", TTL: time.Minute}
	if err := s.StartSession(patience(t), session); err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(patience(t), session.ID, []string{oldWhole, oldForked})
	if err != nil || !got[0].State.MLS || got[1].State.MLS || got[0].State.Epoch != 4 {
		t.Fatalf("claim: %+v, %v", got, err)
	}
	if got[0].Unfolded {
		t.Error("there is something to fold in a conversation without a row of ours")
	}
	if err := s.EndSession(patience(t), session.ID); err != nil {
		t.Fatal(err)
	}
	res, err := s.Direct(patience(t), "", leave, envNow())
	if err != nil || res.Epoch != 4 {
		t.Fatalf("leaving an MLS group without a commit: %+v, %v, want the epoch as it is", res, err)
	}
}

// The columns that the old server reads are filled where they are.
func TestOldColumnsAreFilled(t *testing.T) {
	s, conn := old(t, fullOld)
	const convo = "aa"
	newConvo(t, s, convo, "did:plc:alice", "did:plc:bob#phone")
	if got := value[string](t, conn, `SELECT group_id FROM conversations WHERE id = $1`, convo); got != convo {
		t.Errorf("group_id %q", got)
	}
	for did, want := range map[string]string{"did:plc:alice": "did:plc:alice true", "did:plc:bob#phone": "did:plc:bob false"} {
		got := value[string](t, conn, `SELECT user_did || ' ' || is_admin FROM members WHERE convo_id = $1 AND member_did = $2`, convo, did)
		if got != want {
			t.Errorf("members of %s: %q, want %q", did, got, want)
		}
	}
	change(t, s, convo, "did:plc:alice", conversation.AddMembers{DIDs: []string{"did:plc:carol"}, Welcome: []byte("w")})
	state := func() string {
		t.Helper()
		return value[string](t, conn, `SELECT state || (fetched_at IS NOT NULL) || consumed FROM welcome_messages WHERE convo_id = $1`, convo)
	}
	if got := state(); got != "availablefalsefalse" {
		t.Errorf("a new welcome is %s", got)
	}
	if _, err := s.Welcome(patience(t), convo, "did:plc:carol"); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != "in_flighttruefalse" {
		t.Errorf("a fetched welcome is %s", got)
	}
	for _, c := range []struct {
		success bool
		want    string
	}{{true, "consumedtruetrue"}, {true, "consumedtruetrue"}, {false, "availabletruefalse"}, {false, "availabletruefalse"}} {
		if err := s.ConfirmWelcome(patience(t), convo, "did:plc:carol", c.success); err != nil {
			t.Fatal(err)
		}
		if got := state(); got != c.want {
			t.Errorf("confirmed with %v: %s, want %s", c.success, got, c.want)
		}
	}
	if got := value[int](t, conn, `SELECT count(*)::int FROM messages WHERE catbird_v IS NOT NULL AND (seq IS NULL OR ciphertext IS NULL OR msg_id IS NOT NULL OR idempotency_key IS NOT NULL)`); got != 0 {
		t.Errorf("%d rows of ours use columns that they must not, or leave out those they must fill", got)
	}
}

func TestKeyPackageTables(t *testing.T) {
	newForm := `CREATE TABLE key_packages (id text PRIMARY KEY, owner_did text NOT NULL, cipher_suite text NOT NULL, key_package bytea NOT NULL)`
	demanding := `CREATE TABLE key_packages (id serial PRIMARY KEY, did text, cipher_suite text, key_data bytea, key_package_hash text,
		created_at timestamptz, expires_at timestamptz, consumed boolean, consumed_at timestamptz, device text NOT NULL)`
	for name, c := range map[string]struct{ ddl, table string }{
		"Old": {fullOld, "key_packages"}, "None": {plainOld, "catbird_key_packages"},
		"NewForm": {plainOld + newForm, "catbird_key_packages"}, "DemandsMore": {plainOld + demanding, "catbird_key_packages"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, conn := old(t, c.ddl)
			k := persistence.KeyPackage{DID: "did:plc:zoe", CipherSuite: suite, Data: []byte("bytes"), Expires: time.Now().Add(time.Hour)}
			r := &conversation.Request{ID: newID(), Caller: k.DID}
			if err := s.PublishKeyPackage(patience(t), r, k, 100); err != nil {
				t.Fatal(err)
			}
			if got := value[int](t, conn, fmt.Sprintf(`SELECT count(*)::int FROM %s`, c.table)); got != 1 {
				t.Errorf("%d rows in %s, want 1", got, c.table)
			}
		})
	}
}

// The old server's hashes may be missing, or in capitals.
func TestOldKeyPackagesAreFoundAndUsedUp(t *testing.T) {
	s, conn := old(t, fullOld)
	run(t, conn, `INSERT INTO key_packages (did, cipher_suite, key_data, key_package_hash, expires_at) VALUES
		('did:plc:zoe', $1, 'one', NULL, now() + interval '1 day'),
		('did:plc:zoe', $1, 'two', upper(encode(sha256('two'), 'hex')), now() + interval '1 day'),
		('did:plc:zoe', $1, 'ended', NULL, now() - interval '1 day'),
		('did:plc:zoe', $1, 'used', NULL, now() + interval '1 day')`, suite)
	run(t, conn, `UPDATE key_packages SET consumed = true WHERE key_data = 'used'`)
	find := func() []persistence.KeyPackage {
		t.Helper()
		got, err := s.FindKeyPackages(patience(t), persistence.KeyPackagesQuery{DIDs: []string{"did:plc:zoe"}, PerDID: 5, MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := find()
	if len(got) != 2 {
		t.Fatalf("found %d key packages, want 2", len(got))
	}
	refs := []conversation.KeyPackageRef{{DID: "did:plc:zoe", Hash: got[0].Hash}, {DID: "did:plc:zoe", Hash: got[1].Hash}}
	change(t, s, oldWhole, "did:plc:alice", conversation.AddMembers{DIDs: []string{"did:plc:zoe"}, KeyPackages: refs})
	if got := find(); len(got) != 0 {
		t.Errorf("%d key packages are left, want none", len(got))
	}
	for _, data := range []string{"one", "two", "used"} {
		k := persistence.KeyPackage{DID: "did:plc:zoe", CipherSuite: suite, Data: []byte(data), Expires: time.Now().Add(time.Hour)}
		if err := s.PublishKeyPackage(context.Background(), &conversation.Request{ID: newID(), Caller: k.DID}, k, 1); err != nil {
			t.Errorf("publish %q again: %v", data, err)
		}
	}
	if got := find(); len(got) != 0 {
		t.Errorf("used up bytes may be used again: %d", len(got))
	}
}
