package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/internal/testenv"
	"catbird/persistence"
)

// Shape of one append: what the journal cuts its transactions to.
const (
	benchRows   = 1024
	benchConvos = 100
	benchSize   = 1024
)

func benchPayload() []byte {
	b := make([]byte, benchSize)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// BenchmarkAppend appends 1,024 messages of 1 KiB to 100 conversations in one
// call. Its ratio to BenchmarkBareInsert is what being conditional costs.
func BenchmarkAppend(b *testing.B) {
	ctx := context.Background()
	s := prepare(b, testenv.Postgres(b))
	states, fences, convos := benchHold(b, s)
	payload := benchPayload()
	rows := 0
	for b.Loop() {
		env := conversation.Env{Now: time.Now().UTC().Truncate(time.Microsecond), Policy: conversation.DefaultPolicy()}
		units := make([]*conversation.Unit, benchConvos)
		for i := range units {
			units[i] = conversation.NewUnit(convos[i], states[i], fences[i])
		}
		for n := range benchRows {
			i := n % benchConvos
			r := &conversation.Request{ID: newID(), Convo: convos[i], Caller: "did:plc:alice", Command: conversation.Send{Ciphertext: payload}}
			ch, next, err := conversation.Decide(env, states[i], r)
			if err != nil {
				b.Fatal(err)
			}
			units[i].Add(ch, next)
			states[i] = next
		}
		out, err := s.Append(ctx, units)
		if err != nil {
			b.Fatal(err)
		}
		for _, o := range out {
			if o != persistence.Appended {
				b.Fatalf("outcome %d", o)
			}
		}
		rows += benchRows
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

func benchHold(b testing.TB, s *Store) ([]conversation.State, []int64, []string) {
	b.Helper()
	ctx := context.Background()
	session := persistence.Session{ID: newID(), Node: "bench", TTL: time.Minute}
	if err := s.StartSession(ctx, session); err != nil {
		b.Fatal(err)
	}
	convos := make([]string, benchConvos)
	for i := range convos {
		convos[i] = fmt.Sprintf("%032x", i+1)
		newConvo(b, s, convos[i], "did:plc:alice")
	}
	claims, err := s.Claim(ctx, session.ID, convos)
	if err != nil {
		b.Fatal(err)
	}
	states, fences := make([]conversation.State, benchConvos), make([]int64, benchConvos)
	for i, c := range claims {
		states[i], fences[i] = c.State, c.Fence
	}
	return states, fences, convos
}

// BenchmarkBareInsert inserts the same rows into the same table, with nothing
// asked.
func BenchmarkBareInsert(b *testing.B) {
	ctx := context.Background()
	s := prepare(b, testenv.Postgres(b))
	payload := benchPayload()
	next := make([]int64, benchConvos)
	rows := 0
	for b.Loop() {
		var convos, ids, senders, kinds []string
		var epochs, seqs []int64
		var data [][]byte
		var ats, ends []time.Time
		now := time.Now().UTC().Truncate(time.Microsecond)
		for n := range benchRows {
			i := n % benchConvos
			next[i]++
			convos, ids = append(convos, fmt.Sprintf("%032x", i+1)), append(ids, newID())
			senders, kinds = append(senders, "did:plc:alice"), append(kinds, "app")
			epochs, seqs, data = append(epochs, 0), append(seqs, next[i]), append(data, payload)
			ats, ends = append(ats, now), append(ends, now.Add(720*time.Hour))
		}
		_, err := s.journal.p.Exec(ctx, `
			INSERT INTO messages (id, convo_id, sender_did, message_type, epoch, seq, ciphertext, created_at, expires_at, catbird_v)
			SELECT id, convo, sender, kind, epoch, seq, data, at, ends, 1
			FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bytea[], $8::timestamptz[], $9::timestamptz[])
				r (id, convo, sender, kind, epoch, seq, data, at, ends)`,
			ids, convos, senders, kinds, epochs, seqs, data, ats, ends)
		if err != nil {
			b.Fatal(err)
		}
		rows += benchRows
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}
