package load

import (
	"testing"
	"testing/synctest"
	"time"
)

const second = time.Second

// stall makes the fake silent from one time of the load to another: who asks in
// between is answered at its end.
func (f *fake) stall(begun func() time.Time, from, to time.Duration) {
	f.before = func(endpoint string) {
		if endpoint != "sendMessage" {
			return
		}
		if at := time.Since(begun()); at >= from && at < to {
			time.Sleep(to - at)
		}
	}
}

// In an open loop everybody who was due while the server was silent has waited,
// also those for whom no client was free to ask; in a closed loop only those who
// asked.
func TestLatencyCountsFromWhenAnOperationWasDue(t *testing.T) {
	for _, test := range []struct {
		name    string
		rate    float64
		clients int
		slow    int // operations that took longer than half a second
	}{
		{"open", 10, 100, 45},           // those due from 2 s to 6.4 s
		{"open, one client", 10, 1, 45}, // just the same
		{"closed", 0, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				start := time.Now()
				f.stall(func() time.Time { return start }, 2*second, 7*second)
				cfg := f.config()
				if cfg.Rate, cfg.Clients = test.rate, test.clients; cfg.Rate == 0 {
					stall := f.before
					f.before = func(e string) { // takes a tenth of a second, so that it asks ten times a second
						if e == "sendMessage" {
							time.Sleep(second / 10)
						}
						stall(e)
					}
				}
				r, seen := run(t, cfg)
				slow := 0
				for _, o := range seen {
					if o.Latency() > second/2 {
						slow++
					}
				}
				if slow != test.slow || !r.OK() {
					t.Errorf("%d of %d operations were slow, want %d; %+v", slow, len(seen), test.slow, r.Verification)
				}
				if r.Total.Max < 4900 || r.Total.Max > 5150 {
					t.Errorf("the slowest took %v ms, and the stall lasted 5 s", r.Total.Max)
				}
				if test.rate > 0 && (len(seen) != 100 || r.Skipped != 0) {
					t.Errorf("%d operations were done and %d skipped; 100 were due", len(seen), r.Skipped)
				}
				if late := test.rate > 0 && test.clients == 1; (r.Late > 0) != late {
					t.Errorf("%d operations began late", r.Late)
				}
			})
		})
	}
}

// What is due is due, whatever the answers are like: at equal distances.
func TestOpenLoopIsEven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		cfg := f.config()
		cfg.Rate, cfg.Clients = 4, 3
		start := time.Now()
		_, seen := run(t, cfg)
		if len(seen) != 40 {
			t.Fatalf("%d operations, want 40", len(seen))
		}
		for i, o := range seen {
			if due := start.Add(time.Duration(i) * second / 4); !o.Due.Equal(due) || !o.Sent.Equal(due) || !o.Done.Equal(due) {
				t.Errorf("operation %d was due at %v, sent at %v", i, o.Due.Sub(start), o.Sent.Sub(start))
			}
		}
	})
}

// Operations that were due and for which no client became free in time are not
// forgotten.
func TestSkippedOperationsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		start := time.Now()
		f.stall(func() time.Time { return start }, 2*second, 15*second)
		cfg := f.config()
		cfg.Rate, cfg.Clients = 10, 5
		r, seen := run(t, cfg)
		if len(seen) != 25 || r.Skipped != 75 {
			t.Errorf("%d operations were done and %d skipped, want 25 and 75", len(seen), r.Skipped)
		}
		if r.Seconds != 15 {
			t.Errorf("the last operation ended after %v s, want 15", r.Seconds)
		}
	})
}

// A run that is stopped skips only what was due by then.
func TestStopSkipsNothingThatIsNotDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		cfg := f.config()
		cfg.Rate = 10
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(3*second+second/20, e.Stop)
		r, err := e.Run(t.Context())
		if err != nil || r.Total.OK != 31 || r.Skipped != 0 || !r.EndedEarly {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// Intervals in which nothing ended are in the series, and where the operations
// ended is where they are.
func TestSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		start := time.Now()
		f.stall(func() time.Time { return start }, 2*second, 7*second)
		cfg := f.config()
		cfg.Rate, cfg.Clients = 10, 100
		r, _ := run(t, cfg)
		if r.IntervalSeconds != 0.25 || len(r.Total.Series) != 40 {
			t.Fatalf("%d intervals of %v s", len(r.Total.Series), r.IntervalSeconds)
		}
		var before, during, then int64
		for i, s := range r.Total.Series {
			switch {
			case i < 8:
				before += s.OK
			case i < 28:
				during += s.OK
			case i == 28:
				then = s.OK
			}
		}
		if before != 20 || during != 0 || then != 53 {
			t.Errorf("%d before the stall, %d during it, %d right after it; want 20, 0 and 53", before, during, then)
		}
		if s := r.Total.Series[28]; s.P50 < 2000 || s.Max < 4900 {
			t.Errorf("right after the stall: %+v", s)
		}
	})
}

// Progress is told each second and at the end.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		cfg := f.config()
		cfg.Rate = 10
		var all []Progress
		cfg.Progress = func(p Progress) { all = append(all, p) }
		run(t, cfg)
		if len(all) < 10 || all[len(all)-1].Phase != Done {
			t.Fatalf("%d times, the last %+v", len(all), all[len(all)-1])
		}
		if p := all[4]; p.Phase != Loading || p.OK < 50 || p.OK > 51 || p.PerSecond < 8.9 || p.PerSecond > 11.1 || p.Created != 1 || p.Max == 0 {
			t.Errorf("after five seconds: %+v", p)
		}
	})
}
