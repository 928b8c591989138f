package replay

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func newTestProgress(terminal bool, width int) (*progress, *bytes.Buffer) {
	var out bytes.Buffer
	p := newProgress(&Config{Out: &out, Terminal: terminal, Width: func() int { return width }})
	p.add("small", 20)
	p.add("large", 180)
	return p, &out
}

func TestTerminalLineFitsItsWidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, width := range []int{0, 1, 5, 20, 40, 79, 80, 200} {
			p, _ := newTestProgress(true, width)
			for range 10 {
				p.ready["small"]++
			}
			p.ready["large"] = 90
			line := p.line()
			if n := utf8.RuneCountInString(line); n > max(width-1, 0) {
				t.Errorf("width %d: %d columns: %q", width, n, line)
			}
			if width >= 79 && (!strings.HasPrefix(line, "[==") || !strings.Contains(line, " 50%  small 10/20  large 90/180  0.0s")) {
				t.Errorf("width %d: %q", width, line)
			}
			if open, end := strings.IndexByte(line, '['), strings.IndexByte(line, ']'); open == 0 {
				if bar := line[1:end]; strings.Count(bar, "=") != len(bar)/2 {
					t.Errorf("width %d: half is %q", width, bar)
				}
			}
		}
	})
}

func TestTerminalIsRedrawnNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, out := newTestProgress(true, 80)
		p.say("small", "nothing of this is shown")
		for range 100 { // within one moment
			p.done("large")
		}
		if n := strings.Count(out.String(), "\r"); n != 1 {
			t.Errorf("drawn %d times, want once", n)
		}
		timer := time.NewTimer(redrawEvery)
		<-timer.C
		p.done("large")
		if n := strings.Count(out.String(), "\r"); n != 2 || !strings.Contains(out.String(), "large 101/180") {
			t.Errorf("drawn %d times, want twice: %q", n, out.String())
		}
		if err := p.end(); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(out.String(), "\r\x1b[K") || strings.Contains(out.String(), "\n") || strings.Contains(out.String(), "shown") {
			t.Errorf("the terminal is left with %q", out.String())
		}
	})
}

func TestPlainOutputIsFewLines(t *testing.T) {
	p, out := newTestProgress(false, 80)
	p.say("small", "%d steps", 12)
	for range 20 {
		p.done("small")
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	want := "small: 12 steps\nsmall: 25% (5 of 20)\nsmall: 50% (10 of 20)\nsmall: 75% (15 of 20)\nsmall: 100% (20 of 20)\n"
	if out.String() != want {
		t.Errorf("got\n%s, want\n%s", out.String(), want)
	}
}

func TestSummaryQuantiles(t *testing.T) {
	took := make([]time.Duration, 0, 100)
	for i := range 100 {
		took = append(took, time.Duration(100-i)*time.Millisecond)
	}
	got := summarize("e", took, 3)
	want := EndpointSummary{Endpoint: "e", Requests: 100, Repeated: 3, P50: 51 * time.Millisecond, P99: 100 * time.Millisecond, Max: 100 * time.Millisecond}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := summarize("e", nil, 0); got != (EndpointSummary{Endpoint: "e"}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestSummaryPrintSaysItsErrors(t *testing.T) {
	if err := (Summary{}).Print(brokenWriter{}); err == nil {
		t.Error("no error")
	}
	var out bytes.Buffer
	s := Summary{Groups: []GroupSummary{{Name: "small", Members: 2, Wrote: 1500 * time.Millisecond}}, Requests: EndpointSummary{Endpoint: "all", P50: 2500 * time.Microsecond}}
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1.50s", "2.5ms", "small"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
}

func TestMismatchText(t *testing.T) {
	c := (&checker{group: "g", person: "did:plc:a"}).at("reading %d", 1)
	same(c, "n", 1, 2)
	same(c, "s", "a", "b")
	c.sameBytes("b", []byte("secret"), []byte("other"))
	c.sameSet("set", []string{"x", "y", "y"}, []string{"y", "z"})
	same(c, "equal", 1, 1)
	c.sameBytes("equal", nil, []byte{})
	c.sameSet("equal", []string{"a", "b"}, []string{"b", "a"})
	want := []string{
		"did:plc:a, reading 1: n is 1, want 2",
		`did:plc:a, reading 1: s is "a", want "b"`,
		"did:plc:a, reading 1: b is 6 bytes with SHA-256 2bb80d537b1da3e3…, want 5 bytes with SHA-256 d9298a10d1b07358…",
		"did:plc:a, reading 1: set is 3 with x and y too many, want 2, missing z",
	}
	if got := c.err().Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s", got)
	}
	var m *Mismatch
	if !errors.As(fmt.Errorf("replay: %w", c.err()), &m) || m.Field != "n" {
		t.Errorf("first mismatch %+v", m)
	}
}
