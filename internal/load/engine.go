package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"catbird/internal/client"
)

// progressEvery is how often Config.Progress is called.
const progressEvery = time.Second

// Engine runs one load, once.
type Engine struct {
	cfg       Config
	run       [8]byte
	client    *client.Client
	transport *http.Transport // nil where the caller gave an http.Client
	payloads  *payloads
	verifier  *verifier
	findings  *findings
	recorder  *recorder
	diary     *diary
	convos    []*convo

	begun    atomic.Bool
	phase    atomic.Value // Phase
	since    atomic.Int64 // of the phase, in nanoseconds of the wall clock
	created  atomic.Int64
	inFlight atomic.Int64
	endOnce  sync.Once
	ending   chan struct{} // closed: no operation begins any more
	early    bool          // it ended before its time; set before the report
}

// Run runs one load: [New] and [Engine.Run] in one.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	e, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return e.Run(ctx)
}

// New checks cfg and returns an engine that will run it. It makes no request.
// What cannot be used is one or more *[ConfigError].
func New(cfg Config) (*Engine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, findings: newFindings(), diary: &diary{}, ending: make(chan struct{})}
	_, _ = rand.Read(e.run[:]) // never fails
	if e.payloads, err = newPayloads(cfg.Payload, e.run, cfg.Seed, cfg.MessageBytes); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	e.recorder = newRecorder(&e.cfg)
	if err := e.connect(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	e.verifier = &verifier{client: e.client, payloads: e.payloads}
	e.enter(Preparing)
	return e, nil
}

func (e *Engine) connect() (err error) {
	use := e.cfg.HTTP
	if use == nil {
		e.transport = client.NewTransport()
		e.transport.MaxIdleConnsPerHost = max(e.transport.MaxIdleConnsPerHost, e.cfg.Clients+readersAtOnce)
		e.transport.MaxIdleConns = 0 // those of each host are enough of a bound
		use = &http.Client{Transport: e.transport}
	}
	watch := newWatcher(e.diary)
	e.client, err = client.New(client.Config{
		BaseURLs: e.cfg.BaseURLs, Token: e.cfg.Token, HTTP: use, Attempts: e.cfg.Attempts, AttemptTimeout: e.cfg.AttemptTimeout,
		Observe: func(o client.Observation) {
			watch.observe(o)
			e.recorder.attempt(o)
		},
	})
	return err
}

// Stop ends the load before its time: no operation begins any more, those under
// way are waited for, and Run goes on to read back and report. It returns at
// once, may be called by any goroutine, and again.
func (e *Engine) Stop() { e.endOnce.Do(func() { close(e.ending) }) }

func (e *Engine) stopped() bool {
	select {
	case <-e.ending:
		return true
	default:
		return false
	}
}

// AddEvent enters what happened at some time, for the report. It may be called
// by any goroutine, before Run and while it runs.
func (e *Engine) AddEvent(at time.Time, text string) { e.diary.add(Event{Time: at, Text: text}) }

// ErrUsed says that an engine has run already.
var ErrUsed = errors.New("load: an engine runs once")

// Run creates the conversations, runs the load, reads everything back and
// reports. It returns when all of that is done, which takes little longer than
// Config.Duration, Timeout and VerifyTimeout together.
//
// What is wrong with the cluster is in the report: see [Report.OK]. An error
// means that the run itself could not be made: conversations could not be
// created, or ctx ended, which breaks everything off ([Engine.Stop] does not).
// The report is nil if the load had not begun.
func (e *Engine) Run(ctx context.Context) (*Report, error) {
	if e.begun.Swap(true) {
		return nil, ErrUsed
	}
	if e.transport != nil {
		defer e.transport.CloseIdleConnections()
	}
	defer e.tell()()
	stopFollowing := e.follow()
	defer stopFollowing()
	if err := e.prepare(ctx); err != nil {
		return nil, fmt.Errorf("load: create the conversations: %w", err)
	}
	e.enter(Loading)
	e.load(ctx)
	e.enter(Verifying)
	began := time.Now()
	verified := e.verify(ctx)
	verified.Seconds = time.Since(began).Seconds()
	stopFollowing()
	e.enter(Done)
	return e.report(verified), context.Cause(ctx)
}

