package sqlite_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"catbird/conversation"
	"catbird/persistence"
	"catbird/persistence/sqlite"
)

func TestOpenTakesTheFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := sqlite.Open(t.Context(), sqlite.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, err = sqlite.Open(t.Context(), sqlite.Config{Dir: dir})
	if !errors.Is(err, sqlite.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("second opener: got error %v, want one that names %s", err, dir)
	}
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	openStore(t, dir)
}

func TestOpenKeepsFilesPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "on the way")
	s := openStore(t, dir)
	create(t, s, "aa")
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 3 { // the database, its log, the lock
		t.Fatalf("files: %v", files)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has mode %o", f.Name(), mode)
		}
	}
}

func TestOpenBadFolder(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	notDatabase := t.TempDir()
	if err := os.WriteFile(filepath.Join(notDatabase, "catbird.db"), bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"none": "", "a file": file, "below a file": filepath.Join(file, "x"), "no database": notDatabase} {
		s, err := sqlite.Open(t.Context(), sqlite.Config{Dir: dir})
		if err == nil {
			t.Errorf("%s: opened", name)
			s.Close()
		}
	}
	// A failed open has let go of the folder.
	if err := os.Remove(filepath.Join(notDatabase, "catbird.db")); err != nil {
		t.Fatal(err)
	}
	openStore(t, notDatabase)
}

func TestReopenFindsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "100% of ?#&odd names")
	s := openStore(t, dir)
	create(t, s, "aa")
	send(t, s, "aa", []byte("one"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatalf("prepare twice: %v", err)
	}
	p := readLog(t, s, persistence.MessagesQuery{Convo: "aa"})
	if len(p.Messages) != 1 || string(p.Messages[0].Ciphertext) != "one" {
		t.Fatalf("messages: %+v", p.Messages)
	}
	if _, err := os.Stat(filepath.Join(dir, "catbird.db")); err != nil {
		t.Fatal(err)
	}
}

func TestUnpreparedIsNoUnavailability(t *testing.T) {
	t.Parallel()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Ping(t.Context()); err != nil {
		t.Fatalf("ping: %v", err)
	}
	if _, err := s.LiveSessions(t.Context()); err == nil || errors.Is(err, persistence.ErrUnavailable) {
		t.Fatalf("got error %v, want a fault", err)
	}
}

// A page holds no more than one answer may, one row at least, and says that
// there is more.
func TestPagesAreCutByBytes(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	create(t, s, "aa")
	large := bytes.Repeat([]byte("x"), conversation.MaxAnswer/2-10)
	send(t, s, "aa", large)
	send(t, s, "aa", large)
	send(t, s, "aa", large)
	send(t, s, "aa", large[:100])
	for _, c := range []struct {
		since *int64
		want  string
		more  bool
	}{
		{ptr[int64](0), "[1 2]", true},
		{ptr[int64](1), "[2 3]", true},
		{ptr[int64](2), "[3 4]", false},
		{nil, "[3 4]", false},
	} {
		p := readLog(t, s, persistence.MessagesQuery{Convo: "aa", SinceSeq: c.since})
		if got := seqs(p); got != c.want || p.More != c.more {
			t.Errorf("seqs %s, more %t; want %s, %t", got, p.More, c.want, c.more)
		}
	}
}

// A log that somebody else has written to may refuse a unit; the others of the
// batch are stored all the same.
func TestAppendOfARefusedUnitLeavesTheOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, other := openStore(t, dir), openRaw(t, dir)
	session := persistence.Session{ID: "s", Node: "n"}
	if err := s.StartSession(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	convos := []string{"aa", "bb", "cc"}
	for _, convo := range convos {
		create(t, s, convo)
	}
	claimed, err := s.Claim(t.Context(), session.ID, convos)
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Exec(`INSERT INTO messages (id, convo_id, message_type, epoch, seq, created_at, ciphertext) VALUES ('x', 'bb', 'app', 0, 1, 0, x'00')`)
	if err != nil {
		t.Fatal(err)
	}
	var units []*conversation.Unit
	for _, c := range claimed {
		r := request(c.Convo, conversation.Send{Ciphertext: []byte("one")})
		change, next, err := conversation.Decide(env(), c.State, r)
		if err != nil {
			t.Fatal(err)
		}
		u := conversation.NewUnit(c.Convo, c.State, c.Fence)
		u.Add(change, next)
		units = append(units, u)
	}
	got, err := s.Append(t.Context(), units)
	if err != nil {
		t.Fatal(err)
	}
	want := []persistence.AppendOutcome{persistence.Appended, persistence.Failed, persistence.Appended}
	for i, convo := range convos {
		if got[i] != want[i] {
			t.Errorf("%s: outcome %d, want %d", convo, got[i], want[i])
		}
		if p := readLog(t, s, persistence.MessagesQuery{Convo: convo}); len(p.Messages) != 1 {
			t.Errorf("%s: %d messages", convo, len(p.Messages))
		}
	}
	// Loading anew counts on from what is there.
	claimed, err = s.Claim(t.Context(), session.ID, []string{"bb"})
	if err != nil || claimed[0].State.Seq != 1 {
		t.Fatalf("claim again: seq %d, error %v", claimed[0].State.Seq, err)
	}
}
