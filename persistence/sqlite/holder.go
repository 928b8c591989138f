package sqlite

import (
	"context"

	"catbird/persistence"
)

// Holder returns whose live session claims a conversation; held is false where
// there is none.
func (s *Store) Holder(ctx context.Context, convo string) (h persistence.Holder, held bool, err error) {
	err = s.query(ctx, "look up a holder", func(c *conn) error {
		l, found, err := load(c, convo)
		if err == nil && !found {
			return noSuchConvo()
		}
		h = l.holder
		return err
	})
	if err != nil || h.Session == "" {
		return persistence.Holder{}, false, err
	}
	return h, true, nil
}
