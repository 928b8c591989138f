package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"catbird/persistence"
)

const holderSQL = `
SELECT coalesce(s.id, ''), coalesce(s.node, ''), coalesce(s.address, ''), coalesce(c.catbird_fence, 0)
FROM conversations c LEFT JOIN catbird_sessions s ON s.id = c.catbird_claim AND NOT s.ended
WHERE c.id = $1`

// Holder returns whose live session claims a conversation; held is false where
// there is none.
func (s *Store) Holder(ctx context.Context, convo string) (h persistence.Holder, held bool, err error) {
	if _, err := s.prepared(); err != nil {
		return persistence.Holder{}, false, err
	}
	var there bool
	err = s.many(ctx, s.main, "look up a holder", holderSQL, []any{convo},
		func() { there = false }, func(r pgx.Rows) error {
			there = true
			return r.Scan(&h.Session, &h.Node, &h.Address, &h.Fence)
		})
	if err == nil && !there {
		err = notFound()
	}
	if err != nil || h.Session == "" {
		return persistence.Holder{}, false, err
	}
	return h, true, nil
}
