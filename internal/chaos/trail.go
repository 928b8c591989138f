package chaos

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// layTrail makes the database itself keep every change of claim or fence, with
// whether the sessions in question were over at that instant. A row is written
// under the lock of the conversation's row, so the order of the trail is the
// order in which the changes took effect.
const layTrail = `
CREATE TABLE chaos_trail (
	n         bigserial PRIMARY KEY,
	at        timestamptz NOT NULL DEFAULT clock_timestamp(),
	convo_id  text NOT NULL,
	old_claim text NOT NULL,
	new_claim text NOT NULL,
	old_fence bigint NOT NULL,
	new_fence bigint NOT NULL,
	old_over  boolean NOT NULL
);
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO chaos_trail (convo_id, old_claim, new_claim, old_fence, new_fence, old_over)
	VALUES (NEW.id, coalesce(OLD.catbird_claim, ''), coalesce(NEW.catbird_claim, ''),
		coalesce(OLD.catbird_fence, 0), coalesce(NEW.catbird_fence, 0),
		NOT EXISTS (SELECT FROM catbird_sessions WHERE id = OLD.catbird_claim AND NOT ended));
	RETURN NULL;
END $$;
CREATE TRIGGER chaos_note AFTER UPDATE ON conversations FOR EACH ROW
	WHEN (OLD.catbird_claim IS DISTINCT FROM NEW.catbird_claim OR OLD.catbird_fence IS DISTINCT FROM NEW.catbird_fence)
	EXECUTE FUNCTION chaos_note();`

// step is one change of a conversation's claim or fence.
type step struct {
	At                 string
	Convo              string
	OldClaim, NewClaim string // sessions, "" for none
	OldFence, NewFence int64
	OldOver            bool // the session of OldClaim was over, or there was none
}

func (s step) String() string {
	return fmt.Sprintf("%s  %s  claim %q -> %q, fence %d -> %d, the old session over: %v",
		s.At, s.Convo, s.OldClaim, s.NewClaim, s.OldFence, s.NewFence, s.OldOver)
}

// connect opens a connection to the database itself, past the proxies.
func (g *ground) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, g.postgres.URL())
	if err != nil {
		return nil, fmt.Errorf("asking the database: %w", err)
	}
	return conn, nil
}

// startTrail is to be called when the tables are there.
func (g *ground) startTrail(ctx context.Context) error {
	conn, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, layTrail); err != nil {
		return fmt.Errorf("laying the trail: %w", err)
	}
	return nil
}

func (g *ground) readTrail(ctx context.Context) ([]step, error) {
	conn, err := g.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT at::text, convo_id, old_claim, new_claim, old_fence, new_fence, old_over FROM chaos_trail ORDER BY n`)
	if err != nil {
		return nil, fmt.Errorf("reading the trail: %w", err)
	}
	steps, err := pgx.CollectRows(rows, pgx.RowToStructByPos[step])
	if err != nil {
		return nil, fmt.Errorf("reading the trail: %w", err)
	}
	return steps, nil
}

// checkTrail holds the trail to the rules of ownership: a fence never falls; who
// claims gets a higher one than anybody before; nobody is robbed of a claim
// whose session lives.
func checkTrail(steps []step) (found []Finding) {
	last := map[string]step{}
	for _, s := range steps {
		var rules []string
		before, known := last[s.Convo]
		if known && (before.NewFence != s.OldFence || before.NewClaim != s.OldClaim) {
			rules = append(rules, "the trail of a conversation has no gap")
		}
		if s.NewFence < s.OldFence {
			rules = append(rules, "a fence never falls")
		}
		if s.NewClaim != "" && s.NewFence == s.OldFence {
			rules = append(rules, "each owner of a conversation has a higher fence than the one before")
		}
		if s.robs() {
			rules = append(rules, "a claim is taken from a session only when that is over")
		}
		last[s.Convo] = s
		if len(rules) > 0 {
			found = append(found, Finding{Rule: strings.Join(rules, "; "), Convo: s.Convo, Text: before.String() + "\n" + s.String()})
		}
	}
	return found
}

// robs reports whether the step takes a claim whose session lives away from it.
// To leave the fence alone is to give a claim back, which its holder does.
func (s step) robs() bool {
	taken := s.NewClaim != s.OldClaim && s.NewFence != s.OldFence
	return s.OldClaim != "" && !s.OldOver && taken
}
