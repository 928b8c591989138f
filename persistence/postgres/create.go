package postgres

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5"

	"catbird/conversation"
	"catbird/persistence"
)

// insertConversationSQL inserts the row of a conversation that nobody has
// created, and waits for whoever is creating it. A request that has been
// answered creates nothing again.
func (sch schema) insertConversationSQL() string {
	columns, values := "", ""
	switch t := sch.columns["conversations"]["group_id"]; {
	case sch.hasText("conversations", "group_id"):
		columns, values = ", group_id", ", $1"
	case t == "bytea":
		columns, values = ", group_id", ", decode($1, 'hex')"
	}
	return fill(`
INSERT INTO conversations (id, creator_did, current_epoch, created_at, updated_at, catbird_seq, catbird_fence, catbird_folded_seq,
	catbird_cipher_suite, catbird_name, catbird_description{columns})
SELECT $1::text, $2::text, 0, $3::timestamptz, $3, 0, 0, 0, $4, nullif($5, ''), nullif($6, ''){values}
WHERE NOT EXISTS (SELECT FROM catbird_requests r
	WHERE r.convo_id = $1 AND r.caller = $2 AND r.endpoint = $7 AND r.key = nullif($8, ''))
ON CONFLICT (id) DO NOTHING RETURNING id`, "columns", columns, "values", values)
}

// countedSQL: nobody has unread messages in a new conversation.
const countedSQL = `UPDATE conversations SET catbird_folded_seq = catbird_seq, catbird_last_activity = coalesce(catbird_last_activity, created_at) WHERE id = $1`

// Create stores a new conversation in one transaction of two flights.
func (s *Store) Create(ctx context.Context, c persistence.CreateRequest) (response []byte, repeated bool, err error) {
	st, err := s.prepared()
	if err != nil {
		return nil, false, err
	}
	if _, err := hex.DecodeString(c.Request.Convo); err != nil {
		return nil, false, conversation.Refuse(conversation.InvalidRequest, "groupId: must be hexadecimal")
	}
	err = s.interactive(ctx, "create a conversation", func(ctx context.Context, conn *pgx.Conn) error {
		var err error
		response, repeated, err = create(ctx, conn, st, c)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return response, repeated, nil
}

func create(ctx context.Context, conn *pgx.Conn, st *statements, c persistence.CreateRequest) (response []byte, repeated bool, err error) {
	r, created := c.Request, false
	var earlier []*conversation.Earlier
	ref := persistence.Ref{ID: r.ID, Caller: r.Caller, Endpoint: conversation.OpCreate, Key: r.Key}
	err = send(ctx, conn, func(b *pgx.Batch) {
		b.Queue("BEGIN")
		b.Queue(st.insertConversation, r.Convo, c.Creation.Creator, c.Unit.At, c.Creation.CipherSuite, c.Creation.Name,
			c.Creation.Description, string(conversation.OpCreate), r.Key).Query(each(func(pgx.Rows) error {
			created = true
			return nil
		}))
		earlier = queueLookup(b, []string{r.Convo}, []persistence.Ref{ref})
	})
	switch {
	case err != nil:
		return nil, false, &stepError{reads, err}
	case earlier[0] != nil:
		if _, err := conversation.Repeat(r, *earlier[0]); err != nil {
			return nil, false, err
		}
		return earlier[0].Response, true, nil
	case !created:
		return nil, false, conversation.Refuse(conversation.ConvoAlreadyExists, "there is a conversation with this groupId")
	}
	w := &write{unit: recorded(c), suspect: true}
	err = send(ctx, conn, func(b *pgx.Batch) {
		st.queueWrites(b, []*write{w})
		b.Queue(countedSQL, r.Convo)
		if len(c.Unit.KeyPackages) == 0 {
			b.Queue("COMMIT")
		}
	})
	switch {
	case err != nil:
		return nil, false, err
	case w.fits && !w.stored: // the conversation's row goes with the rollback
		return nil, false, conversation.Refuse(conversation.KeyPackageNotFound, "a key package that the change uses is gone")
	case !w.stored:
		return nil, false, fmt.Errorf("the id %s belongs to another change", r.ID)
	}
	if len(c.Unit.KeyPackages) > 0 {
		if err := send(ctx, conn, func(b *pgx.Batch) { b.Queue("COMMIT") }); err != nil {
			return nil, false, err
		}
	}
	return c.Response, false, nil
}

// recorded returns the unit with a record of the request, which a creation
// always leaves: a repeat gets the whole answer.
func recorded(c persistence.CreateRequest) *conversation.Unit {
	u := *c.Unit
	record := conversation.Record{
		ID: c.Request.ID, Caller: c.Request.Caller, Endpoint: conversation.OpCreate, Key: c.Request.Key, Digest: c.Request.Digest,
		Result:   conversation.Result{ID: c.Request.ID, Epoch: u.Epoch, Seq: u.Seq, At: u.At},
		Response: c.Response,
	}
	u.Records = []conversation.Record{record}
	return &u
}
