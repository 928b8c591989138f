package bench

import (
	"context"
	"fmt"
	"io"
	"slices"

	"catbird/internal/config"
	"catbird/internal/testenv"
)

// Options of a run.
type Options struct {
	Effort Effort
	// Only names the figures to measure; empty means all.
	Only []string
	// Actors is how many P7 keeps in memory.
	Actors int
	// Log takes a line before each figure.
	Log io.Writer
}

func (o Options) wants(name string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, name) }

// Node measures the figures of one node.
func Node(ctx context.Context, o Options) ([]Row, error) {
	var rows []Row
	add := func(name string, measure func() (Row, error)) error {
		if !o.wants(name) {
			return nil
		}
		fmt.Fprintf(o.Log, "measuring %s\n", name)
		row, err := measure()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, row)
		return nil
	}
	if err := add("P4", func() (Row, error) { return epochInProcess(ctx) }); err != nil {
		return nil, err
	}
	if err := add("P7", func() (Row, error) { return memoryPerActor(ctx, o.Actors) }); err != nil {
		return nil, err
	}
	if err := add("P12", func() (Row, error) { return bytesOfRows(ctx) }); err != nil {
		return nil, err
	}
	if slices.ContainsFunc([]string{"P1", "P2", "P3", "P5"}, o.wants) {
		if err := withDatabase(ctx, o, add); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(rows, func(a, b Row) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return rows, nil
}

func withDatabase(ctx context.Context, o Options, add func(string, func() (Row, error)) error) error {
	server, err := testenv.StartPostgres()
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	defer server.Close()
	n, err := startNode(ctx, server.URL(), func(c *config.Config) { c.Actors.Max = 10_000 })
	if err != nil {
		return err
	}
	defer n.stop(ctx)
	many, err := n.groups(ctx, "many", 1000, 10)
	if err != nil {
		return err
	}
	hot, err := n.groups(ctx, "hot", 1, 10)
	if err != nil {
		return err
	}
	some, err := n.groups(ctx, "some", 100, 10)
	if err != nil {
		return err
	}
	steps := []struct {
		name    string
		measure func() (Row, error)
	}{
		{"P1", func() (Row, error) {
			return actorsAgainstDirect(ctx, n, o.Effort, "P1 sendMessage, 1,000 conversations, actors on / off", many, 4, true)
		}},
		{"P2", func() (Row, error) {
			return actorsAgainstDirect(ctx, n, o.Effort, "P2 sendMessage, one hot conversation, actors on / off", hot, 15, false)
		}},
		{"P3", func() (Row, error) { return rowsThroughActors(ctx, server.URL(), o.Effort, some) }},
		{"P5", func() (Row, error) { return epochOverHTTP(ctx, n, o.Effort, many[0]) }},
	}
	for _, s := range steps {
		if err := add(s.name, s.measure); err != nil {
			return err
		}
	}
	return nil
}
