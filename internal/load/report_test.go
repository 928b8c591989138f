package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"catbird/internal/client"
)

// sample is the report of a run in which a bit of everything happened.
func sample(t *testing.T) (r *Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		cfg := f.config()
		cfg.Rate, cfg.Mix = 20, Mix{SendMessage: 3, GetMessages: 1}
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		e.AddEvent(time.Now().Add(2*second), "hostile </script><script>alert(1)</script> \x1b[2J")
		if r, err = e.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	r.Errors = []ErrorCount{{Operation: "sendMessage", ErrorName: ErrorName{FromAPI, "Unavailable", 503, true}, Count: 3, Example: "hostile <i>\x1b[2J"}}
	r.AttemptErrors, r.Repeated, r.Total.Failed = r.Errors, 3, 3
	r.Verification.Counts = map[Kind]int64{Lost: 300}
	r.Verification.Findings = []Finding{{Lost, "abc", "change 7 is lost \x1b[2J"}}
	return r
}

func TestTables(t *testing.T) {
	r := sample(t)
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"open loop at 20/s", "sendMessage", "getMessages", "20.0 operations were due each second", "503 Unavailable, outcome unknown",
		"+2.0s", "WRONG: 300 findings (lost 300)", "lost, conversation abc: change 7", "and 299 more",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("a terminal would take what a server said for commands")
	}
}

func TestJSON(t *testing.T) {
	r := sample(t)
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var again Report
	d := json.NewDecoder(&b)
	d.DisallowUnknownFields()
	if err := d.Decode(&again); err != nil {
		t.Fatal(err)
	}
	if again.Total.P99 != r.Total.P99 || again.Errors[0] != r.Errors[0] || again.Verification.Counts[Lost] != 300 || len(again.Total.Series) != len(r.Total.Series) {
		t.Errorf("%+v", again)
	}
	if again.OK() {
		t.Error("what is wrong is not any more")
	}
}

// The page needs nothing else, and what it shows is not taken for a part of it.
func TestPage(t *testing.T) {
	r := sample(t)
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if loads := regexp.MustCompile(`(?i)(src|href)\s*=|@import|url\(|fetch\(`).FindString(page); loads != "" {
		t.Errorf("the page loads something: %s", loads)
	}
	if strings.Contains(page, "<script>alert") || strings.Contains(page, "hostile <i>") || strings.Count(page, "<script") != 2 {
		t.Error("an event is taken for markup")
	}
	for _, want := range []string{"prefers-color-scheme: dark", "width=device-width", "300 findings", "503 Unavailable, outcome unknown", "2.0 s</time>", "<td>sendMessage</td>"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	data := regexp.MustCompile(`(?s)<script type="application/json" id="report">(.*?)</script>`).FindStringSubmatch(page)
	var again Report
	if len(data) != 2 || json.Unmarshal([]byte(data[1]), &again) != nil {
		t.Fatal("the page does not hold the report")
	}
	if len(again.Operations) != 2 || len(again.Total.Series) == 0 || again.Events[0].Text != r.Events[0].Text {
		t.Errorf("the page holds %+v", again)
	}
}

func TestNumbersAreReadable(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is written %s", n, got)
		}
	}
	for ms, want := range map[float64]string{0: "-", 0.25: "250µs", 3.14: "3.1ms", 314: "314ms", 3140: "3.14s"} {
		if got := Latency(ms); got != want {
			t.Errorf("%v ms is written %s", ms, got)
		}
	}
}

// A node that is not reached three times in a row is an event, and so is its
// return; a single miss is not.
func TestNodesThatAreNotReached(t *testing.T) {
	d := &diary{}
	w := newWatcher(d)
	see := func(status int) {
		var err error
		if status == 0 {
			err = &client.ConnectionError{Err: errors.New("?")}
		}
		w.observe(client.Observation{Node: "http://a.test", Status: status, Err: err})
	}
	for _, status := range []int{200, 0, 200, 0, 0, 503} {
		see(status)
	}
	if n := len(d.list()); n != 0 {
		t.Errorf("%d events", n)
	}
	for _, status := range []int{0, 0, 0, 0, 0, 200, 200} {
		see(status)
	}
	events := d.list()
	if len(events) != 2 || !strings.Contains(events[0].Text, "is not reached") || !strings.Contains(events[1].Text, "answers again") {
		t.Errorf("%+v", events)
	}
	for range 2 * maxEvents {
		d.add(Event{Text: "x"})
	}
	if len(d.list()) != maxEvents || d.dropped != maxEvents+2 {
		t.Errorf("%d events are kept and %d dropped", len(d.list()), d.dropped)
	}
}

func TestLongRunsHaveLongIntervals(t *testing.T) {
	for d := time.Second; d <= MaxDuration; d *= 2 {
		if n := d / intervalFor(d); n > maxSamples {
			t.Errorf("%v is cut into %d intervals", d, n)
		}
	}
	if intervalFor(MaxDuration) == 0 || MaxDuration/intervalFor(MaxDuration) > maxSamples {
		t.Error("the longest run has too many intervals")
	}
}
