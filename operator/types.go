package operator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"catbird/persistence"
)

// Flags are what can be changed on a running node.
type Flags struct {
	// ActorSystem says that conversations are served through actors.
	ActorSystem bool `json:"actorSystem"`
	// RolloutPercent is of which share of conversations, 0 to 100.
	RolloutPercent int `json:"rolloutPercent"`
}

// Actor is one active actor.
type Actor struct {
	Convo       string  `json:"convoId"`
	Epoch       int64   `json:"epoch"`
	Seq         int64   `json:"seq"`
	Fence       int64   `json:"fence"`
	Mailbox     int     `json:"mailbox"` // requests that wait
	IdleSeconds float64 `json:"idleSeconds"`
	// Trusted: it is served from memory now. Of all nodes' actors of one
	// conversation at most one is, at any instant.
	Trusted bool `json:"trusted"`
}

// ActorsPage is a page of a node's actors; Cursor is "" on the last one.
type ActorsPage struct {
	Actors []Actor `json:"actors"`
	Cursor string  `json:"cursor,omitempty"`
}

// Drained is the answer to POST /drain.
type Drained struct {
	Draining bool `json:"draining"`
}

// Switchboard holds a node's flags. Both methods may be called from any
// goroutine; SetFlags returns once the flags hold for the next request.
type Switchboard interface {
	Flags() Flags
	SetFlags(ctx context.Context, f Flags) error
}

// Actors lists a node's actors in pages of at most limit, from cursor on, ""
// for the first page. It must not block on an actor's work.
type Actors interface {
	List(limit int, cursor string) (page []Actor, next string)
}

// Store is what an operator asks of the database.
type Store interface {
	Overview(ctx context.Context, convo string) (persistence.Overview, error)
	Integrity(ctx context.Context, since time.Time) (persistence.Integrity, error)
	Holder(ctx context.Context, convo string) (h persistence.Holder, held bool, err error)
}

var errSince = errors.New("must be a duration such as 48h or 7d")

// ParseSince reads how far to look back: a duration of Go, or a whole number
// of days as in 7d. Nothing and 0 mean everything. It is never negative.
func ParseSince(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36_500 {
			return 0, errSince
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, errSince
	}
	return d, nil
}

// Check returns an error for flags that make no sense.
func (f Flags) Check() error {
	if f.RolloutPercent < 0 || f.RolloutPercent > 100 {
		return fmt.Errorf("rolloutPercent: %d is not between 0 and 100", f.RolloutPercent)
	}
	return nil
}
