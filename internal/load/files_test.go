package load

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Events are read from a file that appears and grows, line by line, and a last
// time up to its end.
func TestFollowEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	write := func(text string) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- FollowEvents(ctx, path, func(_ time.Time, text string) { got <- text }) }()

	write(`{"time":"2026-01-02T03:04:05Z","text":"one"}` + "\n" + `{"time":"2026-01-02T03:04:05Z",`)
	if text := <-got; text != "one" {
		t.Errorf("read %q", text)
	}
	write(`"text":"two"}` + "\nnonsense\n\n" + strings.Repeat("x", 2*maxLine) + "\n" + `{"text":"no time"}` + "\n" + `{"time":"2026-01-02T03:04:05Z","text":"three"}` + "\n")
	if a, b := <-got, <-got; a != "two" || b != "three" {
		t.Errorf("read %q and %q", a, b)
	}
	write(`{"time":"2026-01-02T03:04:05Z","text":"without an end"}`)
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "3 lines") {
		t.Errorf("the bad lines: %v", err)
	}
	if text := <-got; text != "without an end" {
		t.Errorf("read %q", text)
	}
}

func TestEventsOfAFileThatCannotBeRead(t *testing.T) {
	if err := FollowEvents(t.Context(), t.TempDir(), func(time.Time, string) {}); err == nil {
		t.Error("a folder is read for events")
	}
}

// A run reads its file, and leaves out what happened before it.
func TestRunReadsEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	lines := fmt.Sprintf("{\"time\":%q,\"text\":\"before\"}\n{\"time\":%q,\"text\":\"later\"}\n",
		time.Now().Add(-time.Hour).Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339))
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := newFake().config()
	cfg.EventsFile, cfg.Duration = path, 10*time.Millisecond
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.AddEvent(time.Now(), "told")
	r, err := e.Run(t.Context())
	if err != nil || len(r.Events) != 2 || r.Events[0].Text != "told" || r.Events[1].Text != "later" {
		t.Errorf("%+v, %v", r.Events, err)
	}
}

func jwt(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestTokens(t *testing.T) {
	a, b, only := jwt(`{"iss":"did:plc:a","exp":2000000000}`), jwt(`{"iss":"did:plc:b","exp":1900000000}`), jwt(`{"iss":"did:plc:b","lxm":"x.sing"}`)
	tokens, err := ParseTokens(strings.NewReader("# comment\n" + a + "\n\n" + b + "\n" + only + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if p := tokens.People(); len(p) != 2 || p[0] != "did:plc:a" || tokens.Until().Unix() != 1900000000 {
		t.Errorf("%v until %v", p, tokens.Until())
	}
	get := tokens.Source()
	used := map[string]bool{}
	for range 4 {
		tok, err := get("did:plc:b", "x.sing")
		if err != nil {
			t.Fatal(err)
		}
		used[tok] = true
		if tok, err := get("did:plc:b", "x.talk"); tok != b || err != nil {
			t.Errorf("a token for another endpoint is used, %v", err)
		}
	}
	if len(used) == 0 || !used[b] && !used[only] {
		t.Errorf("%d tokens were used", len(used))
	}
	if _, err := get("did:plc:c", "x.sing"); err == nil {
		t.Error("somebody without a token has one")
	}
	for _, bad := range []string{"", "# nothing", "abc", "a.b.c", "e30.e30.c2ln", strings.Repeat("x", 2*maxToken)} {
		if _, err := ParseTokens(strings.NewReader(bad)); err == nil || (len(bad) > 5 && strings.Contains(err.Error(), bad)) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}
