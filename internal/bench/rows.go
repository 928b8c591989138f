package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"catbird/internal/client"
	"catbird/internal/testenv"
)

// What is stored for P12.
const (
	sizedGroups   = 1200
	sizedMembers  = 10
	sizedMessages = 10_000
	sizedBytes    = 1024
)

// bytesOfRows is P12: what messages, records of requests and conversations take in
// a database of their own, tables and indexes after a VACUUM. It has no bar.
func bytesOfRows(ctx context.Context) (row Row, err error) {
	server, err := testenv.StartPostgres()
	if err != nil {
		return Row{}, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	defer server.Close()
	n, err := startNode(ctx, server.URL(), nil)
	if err != nil {
		return Row{}, err
	}
	defer n.stop(ctx)
	db, err := pgx.Connect(ctx, server.URL())
	if err != nil {
		return Row{}, fmt.Errorf("connecting: %w", err)
	}
	defer db.Close(ctx)
	groups, err := n.groups(ctx, "size", sizedGroups, sizedMembers)
	if err != nil {
		return Row{}, err
	}
	before, err := sizes(ctx, db)
	if err != nil {
		return Row{}, err
	}
	begun := time.Now()
	body := make([]byte, sizedBytes)
	for i := range sizedMessages {
		_, _ = rand.Read(body) // never fails
		g := &groups[i%len(groups)]
		_, err := n.api.As(g.members[i%len(g.members)]).SendMessage(ctx, client.SendMessage{
			ConvoID: g.id, Ciphertext: body, IdempotencyKey: fmt.Sprintf("message-%016d", i),
		})
		if err != nil {
			return Row{}, fmt.Errorf("sending: %w", err)
		}
	}
	after, err := sizes(ctx, db)
	if err != nil {
		return Row{}, err
	}
	per := func(s map[string]int64, table string, n int) int64 { return s[table] / int64(n) }
	records := (after["catbird_requests"] - before["catbird_requests"]) / sizedMessages
	return Row{
		Name: "P12 bytes of a message of 1 KiB, and of the record by which its request is known",
		Ours: fmt.Sprintf("%d and %d", per(after, "messages", sizedMessages), records),
		Other: fmt.Sprintf("a conversation %d, a member %d, the record of its making %d",
			per(before, "conversations", sizedGroups), per(before, "members", sizedGroups*sizedMembers), per(before, "catbird_requests", sizedGroups)),
		Reached: true, Bar: "none",
		Comments: fmt.Sprintf("%d messages, %d conversations of %d, stored in %s", sizedMessages, sizedGroups, sizedMembers, time.Since(begun).Round(time.Second)),
	}, nil
}

// sizes returns the bytes of the tables with their indexes, without what is dead.
func sizes(ctx context.Context, db *pgx.Conn) (map[string]int64, error) {
	out := map[string]int64{}
	for _, table := range []string{"conversations", "members", "messages", "catbird_requests"} {
		if _, err := db.Exec(ctx, "VACUUM "+table); err != nil {
			return nil, fmt.Errorf("vacuum of %s: %w", table, err)
		}
		var n int64
		if err := db.QueryRow(ctx, "SELECT pg_total_relation_size($1::regclass)", table).Scan(&n); err != nil {
			return nil, fmt.Errorf("size of %s: %w", table, err)
		}
		out[table] = n
	}
	return out, nil
}
