package rehearsal

import (
	"context"
	"net/http"
	"time"
)

// watch asks as a kubelet does until ctx ends, and tells of every change. What is
// watched counts as bad until it was good for the first time.
func (p Probe) watch(ctx context.Context, ask func(context.Context) bool, changed func(good bool)) {
	if !pause(ctx, seconds(p.InitialDelaySeconds)) {
		return
	}
	t := time.NewTicker(seconds(p.PeriodSeconds))
	defer t.Stop()
	good, successes, failures := false, 0, 0
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
			good = true
			changed(true)
		case good && failures >= p.FailureThreshold:
			good = false
			changed(false)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// get asks a pod by HTTP.
func (p Probe) get(c *http.Client, host string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+p.Path, nil)
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
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
