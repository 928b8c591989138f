package sqlite

import (
	"context"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

// Welcome returns the caller's newest welcome that is not consumed. The first
// time it marks it fetched, which takes a write; after that reading suffices.
func (s *Store) Welcome(ctx context.Context, convo, caller string) (persistence.WelcomeView, error) {
	var v persistence.WelcomeView
	var id string
	var fetched bool
	err := s.snapshot(ctx, "read welcome", func(c *conn) error {
		if err := checkActive(c, convo, caller); err != nil {
			return err
		}
		found, err := c.row(`
			SELECT id, welcome_data, catbird_epoch, catbird_seq, catbird_fetched_at IS NOT NULL FROM welcome_messages
			WHERE convo_id = ?1 AND recipient_did = ?2 AND consumed = 0 ORDER BY rowid DESC LIMIT 1`, convo, caller).
			found(&id, &v.Data, &v.Epoch, &v.Seq, &fetched)
		if err == nil && !found {
			err = noWelcome()
		}
		return err
	})
	if err == nil && !fetched {
		err = s.write(ctx, "mark welcome fetched", func(c *conn) error {
			_, err := c.exec(`UPDATE welcome_messages SET catbird_fetched_at = ?2 WHERE id = ?1 AND catbird_fetched_at IS NULL`, id, micros(time.Now()))
			return err
		})
	}
	if err != nil {
		return persistence.WelcomeView{}, err
	}
	return v, nil
}

// ConfirmWelcome marks the newest welcome consumed, or available again.
func (s *Store) ConfirmWelcome(ctx context.Context, convo, caller string, success bool) error {
	return s.write(ctx, "confirm welcome", func(c *conn) error {
		if err := checkActive(c, convo, caller); err != nil {
			return err
		}
		var id string
		var consumed bool
		found, err := c.row(`
			SELECT id, consumed FROM welcome_messages WHERE convo_id = ?1 AND recipient_did = ?2 ORDER BY rowid DESC LIMIT 1`,
			convo, caller).found(&id, &consumed)
		switch {
		case err != nil:
			return err
		case !found:
			return noWelcome()
		case success && consumed:
			return nil
		case success:
			_, err = c.exec(`UPDATE welcome_messages SET consumed = 1, consumed_at = ?2 WHERE id = ?1`, id, micros(time.Now()))
		default:
			_, err = c.exec(`UPDATE welcome_messages SET consumed = 0, consumed_at = NULL, catbird_fetched_at = NULL WHERE id = ?1`, id)
		}
		return err
	})
}

func noWelcome() error {
	return conversation.Refuse(conversation.WelcomeNotFound, "there is no welcome for the caller in this conversation")
}
