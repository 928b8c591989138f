package smoke

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"catbird/internal/client"
)

// DefaultStepTimeout bounds one step unless told otherwise.
const DefaultStepTimeout = 10 * time.Second

// Config says what is tried, and as whom.
type Config struct {
	// BaseURLs are the clients' ports to ask; requests go to them in turn. At
	// least one.
	BaseURLs []string
	// People give tokens for the two whose conversation this is. nil: nobody's are
	// at hand, and only what needs none is tried.
	People *People
	// WithoutHealth leaves out what asks for health, for URLs behind something
	// that passes nothing but the API on.
	WithoutHealth bool
	// StepTimeout bounds one step; 0: DefaultStepTimeout.
	StepTimeout time.Duration
}

// Result is what became of a step.
type Result string

// The results of a step.
const (
	Passed  Result = "passed"
	Failed  Result = "failed"
	Skipped Result = "skipped" // a step before it failed, without which it makes no sense
)

// Step is what became of one step.
type Step struct {
	Name     string `json:"name"`
	Endpoint string `json:"endpoint"` // of the API, without client.Prefix, or a path
	Result   Result `json:"result"`
	// Seconds is how long it took, repetitions included.
	Seconds float64 `json:"seconds"`
	// Attempts is how often a call of the API was made; more than 1: it had to be
	// repeated. 0 where no token was needed.
	Attempts int    `json:"attempts"`
	Error    string `json:"error,omitempty"`
}

// Report is what a run found.
type Report struct {
	URLs    []string  `json:"urls"`
	At      time.Time `json:"at"` // when it began, UTC
	Seconds float64   `json:"seconds"`
	Passed  bool      `json:"passed"`
	// Convo is the conversation, whether it was created or not, so that it can be
	// found in the nodes' logs; "" where nobody's tokens were at hand.
	Convo string `json:"convoId,omitempty"`
	Steps []Step `json:"steps"`
}

// Run tries everything, in order. After a step has failed, those that do not
// build on it are tried all the same, and whoever joined still leaves. The error
// says that cfg cannot be used; what went wrong with the deployment is in the
// report. It blocks for StepTimeout a step at most, and ends early, with the
// rest failed, when ctx does.
func Run(ctx context.Context, cfg Config) (Report, error) {
	r := &run{timeout: cmp.Or(cfg.StepTimeout, DefaultStepTimeout)}
	transport := client.NewTransport()
	defer transport.CloseIdleConnections()
	r.http = &http.Client{Transport: transport}
	people := cmp.Or(cfg.People, nobody)
	api, err := client.New(client.Config{
		BaseURLs: cfg.BaseURLs, Token: people.token, HTTP: r.http, Attempts: 3,
		Observe: func(client.Observation) { r.attempts.Add(1) },
	})
	if err != nil {
		return Report{}, err
	}
	for _, u := range cfg.BaseURLs {
		r.urls = append(r.urls, strings.TrimRight(u, "/"))
	}
	report := Report{URLs: r.urls, Passed: true}
	var steps []step
	if !cfg.WithoutHealth {
		steps = r.health()
	}
	steps = append(steps, r.stranger())
	if cfg.People != nil {
		talk := newTalk(api, people)
		report.Convo = talk.id
		steps = append(steps, talk.steps()...)
	}
	begun := time.Now()
	report.Steps = r.all(ctx, steps)
	report.At, report.Seconds = begun.UTC(), time.Since(begun).Seconds()
	for _, s := range report.Steps {
		report.Passed = report.Passed && s.Result == Passed
	}
	return report, nil
}

// run is the state of one run.
type run struct {
	urls     []string
	http     *http.Client
	timeout  time.Duration
	attempts atomic.Int64 // of the step that runs
}

// step is one thing that is tried.
type step struct {
	name     string
	endpoint string
	// needs names the steps without which this one makes no sense.
	needs []string
	try   func(ctx context.Context) error
}

func (r *run) all(ctx context.Context, steps []step) []Step {
	passed := map[string]bool{}
	var out []Step
	for _, s := range steps {
		done := r.one(ctx, s, passed)
		passed[s.name] = done.Result == Passed
		out = append(out, done)
	}
	return out
}

// one tries one step.
func (r *run) one(ctx context.Context, s step, passed map[string]bool) Step {
	done := Step{Name: s.name, Endpoint: s.endpoint, Result: Passed}
	for _, need := range s.needs {
		if !passed[need] {
			done.Result, done.Error = Skipped, "needs: "+need
			return done
		}
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	r.attempts.Store(0)
	begun := time.Now()
	err := s.try(ctx)
	done.Seconds, done.Attempts = time.Since(begun).Seconds(), int(r.attempts.Load())
	if err != nil {
		done.Result, done.Error = Failed, strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return done
}
