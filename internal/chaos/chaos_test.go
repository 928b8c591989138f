package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"catbird/internal/history"
)

// seed is that of CHAOS_SEED, or one that is always the same.
func seed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CHAOS_SEED")
	if text == "" {
		return 1
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("CHAOS_SEED: %v", err)
	}
	return n
}

// shortRun is a run that a busy machine can do, kept in a folder of the test's own.
func shortRun(t *testing.T) Options {
	t.Helper()
	return Options{
		Seed: seed(t), Lease: time.Second, Topics: 12, Clients: 8, Pace: 80 * time.Millisecond,
		Program: program(t), Dir: t.TempDir(), Log: t.Output(),
	}
}

func checkVerdict(t *testing.T, v Verdict, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", v)
	if !v.OK() {
		t.Errorf("the service did not keep its word")
	}
	for _, a := range v.Answers {
		if a.Code == "" && a.Count > 100 {
			return
		}
	}
	t.Errorf("hardly anything was answered: %v", v.Answers)
}

// Every kind of fault once, one after another and together.
func TestEveryFault(t *testing.T) {
	opt := shortRun(t)
	v, err := Run(t.Context(), opt)
	checkVerdict(t, v, err)
	for _, kind := range Kinds {
		if !slices.ContainsFunc(v.Faults, func(f FaultRow) bool { return f.Kind == kind }) {
			t.Errorf("%s did not come", kind)
		}
	}
	for _, file := range []string{scheduleFile, verdictFile, tableFile, logFile, filepath.Join(nodesDir, "a.log")} {
		if info, err := os.Stat(filepath.Join(opt.Dir, file)); err != nil || info.Size() == 0 {
			t.Errorf("the report lacks %s: %v", file, err)
		}
	}
	f, err := os.Open(filepath.Join(opt.Dir, historyFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kept, err := history.Read(f)
	if err != nil || len(kept.Ops) < v.Requests || len(kept.Tenures) != v.Tenures {
		t.Errorf("the history that is kept holds %d attempts and %d tenures: %v", len(kept.Ops), len(kept.Tenures), err)
	}
}

// Where nodes can have no networks of their own, what comes to them is cut off and
// slowed by relays.
func TestNodesAreCutOffWithoutNetworksToo(t *testing.T) {
	opt := shortRun(t)
	opt.Loopback, opt.Kinds = true, []Kind{CutNodes, SlowNodes}
	v, err := Run(t.Context(), opt)
	checkVerdict(t, v, err)
	if len(v.Faults) != len(opt.Kinds) {
		t.Errorf("%d kinds of faults came, want %d", len(v.Faults), len(opt.Kinds))
	}
}

func TestPlannedChangesFailNoRequest(t *testing.T) {
	opt := shortRun(t)
	opt.Lease = 2 * time.Second
	v, err := Plan(t.Context(), opt)
	checkVerdict(t, v, err)
	if len(v.Faults) != len(plan) {
		t.Errorf("%d kinds of changes were made, want %d", len(v.Faults), len(plan))
	}
	for _, door := range append(slices.Concat(baseNodes, extraNodes), frontDoor) {
		if v.Doors[door] == 0 {
			t.Errorf("nothing was answered that went in by %s", door)
		}
	}
}

// The judge sees what is wrong with data that somebody has tampered with.
func TestJudgeSeesDamage(t *testing.T) {
	opt := shortRun(t).withDefaults()
	opt.Topics, opt.Loopback = 6, true
	theatre, err := newTheatre(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := theatre.close(); err != nil {
			t.Error(err)
		}
	}()
	theatre.crowd.start(opt.Clients, theatre.ground)
	await(t, func() bool {
		ops := theatre.rec.History().Ops
		return !slices.ContainsFunc(theatre.topics, func(c *topic) bool { return acknowledged(ops, c.id) < 10 })
	})
	theatre.crowd.end()
	c := theatre.topics
	// Of a row that nobody has read, nobody can tell that it has changed.
	if found := theatre.readLog(t.Context(), baseNodes[0], c[4]); len(found) > 0 {
		t.Fatal(found)
	}
	logs, err := theatre.ground.readLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := theatre.awaitFolds(t.Context(), theatre.topics); err != nil {
		t.Fatal(err)
	}
	if found := theatre.wrongUnread(t.Context(), baseNodes[0], c[5], logs); found != nil {
		t.Fatal(*found)
	}
	countTwice(t, theatre.ground, c[5])
	tamper(t, theatre.ground, `DELETE FROM messages WHERE id = (SELECT id FROM messages WHERE convo_id = $1 AND message_type = 'app' ORDER BY seq LIMIT 1)`, c[0].id)
	tamper(t, theatre.ground, `UPDATE members SET unread_count = unread_count + 1000 WHERE convo_id = $1 AND member_did LIKE '%1'`, c[1].id)
	tamper(t, theatre.ground, `UPDATE conversations SET catbird_fence = catbird_fence + 1, catbird_claim = 'somebody else' WHERE id = $1`, c[2].id)
	tamper(t, theatre.ground, `UPDATE conversations SET current_epoch = current_epoch + 1 WHERE id = $1`, c[3].id)
	tamper(t, theatre.ground, `UPDATE messages SET ciphertext = 'forged' WHERE id = (SELECT id FROM messages WHERE convo_id = $1 AND message_type = 'app' ORDER BY seq LIMIT 1)`, c[4].id)
	v, err := theatre.judge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		rule, convo string
	}{
		{"a log is numbered", c[0].id},
		{"what was acknowledged is stored", c[0].id},
		{"the data is whole", ""},
		{"unread counts are exact", c[1].id},
		{"unread counts are exact", c[5].id},
		{"a claim is taken from a session only when that is over", c[2].id},
		{"nothing is stored that nobody asked for", c[4].id},
		{"there is one order of all requests", c[0].id},
		{"a row of the log never changes", c[4].id},
	} {
		if !slices.ContainsFunc(v.Findings, func(f Finding) bool { return strings.Contains(f.Rule, want.rule) && f.Convo == want.convo }) {
			t.Errorf("it is not found that this was broken: %q, conversation %q", want.rule, want.convo)
		}
	}
	if t.Failed() || v.OK() {
		t.Errorf("the verdict:\n%s", v)
	}
}

// countTwice makes every fold to come count what it counts twice, for the mute
// one of a conversation whose count is right until then.
func countTwice(t *testing.T, g *ground, c *topic) {
	t.Helper()
	conn, err := g.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), fmt.Sprintf(`
		CREATE FUNCTION count_twice() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN NEW.unread_count := 2 * NEW.unread_count - OLD.unread_count; RETURN NEW; END $$;
		CREATE TRIGGER count_twice BEFORE UPDATE OF unread_count ON members FOR EACH ROW
		WHEN (NEW.member_did = '%s') EXECUTE FUNCTION count_twice()`, c.mute()))
	if err != nil {
		t.Fatalf("tampering: %v", err)
	}
}

func acknowledged(ops []history.Op, convo string) (n int) {
	for _, op := range ops {
		if op.Convo == convo && op.Kind == history.SendMessage && op.Output.Outcome == history.Succeeded {
			n++
		}
	}
	return n
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !done() {
		if !pause(ctx, 20*time.Millisecond) {
			t.Fatal("it took too long")
		}
	}
}

func tamper(t *testing.T, g *ground, sql, convo string) {
	t.Helper()
	conn, err := g.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tag, err := conn.Exec(t.Context(), sql, convo)
	if err != nil || tag.RowsAffected() != 1 {
		t.Fatalf("tampering: %v, %v", tag, err)
	}
}
