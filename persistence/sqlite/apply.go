package sqlite

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/google/uuid"

	"catbird/conversation"
)

// apply writes what a unit says, which the caller has found to fit.
func apply(c *conn, u *conversation.Unit) error {
	no, err := insertRows(c, u)
	if err != nil {
		return err
	}
	for i := range u.Members {
		if err := applyMember(c, u.Convo, &u.Members[i]); err != nil {
			return err
		}
	}
	for i := range u.Welcomes {
		if err := insertWelcome(c, u.Convo, &u.Welcomes[i]); err != nil {
			return err
		}
	}
	if err := consumeKeyPackages(c, u.KeyPackages); err != nil {
		return err
	}
	for i := range u.Records {
		if err := insertRecord(c, u.Convo, &u.Records[i]); err != nil {
			return err
		}
	}
	return advance(c, u, no)
}

// insertRows returns the number of the last row, 0 for none.
func insertRows(c *conn, u *conversation.Unit) (no int64, err error) {
	for i := range u.Rows {
		r := &u.Rows[i]
		res, err := c.result(`
			INSERT INTO messages (id, convo_id, sender_did, message_type, epoch, seq, ciphertext, created_at, expires_at,
				catbird_embed_type, catbird_embed_uri, catbird_client_id)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)`,
			r.ID, u.Convo, r.Sender, string(r.Kind), r.Epoch, r.Seq, blob(r.Ciphertext), micros(r.At), microsOrNull(r.Expires),
			textOrNull(r.EmbedType), textOrNull(r.EmbedURI), textOrNull(r.ClientID))
		if err != nil {
			return 0, err
		}
		if no, err = res.LastInsertId(); err != nil {
			return 0, err
		}
	}
	return no, nil
}

// advance moves the conversation's row to where the unit leads. Where no
// message waits to be counted and the unit brings none, nothing waits after it.
func advance(c *conn, u *conversation.Unit, no int64) error {
	var activeAt, activeNo any
	if n := len(u.Rows); n > 0 {
		activeAt, activeNo = micros(u.Rows[n-1].At), no
	}
	_, err := c.exec(`
		UPDATE conversations SET current_epoch = ?2, catbird_seq = ?3, catbird_mls = ?4, updated_at = ?5,
			catbird_last_message_at = coalesce(?6, catbird_last_message_at),
			catbird_last_activity = coalesce(?7, catbird_last_activity),
			catbird_last_no = coalesce(?8, catbird_last_no),
			catbird_folded_seq = CASE WHEN ?9 AND catbird_folded_seq = ?10 THEN ?3 ELSE catbird_folded_seq END
		WHERE id = ?1`,
		u.Convo, u.Epoch, u.Seq, u.MLS, micros(u.At), microsOrNull(u.LastMessage), activeAt, activeNo,
		u.LastMessage.IsZero(), u.Base.Seq)
	return err
}

func applyMember(c *conn, convo string, m *conversation.MemberChange) error {
	if m.Joined {
		user, _, _ := strings.Cut(m.DID, "#")
		_, err := c.exec(`
			INSERT INTO members (convo_id, member_did, user_did, joined_at, catbird_counted_seq) VALUES (?1, ?2, ?3, ?4, ?5)
			ON CONFLICT (convo_id, member_did) DO UPDATE SET joined_at = excluded.joined_at, left_at = NULL, unread_count = 0,
				catbird_counted_seq = excluded.catbird_counted_seq, catbird_left_seq = NULL`,
			convo, m.DID, user, micros(m.At), m.JoinedSeq)
		if err != nil {
			return err
		}
		_, err = c.exec(`DELETE FROM welcome_messages WHERE convo_id = ?1 AND recipient_did = ?2 AND consumed = 0`, convo, m.DID)
		if err != nil {
			return err
		}
	}
	if m.Left {
		_, err := c.exec(`UPDATE members SET left_at = ?3, catbird_left_seq = ?4 WHERE convo_id = ?1 AND member_did = ?2`,
			convo, m.DID, micros(m.At), m.LeftSeq)
		return err
	}
	return nil
}

func insertWelcome(c *conn, convo string, w *conversation.Welcome) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	var hash any
	if w.KeyPackageHash != nil {
		hash = w.KeyPackageHash
	}
	_, err = c.exec(`
		INSERT INTO welcome_messages (id, convo_id, recipient_did, welcome_data, key_package_hash, created_at, catbird_epoch, catbird_seq)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`,
		id.String(), convo, w.Recipient, blob(w.Data), hash, micros(w.At), w.Epoch, w.Seq)
	return err
}

// keyPackagesFree reports whether all of refs can be used up.
func keyPackagesFree(c *conn, refs []conversation.KeyPackageRef) (bool, error) {
	for _, r := range refs {
		var one int
		found, err := c.row(`SELECT 1 FROM catbird_key_packages WHERE did = ?1 AND key_package_hash = ?2 AND consumed = 0 AND expires_at > ?3`,
			r.DID, hex.EncodeToString(r.Hash), micros(time.Now())).found(&one)
		if err != nil || !found {
			return false, err
		}
	}
	return true, nil
}

func consumeKeyPackages(c *conn, refs []conversation.KeyPackageRef) error {
	for _, r := range refs {
		_, err := c.exec(`UPDATE catbird_key_packages SET consumed = 1, consumed_at = ?3 WHERE did = ?1 AND key_package_hash = ?2`,
			r.DID, hex.EncodeToString(r.Hash), micros(time.Now()))
		if err != nil {
			return err
		}
	}
	return nil
}

func insertRecord(c *conn, convo string, r *conversation.Record) error {
	_, err := c.exec(`
		INSERT INTO catbird_requests (id, convo_id, caller, endpoint, key, digest, epoch, seq, at, response, created_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)`,
		r.ID, convo, r.Caller, string(r.Endpoint), textOrNull(r.Key), r.Digest, r.Result.Epoch, r.Result.Seq, micros(r.Result.At), r.Response,
		micros(time.Now()))
	return err
}
