package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"catbird/internal/client"
	"catbird/internal/load"
	"catbird/internal/testenv"
)

// SoakOptions say how long and how hard.
type SoakOptions struct {
	For     time.Duration // of the load; required
	Clients int           // at once, each begins its next operation when it is done with the last
	// Touched conversations are each read once through a node that keeps at most
	// ActorMax of them in memory.
	Touched, ActorMax int
	Log               io.Writer
}

// SoakReport is what a soak has shown.
type SoakReport struct {
	Load *load.Report
	// Levels are of every node and resource, over the load.
	Levels []Level
	// Bounded are of the node that was to hold few actors, over the Touched
	// conversations. It held MostActors at most.
	Bounded             []Level
	Touched, MostActors int
	ActorMax            int
}

// OK reports whether everything stayed within bounds, and the cluster kept its
// word under the load and failed none of it.
func (r SoakReport) OK() bool {
	grows := func(l Level) bool { return !l.Flat }
	return r.Load.OK() && r.Load.Total.Failed == 0 && !slices.ContainsFunc(r.Levels, grows) && !slices.ContainsFunc(r.Bounded, grows) &&
		0 < r.MostActors && r.MostActors <= r.ActorMax
}

// Soak runs a cluster of three server processes at the highest load that the
// machine carries, and looks at what they use of memory, goroutines, connections
// and files; then has one node touch more conversations than it may hold.
func Soak(ctx context.Context, o SoakOptions) (report SoakReport, err error) {
	pg, err := testenv.StartPostgres()
	if err != nil {
		return report, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	defer pg.Close()
	rd, err := testenv.StartRedis()
	if err != nil {
		return report, fmt.Errorf("starting Redis: %w", err)
	}
	defer rd.Close()
	bed, err := startTestbed(ctx, pg.URL(), rd.URL(), 5*time.Second, "warn,app=info", "a", "b", "c")
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, bed.close()) }()
	fmt.Fprintf(o.Log, "%d clients for %v\n", o.Clients, o.For)
	if report.Load, report.Levels, err = soakLoad(ctx, bed, o); err != nil {
		return report, fmt.Errorf("under load: %w", err)
	}
	fmt.Fprintf(o.Log, "touching %d conversations on a node that keeps %d\n", o.Touched, o.ActorMax)
	if err := soakActors(ctx, bed, o, &report); err != nil {
		return report, fmt.Errorf("touching conversations: %w", err)
	}
	return report, nil
}

// soakLoad puts load on all nodes and samples them meanwhile.
func soakLoad(ctx context.Context, bed *testbed, o SoakOptions) (*load.Report, []Level, error) {
	var urls []string
	for _, n := range bed.Nodes() {
		urls = append(urls, "http://"+n.Clients())
	}
	db, err := pgx.Connect(ctx, bed.database)
	if err != nil {
		return nil, nil, err
	}
	defer db.Close(ctx)
	every := max(o.For/120, time.Second)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var levels levels
	var sampling sync.WaitGroup
	stop := make(chan struct{})
	sampling.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.C:
			}
			if err := levels.sample(ctx, bed, db); err != nil {
				cancel(err)
				return
			}
		}
	})
	last := time.Now()
	report, err := load.Run(ctx, load.Config{
		BaseURLs: urls, Token: client.HS256([]byte(secret), ""), Conversations: 500, Members: 5, MessageBytes: 256,
		Clients: o.Clients, Duration: o.For, VerifyTimeout: o.For + time.Minute,
		Progress: func(p load.Progress) {
			if p.Phase != load.Loading && levels.begun() {
				select {
				case <-stop:
				default:
					close(stop) // reading back is not the load
				}
			}
			if time.Since(last) > 15*time.Second {
				last = time.Now()
				fmt.Fprintf(o.Log, "%s for %v: %d done, %.0f a second, %d failed\n",
					p.Phase, p.Elapsed.Round(time.Second), p.OK+p.Conflicts, p.PerSecond, p.Failed)
			}
		},
	})
	select {
	case <-stop:
	default:
		close(stop)
	}
	sampling.Wait()
	return report, levels.judge(), err
}

// soakActors has one node read many conversations, once each.
func soakActors(ctx context.Context, bed *testbed, o SoakOptions, r *SoakReport) error {
	for _, n := range bed.Nodes() {
		if _, err := bed.stop(ctx, n.Name); err != nil {
			return err
		}
	}
	if err := bed.start(ctx, "bounded", fmt.Sprintf("ACTOR_MAX=%d", o.ActorMax)); err != nil {
		return err
	}
	all, err := bareGroups(ctx, bed, "soak", o.Touched)
	if err != nil {
		return err
	}
	r.ActorMax = o.ActorMax
	var levels levels
	for chunk := range slices.Chunk(all.ids, max(len(all.ids)/60, 1)) {
		if err := touch(ctx, bed, chunk, all.token); err != nil {
			return err
		}
		if err := levels.sample(ctx, bed, nil); err != nil {
			return err
		}
		actors, err := metric(bed.pick(), "actor_registry_active_actors")
		if err != nil {
			return err
		}
		r.Touched, r.MostActors = r.Touched+len(chunk), max(r.MostActors, int(actors))
	}
	r.Bounded = levels.judge()
	return nil
}

// PrintSoak writes the report as tables.
func PrintSoak(w io.Writer, r SoakReport) error {
	if err := r.Load.Write(w); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nnode\tresource\tat first\tin the middle\tat last\tmost\tgrowth\t")
	for _, l := range slices.Concat(r.Levels, r.Bounded) {
		verdict := "level"
		if !l.Flat {
			verdict = "GROWS"
		}
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%+.1f\t%s\n", l.Node, l.Resource, l.First, l.Middle, l.Last, l.Most, l.Growth, verdict)
	}
	fmt.Fprintf(t, "\n%d conversations touched once: at most %d actors, of %d\n", r.Touched, r.MostActors, r.ActorMax)
	return t.Flush()
}
