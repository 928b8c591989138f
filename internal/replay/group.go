package replay

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"catbird/conversation"
	"catbird/internal/client"
	"catbird/testdata/transcripts"
)

// atOnce bounds how many people of one group make requests at the same time.
const atOnce = 4

// group is the replay of one transcript.
type group struct {
	cfg      *Config
	t        *transcripts.Transcript
	h        history
	client   *client.Client
	run      string // tells the keys of this replay from those of another
	progress *progress

	// sent is what the service said of each row when it was written, by seq;
	// empty where nothing was written.
	sent map[int64]client.Sent

	wrote, verified time.Duration
}

func (g *group) as(did string) *client.Caller { return g.client.As(did) }

func (g *group) check(person string) *checker { return &checker{group: g.t.Name, person: person} }

// do replays the group, or only reads it back.
func (g *group) do(ctx context.Context) error {
	began := time.Now()
	if !g.cfg.VerifyOnly {
		if err := g.write(ctx); err != nil {
			return fmt.Errorf("group %s: %w", g.t.Name, err)
		}
		g.wrote = time.Since(began)
		began = time.Now()
	}
	if err := g.verify(ctx); err != nil {
		return fmt.Errorf("group %s: %w", g.t.Name, err)
	}
	g.verified = time.Since(began)
	return nil
}

// work is how many units of progress the group has.
func (g *group) work() int {
	n := len(g.t.People) // reading back
	if !g.cfg.VerifyOnly {
		n += len(g.t.People) + len(g.t.Steps)
	}
	return n
}

func (g *group) write(ctx context.Context) error {
	if err := g.mustBeNew(ctx); err != nil {
		return err
	}
	g.progress.say(g.t.Name, "%d people publish their key packages", len(g.t.People))
	if err := g.eachPerson(ctx, g.publish); err != nil {
		return err
	}
	g.progress.say(g.t.Name, "%d steps", len(g.t.Steps))
	for i, s := range g.t.Steps {
		if err := g.step(ctx, i, s); err != nil {
			return fmt.Errorf("%s: %w", stepName(i, s), err)
		}
		g.progress.done(g.t.Name)
	}
	return nil
}

// mustBeNew finds out whether the group exists before anything is written, as
// key packages that are published again could otherwise be used again.
func (g *group) mustBeNew(ctx context.Context) error {
	_, err := g.as(g.h.creator).GetEpoch(ctx, g.t.GroupID)
	switch {
	case client.NameOf(err) == conversation.ConvoNotFound:
		return nil
	case err == nil, client.NameOf(err) == conversation.NotMember:
		return ErrExists
	default:
		return fmt.Errorf("look whether the group exists: %w", err)
	}
}

// eachPerson calls f for every person, several at once, and counts each as a
// unit of progress. All are tried; what went wrong is joined.
func (g *group) eachPerson(ctx context.Context, f func(context.Context, transcripts.Person) []error) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	errs := make([][]error, len(g.t.People))
	for i, p := range g.t.People {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() == nil {
				errs[i] = f(ctx, p)
				g.progress.done(g.t.Name)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return joined(slices.Concat(errs...))
}

func (g *group) publish(ctx context.Context, p transcripts.Person) []error {
	for i, k := range p.KeyPackages {
		err := g.as(p.DID).PublishKeyPackage(ctx, client.PublishKeyPackage{
			KeyPackage: k.Data, CipherSuite: g.t.CipherSuite, IdempotencyKey: g.key("kp", i),
		})
		if err != nil {
			return []error{fmt.Errorf("key package %d of %s: %w", i, p.DID, err)}
		}
	}
	return nil
}

// key returns the idempotency key of one change of this replay. It is short
// enough for a msgId.
func (g *group) key(what string, i int) string { return fmt.Sprintf("%s-%s-%d", g.run, what, i) }
