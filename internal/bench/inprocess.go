package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"catbird/actor"
	"catbird/conversation"
	"catbird/persistence"
	"catbird/persistence/postgres"
)

func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError}))
}

// forever is a session that is always trusted.
type forever struct{ id string }

func (f *forever) ID() string               { return f.id }
func (f *forever) Trusted(t time.Time) bool { return !t.IsZero() }

type oneSession struct{ s actor.Session }

func (o oneSession) Current() actor.Session { return o.s }

// memory answers claims with a conversation of ten members, and stores nothing:
// what P4 and P7 measure never asks for more.
type memory struct{}

func (memory) Claim(_ context.Context, _ string, ids []string) ([]persistence.Claimed, error) {
	out := make([]persistence.Claimed, len(ids))
	for i, id := range ids {
		members := make([]string, 10)
		for m := range members {
			members[m] = fmt.Sprintf("did:plc:%016x%08d", hash(id), m)
		}
		out[i] = persistence.Claimed{
			Convo: id, Outcome: persistence.ClaimGranted, Fence: 1,
			State: conversation.State{Epoch: 3, Seq: 7, Creator: members[0], Members: conversation.NewMembers(members...)},
		}
	}
	return out, nil
}

func hash(s string) (h uint64) {
	for _, c := range []byte(s) {
		h = h*1099511628211 ^ uint64(c)
	}
	return h
}

func (memory) Release(context.Context, string, []persistence.Claim) error { return nil }
func (memory) Fold(context.Context, []string) error                       { return nil }
func (memory) Append(context.Context, []*conversation.Unit) ([]persistence.AppendOutcome, error) {
	return nil, persistence.ErrUnavailable
}

func (memory) Lookup(context.Context, []string, []persistence.Ref) ([]*conversation.Earlier, error) {
	return nil, persistence.ErrUnavailable
}

// loadAll loads n conversations and returns the registry.
func loadAll(ctx context.Context, n int) (*actor.Registry, error) {
	r := actor.NewRegistry(actor.Config{
		Store: memory{}, Sessions: oneSession{&forever{"bench"}}, Logger: quiet(), MaxActors: n,
	})
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 64)
	for i := range errs {
		wg.Go(func() {
			for errs[i] == nil {
				c := next.Add(1)
				if c > int64(n) {
					return
				}
				errs[i] = r.Load(ctx, convoID(int(c)))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("loading: %w", err)
		}
	}
	return r, nil
}

func convoID(i int) string { return fmt.Sprintf("%032x", i) }

// epochInProcess is P4: getEpoch on the owner.
func epochInProcess(ctx context.Context) (Row, error) {
	r, err := loadAll(ctx, 1000)
	if err != nil {
		return Row{}, err
	}
	defer r.Stop(ctx)
	convo := convoID(500)
	caller := fmt.Sprintf("did:plc:%016x%08d", hash(convo), 4)
	if _, member, ok := r.Epoch(convo, caller); !ok || !member {
		return Row{}, fmt.Errorf("P4: the epoch is not in memory")
	}
	ours := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.Epoch(convo, caller)
		}
	})
	ask, answer := make(chan int), make(chan int)
	go func() {
		for v := range ask {
			answer <- v
		}
		close(answer)
	}()
	channel := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			ask <- 1
			<-answer
		}
	})
	close(ask)
	ns, other := float64(ours.T.Nanoseconds())/float64(ours.N), float64(channel.T.Nanoseconds())/float64(channel.N)
	return Row{
		Name: "P4 getEpoch on the owner, in process / channel round trip", Ratio: ns / other, Bar: "< 100 ns, 0 allocations",
		Ours: fmt.Sprintf("%.0f ns, %d allocs", ns, ours.AllocsPerOp()), Other: fmt.Sprintf("%.0f ns", other),
		Reached: ns < 100 && ours.AllocsPerOp() == 0,
	}, nil
}

// memoryPerActor is P7: n idle active conversations of ten members.
func memoryPerActor(ctx context.Context, n int) (Row, error) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	r, err := loadAll(ctx, n)
	if err != nil {
		return Row{}, err
	}
	after, running := heap(), runtime.NumGoroutine()
	per := float64(after-before) / float64(n)
	row := Row{
		Name: "P7 memory of an idle active conversation of 10", Bar: "< 1024 B", Ratio: per / 1024,
		Ours: fmt.Sprintf("%.0f B", per), Other: "1 KiB", Reached: per < 1024 && r.Active() == n,
		Comments: fmt.Sprintf("%d in one process, %d goroutines more", r.Active(), running-goroutines),
	}
	stop, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return row, r.Stop(stop)
}

