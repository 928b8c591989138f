package sqlite

import (
	"context"

	"catbird/conversation"
	"catbird/persistence"
)

// Lookup returns what earlier requests left behind.
func (s *Store) Lookup(ctx context.Context, convos []string, refs []persistence.Ref) ([]*conversation.Earlier, error) {
	out := make([]*conversation.Earlier, len(refs))
	if len(refs) == 0 {
		return out, nil
	}
	err := s.snapshot(ctx, "look up requests", func(c *conn) (err error) {
		for i, ref := range refs {
			if out[i], err = lookup(c, convos[i], ref); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// lookup finds what an earlier request left behind, by its key, else by its id:
// as a row of the conversation's log, or as a record.
func lookup(c *conn, convo string, ref persistence.Ref) (*conversation.Earlier, error) {
	e, err := byKey(c, convo, ref)
	if err != nil || e != nil {
		return e, err
	}
	if e, err = recordByID(c, convo, ref.ID); err != nil || e != nil {
		return e, err
	}
	return rowByID(c, convo, ref.ID)
}

func byKey(c *conn, convo string, ref persistence.Ref) (*conversation.Earlier, error) {
	if ref.Key == "" {
		return nil, nil
	}
	return earlier(c.row(`
		SELECT id, epoch, seq, at, digest, response FROM catbird_requests
		WHERE convo_id = ?1 AND caller = ?2 AND endpoint = ?3 AND key = ?4`,
		convo, ref.Caller, string(ref.Endpoint), ref.Key))
}

func recordByID(c *conn, convo, id string) (*conversation.Earlier, error) {
	return earlier(c.row(`SELECT id, epoch, seq, at, digest, response FROM catbird_requests WHERE id = ?1 AND convo_id = ?2`, id, convo))
}

func rowByID(c *conn, convo, id string) (*conversation.Earlier, error) {
	return earlier(c.row(`SELECT id, epoch, coalesce(seq, 0), created_at, NULL, NULL FROM messages WHERE id = ?1 AND convo_id = ?2`, id, convo))
}

func earlier(r row) (*conversation.Earlier, error) {
	var e conversation.Earlier
	var at int64
	found, err := r.found(&e.Result.ID, &e.Result.Epoch, &e.Result.Seq, &at, &e.Digest, &e.Response)
	if err != nil || !found {
		return nil, err
	}
	e.Result.At = fromMicros(at)
	return &e, nil
}