// follow reads events from the file until the function that it returns is called,
// which may be done again.
func (e *Engine) follow() (stop func()) {
	if e.cfg.EventsFile == "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	began := time.Now().Truncate(time.Second) // many write whole seconds
	var wg sync.WaitGroup
	wg.Go(func() {
		err := FollowEvents(ctx, e.cfg.EventsFile, func(at time.Time, text string) {
			if !at.Before(began) {
				e.AddEvent(at, text)
			}
		})
		if err != nil {
			e.diary.add(Event{Time: time.Now(), Noted: true, Text: err.Error()})
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

func (e *Engine) enter(p Phase) {
	e.since.Store(time.Now().UnixNano())
	e.phase.Store(p)
}

// tell calls Config.Progress now and then until the function that it returns is
// called, which does so a last time.
func (e *Engine) tell() (stop func()) {
	if e.cfg.Progress == nil {
		return func() {}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(progressEvery)
		defer t.Stop()
		last, at := int64(0), time.Now()
		for {
			over := false
			select {
			case <-t.C:
			case <-quit:
				over = true
			}
			p, now := e.progress(), time.Now()
			ended := p.OK + p.Conflicts + p.Failed
			p.PerSecond = float64(ended-last) / max(now.Sub(at).Seconds(), 1e-3)
			last, at = ended, now
			e.cfg.Progress(p)
			if over {
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}

func (e *Engine) progress() Progress {
	p := Progress{}
	phase := e.phase.Load().(Phase)
	if phase == Loading {
		p = e.recorder.standing()
	}
	p.Phase, p.Elapsed = phase, time.Since(time.Unix(0, e.since.Load()))
	p.InFlight, p.Findings = int(e.inFlight.Load()), e.findings.total()
	p.Created, p.Verified, p.Conversations = int(e.created.Load()), int(e.verifier.done.Load()), e.cfg.Conversations
	return p
}

// load runs the loop, with the audit beside it.
func (e *Engine) load(ctx context.Context) {
	start := time.Now()
	e.recorder.begin(start)
	stopAudit := e.audit(ctx)
	p := newPace(start, e.cfg.Duration, e.cfg.Rate, e.ending)
	begun := p.run(ctx, e.cfg.Clients, func(n int64, due time.Time) { e.operate(ctx, n, due) })
	e.early = p.stopped(ctx)
	e.recorder.skipped(p.skipped(time.Now(), begun))
	e.recorder.end()
	stopAudit()
}

// operate does the n-th operation.
func (e *Engine) operate(ctx context.Context, n int64, due time.Time) {
	e.inFlight.Add(1)
	defer e.inFlight.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	rng := mathrand.New(mathrand.NewPCG(e.cfg.Seed, uint64(n)))
	op := e.cfg.Mix.pick(rng)
	c := e.convos[rng.IntN(len(e.convos))]

	o := Operation{Op: op, Convo: c.id, Due: due, Sent: time.Now()}
	if e.cfg.Rate == 0 { // in a closed loop it is due when it begins
		o.Due = o.Sent
	}
	e.do(ctx, rng, c, &o)
	o.Done = time.Now()
	o.Conflict = conflict(o.Err)
	e.recorder.record(&o)
	if e.cfg.Observe != nil {
		e.cfg.Observe(o)
	}
}

// audit reads back while the load runs, so that the books stay small. The
// function that it returns stops that and waits for its end.
func (e *Engine) audit(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(auditEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				e.auditOnce(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

func (e *Engine) auditOnce(ctx context.Context) {
	most := min(max(backlogGoal/len(e.convos), 8), 512)
	places := make(chan struct{}, auditorsAtOnce)
	var wg sync.WaitGroup
	total := 0
	for _, c := range e.convos {
		n := c.books.backlog()
		total += n
		if n < most || ctx.Err() != nil {
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			_ = e.verifier.catchUp(ctx, c) // what cannot be read now can be later
		})
	}
	wg.Wait()
	if total >= backlogLimit && !e.stopped() {
		e.diary.add(Event{Time: time.Now(), Noted: true, Text: "the load ends: too many acknowledged changes could not be read back yet"})
		e.Stop()
	}
}

func (e *Engine) verify(ctx context.Context) Verification {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.VerifyTimeout)
	defer cancel()
	v := e.verifier.all(ctx, e.convos)
	e.findings.mu.Lock()
	defer e.findings.mu.Unlock()
	v.Counts, v.Findings = e.findings.counts, e.findings.list
	return v
}
