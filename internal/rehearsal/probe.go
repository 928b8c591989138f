package rehearsal

import (
	"context"
	"net/http"
	"time"
)

// watch asks as a kubelet does until ctx ends, and tells of the first verdict and of
// every other one. The probe's delay runs from began on.
func (p Probe) watch(ctx context.Context, began time.Time, ask func(context.Context) bool, changed func(good bool)) {
	if !pause(ctx, time.Until(began.Add(seconds(p.InitialDelaySeconds)))) {
		return
	}
	t := time.NewTicker(seconds(p.PeriodSeconds))
	defer t.Stop()
	good, bad, successes, failures := false, false, 0, 0
	for {
		one, cancel := context.WithTimeout(ctx, seconds(p.TimeoutSeconds))
		ok := ask(one)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if ok {
			successes, failures = successes+1, 0
		} else {
			successes, failures = 0, failures+1
		}
		switch {
		case !good && successes >= p.SuccessThreshold:
			good, bad = true, false
			changed(true)
		case !bad && failures >= p.FailureThreshold:
			good, bad = false, true
			changed(false)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// get asks a process by HTTP. One that has no address yet does not answer.
func (p Probe) get(c *http.Client, host func() string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		at := host()
		if at == "" {
			return false
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+p.Path, nil)
		if err != nil {
			return false
		}
		res, err := c.Do(req)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode >= http.StatusOK && res.StatusCode < http.StatusBadRequest
	}
}

// pause waits for d and reports whether ctx let it.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
