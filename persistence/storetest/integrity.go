package storetest

import (
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

var integrityTests = []test{
	{name: "IntegrityOfWhatTheStoreWrote", alone: true, run: integrityOfWhatTheStoreWrote},
	{name: "IntegrityFindsDamage", alone: true, run: integrityFindsDamage},
	{name: "IntegrityLooksSince", alone: true, run: integrityLooksSince},
	{name: "IntegrityOfWhatAgeHasTaken", alone: true, run: integrityOfWhatAgeHasTaken},
	{name: "IntegrityTenExamples", alone: true, run: integrityTenExamples},
	{name: "DamagedLogsAreServed", alone: true, run: damagedLogsAreServed},
}

func integrityOfWhatTheStoreWrote(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	f.clean("with nothing")
	f.convo(alice)
	h := f.mlsHeld(alice, bob)
	h.append(f.request(h.convo, bob, send(1, "1")), f.request(h.convo, bob, conversation.Leave{}))
	f.moved(3, alice, bob)
	f.clean("with conversations")
}

// damage is one conversation of alice's: messages and commits in turn, seq 1 to
// 8, epoch 4 at the end.
func (f *fixture) damageable(alice string) (convo string, ids []string) {
	f.t.Helper()
	convo = f.convo(alice)
	for i := range int64(4) {
		ids = append(ids, f.direct(convo, alice, send(i, "m")).ID)
		ids = append(ids, f.direct(convo, alice, conversation.Commit{Commit: []byte("c")}).ID)
	}
	return convo, ids
}

func (f *fixture) rawMessage(convo, sender string, kind conversation.Kind, epoch int64, seq *int64) {
	f.t.Helper()
	f.ok(f.Raw.InsertMessage(f.ctx, RawMessage{
		ID: newID(), Convo: convo, Sender: sender, Kind: kind, Epoch: epoch, Seq: seq, Ciphertext: []byte("raw"), At: now(),
	}), "insert a row")
}

func (f *fixture) rawDelete(id string) {
	f.t.Helper()
	f.ok(f.Raw.DeleteMessage(f.ctx, id), "delete a row")
}

func integrityFindsDamage(t *testing.T, f *fixture) {
	alice := f.did("alice")
	type want struct{ duplicates, missing, gaps, mismatches bool }
	for _, c := range []struct {
		name   string
		damage func(convo string, ids []string)
		want   want
	}{
		{"two commits at one epoch", func(convo string, _ []string) {
			f.rawMessage(convo, alice, conversation.KindCommit, 2, ptr[int64](9))
			f.ok(f.Raw.SetVersion(f.ctx, convo, 4, 9), "move the row along")
		}, want{duplicates: true}},
		{"a commit is missing", func(_ string, ids []string) { f.rawDelete(ids[3]) }, want{missing: true, gaps: true}},
		{"a message is missing", func(_ string, ids []string) { f.rawDelete(ids[4]) }, want{gaps: true}},
		{"a seq is there twice", func(convo string, _ []string) {
			f.rawMessage(convo, alice, conversation.KindApp, 2, ptr[int64](5))
		}, want{gaps: true}},
		{"a row without seq", func(convo string, _ []string) {
			f.rawMessage(convo, alice, conversation.KindApp, 2, nil)
		}, want{gaps: true}},
		{"the row is ahead by an epoch", func(convo string, _ []string) {
			f.ok(f.Raw.SetVersion(f.ctx, convo, 5, 8), "damage the row")
		}, want{mismatches: true}},
		{"the row is an epoch behind", func(convo string, _ []string) {
			f.ok(f.Raw.SetVersion(f.ctx, convo, 3, 8), "damage the row")
		}, want{mismatches: true}},
		{"the row's seq is ahead", func(convo string, _ []string) {
			f.ok(f.Raw.SetVersion(f.ctx, convo, 4, 9), "damage the row")
		}, want{mismatches: true}},
	} {
		convo, ids := f.damageable(alice)
		before := f.integrity(time.Time{})
		c.damage(convo, ids)
		after := f.integrity(time.Time{})
		for _, kind := range []struct {
			name          string
			before, after persistence.Finding
			want          bool
		}{
			{"duplicate epochs", before.DuplicateEpochs, after.DuplicateEpochs, c.want.duplicates},
			{"missing epochs", before.MissingEpochs, after.MissingEpochs, c.want.missing},
			{"sequence gaps", before.SequenceGaps, after.SequenceGaps, c.want.gaps},
			{"epoch mismatches", before.EpochMismatches, after.EpochMismatches, c.want.mismatches},
		} {
			found := kind.after.Count > kind.before.Count
			equal(f, found, kind.want, c.name+": "+kind.name)
			equal(f, names(kind.after, convo), kind.want, c.name+": an example names the conversation of "+kind.name)
		}
	}
}

func names(in persistence.Finding, convo string) bool {
	for _, e := range in.Examples {
		if e.Convo == convo && e.Detail != "" {
			return true
		}
	}
	return false
}

func integrityLooksSince(t *testing.T, f *fixture) {
	alice := f.did("alice")
	at := envAt(now().Add(-71 * time.Hour))
	at.Policy.Retention = 0
	old := f.convoAt(at.Now, alice)
	var ids []string
	for i := range int64(4) {
		ids = append(ids, f.directAt(at, old, alice, send(i, "m")).ID)
		ids = append(ids, f.directAt(at, old, alice, conversation.Commit{Commit: []byte("c")}).ID)
	}
	f.rawDelete(ids[3])
	f.ok(f.Raw.InsertMessage(f.ctx, RawMessage{
		ID: newID(), Convo: old, Sender: alice, Kind: conversation.KindCommit, Epoch: 3, Seq: ptr[int64](9), Ciphertext: []byte("raw"), At: at.Now,
	}), "insert a row")
	f.ok(f.Raw.SetVersion(f.ctx, old, 4, 9), "move the row along")
	for _, c := range []struct {
		since time.Time
		want  int64
	}{{time.Time{}, 1}, {now().Add(-48 * time.Hour), 0}, {now().Add(-96 * time.Hour), 1}} {
		got := f.integrity(c.since)
		equal(f, got.DuplicateEpochs.Count, c.want, "duplicate epochs")
		equal(f, got.MissingEpochs.Count, c.want, "missing epochs")
		equal(f, got.SequenceGaps.Count, c.want, "gaps")
		equal(f, got.EpochMismatches.Count, 0, "mismatches")
	}
}

// Operators, too, delete by age, and know nothing of what housekeeping notes.
func integrityOfWhatAgeHasTaken(t *testing.T, f *fixture) {
	alice := f.did("alice")
	convo, ids := f.damageable(alice)
	for _, i := range []int{0, 2} { // messages that have expired, the commits stay
		f.rawDelete(ids[i])
	}
	f.clean("after old messages were deleted")
	for _, i := range []int{1, 3, 4} { // all that is older than a day
		f.rawDelete(ids[i])
	}
	f.clean("after all old rows were deleted")
	equal(f, f.log(convo, alice).LastSeq, 8, "last seq")

	// A message that is kept for ever, and a younger one that was not.
	h := f.held(alice)
	forever := env()
	forever.Policy.Retention = 0
	h.appendAt(forever, f.request(h.convo, alice, send(0, "stays")))
	h.appendAt(expired(), f.request(h.convo, alice, send(0, "goes")))
	h.do(alice, send(0, "stays"))
	f.fold(h.convo)
	equal(f, f.housekeep(atOnce, 100).Messages, 1, "messages deleted")
	f.clean("after a message between others has expired")
}

func integrityTenExamples(t *testing.T, f *fixture) {
	alice := f.did("alice")
	for range 12 {
		h := f.chat(3, alice)
		f.rawDelete(f.log(h.convo, alice).Messages[1].ID)
	}
	got := f.integrity(time.Time{}).SequenceGaps
	equal(f, got.Count, 12, "gaps")
	equal(f, len(got.Examples), 10, "examples")
}

// Logs that others have damaged are served, counted on from, and not made
// worse.
func damagedLogsAreServed(t *testing.T, f *fixture) {
	alice, bob := f.did("alice"), f.did("bob")
	convo, ids := f.damageable(alice)
	f.rawMessage(convo, alice, conversation.KindCommit, 2, ptr[int64](9)) // epoch 2 twice, the row's seq behind
	f.rawDelete(ids[4])
	before := f.integrity(time.Time{})

	p := f.log(convo, alice)
	equal(f, p.LastSeq, 9, "last seq")
	f.seqsAre(p, []int64{1, 2, 3, 4, 6, 7, 8, 9}, "the log")
	f.epochsAre(f.commits(persistence.CommitsQuery{Convo: convo, Caller: alice}), []int64{1, 2, 2, 3, 4}, "commits")
	equal(f, f.direct(convo, alice, send(4, "next")).Seq, 10, "seq of the next message")
	h := f.hold(f.session().ID, convo)
	equal(f, h.do(alice, add(bob)).Epoch, 5, "next epoch")

	after := f.integrity(time.Time{})
	equal(f, after.DuplicateEpochs.Count, before.DuplicateEpochs.Count, "duplicate epochs")
	equal(f, after.MissingEpochs.Count, before.MissingEpochs.Count, "missing epochs")
	equal(f, after.SequenceGaps.Count, before.SequenceGaps.Count, "sequence gaps")
}