// rowsThroughActors is P3: rows appended through the actors in process against
// the bare batched insert of the same rows.
func rowsThroughActors(ctx context.Context, url string, e Effort, groups []group) (Row, error) {
	store, err := postgres.Open(ctx, postgres.Config{URL: url, MaxConnections: 20, Logger: quiet()})
	if err != nil {
		return Row{}, fmt.Errorf("P3: %w", err)
	}
	defer store.Close()
	if err := store.Prepare(ctx); err != nil {
		return Row{}, fmt.Errorf("P3: %w", err)
	}
	session := uuid.NewString()
	if err := store.StartSession(ctx, persistence.Session{ID: session, Node: "bench", TTL: time.Hour}); err != nil {
		return Row{}, err
	}
	r := actor.NewRegistry(actor.Config{Store: store, Sessions: oneSession{&forever{session}}, Logger: quiet()})
	var ours, bare []float64
	for round := range e.Rounds + 1 {
		d := e.For
		if round == 0 {
			d /= 3
		}
		a, err := sendThrough(ctx, r, groups, d)
		if err != nil {
			return Row{}, fmt.Errorf("P3, actors: %w", err)
		}
		b, err := insertBare(ctx, url, d)
		if err != nil {
			return Row{}, fmt.Errorf("P3, bare insert: %w", err)
		}
		if round > 0 {
			ours, bare = append(ours, a), append(bare, b)
		}
	}
	if err := r.Stop(ctx); err != nil {
		return Row{}, err
	}
	row := Row{
		Name: "P3 rows through the actors / bare batched insert", Ratio: median(ours) / median(bare), Bar: ">= 0.7",
		Ours: fmt.Sprintf("%.0f rows/s", median(ours)), Other: fmt.Sprintf("%.0f rows/s", median(bare)),
		Comments: fmt.Sprintf("%d conversations, 1 KiB", len(groups)),
	}
	row.Reached = row.Ratio >= .7
	return row, store.EndSession(ctx, session)
}

const senders = 64 // at once, in each conversation

// sendThrough returns rows per second.
func sendThrough(ctx context.Context, r *actor.Registry, groups []group, d time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d+30*time.Second)
	defer cancel()
	payload := bytes.Repeat([]byte{0x5a}, 1024)
	var rows atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	start := time.Now()
	for _, g := range groups {
		for i := range senders {
			wg.Go(func() {
				for time.Since(start) < d && first.Load() == nil {
					_, err := r.Do(ctx, &conversation.Request{
						ID: uuid.Must(uuid.NewV7()).String(), Convo: g.id, Caller: g.members[i%len(g.members)],
						Command: conversation.Send{Ciphertext: payload},
					})
					if err != nil {
						first.CompareAndSwap(nil, &err)
						return
					}
					rows.Add(1)
				}
			})
		}
	}
	wg.Wait()
	if p := first.Load(); p != nil {
		return 0, *p
	}
	return float64(rows.Load()) / time.Since(start).Seconds(), nil
}

// insertBare inserts the same rows with pgx, 1,024 to a statement, over as many
// connections as the journal has writers, into the same table.
func insertBare(ctx context.Context, url string, d time.Duration) (float64, error) {
	const writers, batch = 2, 1024
	var rows atomic.Int64
	errs := make([]error, writers)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range writers {
		wg.Go(func() {
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				errs[i] = err
				return
			}
			defer conn.Close(ctx)
			convo := uuid.NewString()
			payload := bytes.Repeat([]byte{0x5a}, 1024)
			for seq := int64(1); time.Since(start) < d; seq += batch {
				ids, seqs, bodies := make([]string, batch), make([]int64, batch), make([][]byte, batch)
				for k := range batch {
					ids[k], seqs[k], bodies[k] = uuid.Must(uuid.NewV7()).String(), seq+int64(k), payload
				}
				_, err := conn.Exec(ctx, `INSERT INTO messages (id, convo_id, sender_did, message_type, epoch, seq, ciphertext, created_at, expires_at, catbird_v)
					SELECT id, $2, 'did:plc:bench', 'app', 0, seq, body, now(), now() + interval '30 days', 1
					FROM unnest($1::text[], $3::bigint[], $4::bytea[]) AS u(id, seq, body)`, ids, convo, seqs, bodies)
				if err != nil {
					errs[i] = err
					return
				}
				rows.Add(batch)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return float64(rows.Load()) / time.Since(start).Seconds(), nil
}
