package sqlite

import (
	"context"

	"catbird/conversation"
	"catbird/persistence"
)

// Create stores a new conversation.
func (s *Store) Create(ctx context.Context, r persistence.CreateRequest) (response []byte, repeated bool, err error) {
	err = s.write(ctx, "create conversation", func(c *conn) error {
		response, repeated, err = create(c, r)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return response, repeated, nil
}

func create(c *conn, r persistence.CreateRequest) (response []byte, repeated bool, err error) {
	ref := persistence.Ref{ID: r.Request.ID, Caller: r.Request.Caller, Endpoint: conversation.OpCreate, Key: r.Request.Key}
	e, err := lookup(c, r.Request.Convo, ref)
	if err != nil {
		return nil, false, err
	}
	if e != nil {
		_, err := conversation.Repeat(r.Request, *e)
		return e.Response, true, err
	}
	var one int
	taken, err := c.row(`SELECT 1 FROM conversations WHERE id = ?1`, r.Request.Convo).found(&one)
	if err != nil {
		return nil, false, err
	}
	if taken {
		return nil, false, conversation.Refuse(conversation.ConvoAlreadyExists, "a conversation with this groupId exists")
	}
	if free, err := keyPackagesFree(c, r.Unit.KeyPackages); err != nil {
		return nil, false, err
	} else if !free {
		return nil, false, keyPackageGone()
	}
	return r.Response, false, insertConvo(c, r)
}

// insertConvo inserts the conversation's row at the unit's base, and then the
// unit, always with a record: the answer is kept for a repeat.
func insertConvo(c *conn, r persistence.CreateRequest) error {
	at, n := micros(r.Unit.At), r.Creation
	_, err := c.exec(`
		INSERT INTO conversations (id, creator_did, created_at, updated_at, group_id, catbird_cipher_suite, catbird_name,
			catbird_description, catbird_last_activity)
		VALUES (?1, ?2, ?3, ?3, ?1, ?4, ?5, ?6, ?3)`,
		r.Unit.Convo, n.Creator, at, n.CipherSuite, n.Name, n.Description)
	if err != nil {
		return err
	}
	u := *r.Unit
	u.Records = []conversation.Record{{
		ID: r.Request.ID, Caller: r.Request.Caller, Endpoint: conversation.OpCreate, Key: r.Request.Key, Digest: r.Request.Digest,
		Result: conversation.Result{ID: r.Request.ID, Epoch: u.Epoch, Seq: u.Seq, At: u.At}, Response: r.Response,
	}}
	if err := apply(c, &u); err != nil {
		return err
	}
	_, err = c.exec(`UPDATE members SET is_admin = 1 WHERE convo_id = ?1 AND member_did = ?2`, u.Convo, n.Creator)
	return err
}
