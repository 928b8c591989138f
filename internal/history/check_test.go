package history_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"catbird/conversation"
	"catbird/internal/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "did:plc:alice"
	bob   = "did:plc:bob"
	carol = "did:plc:carol"
)

// from starts an operation of alice between two instants, in milliseconds.
func from(call, ret int) history.Op {
	return history.Op{Convo: "c", Caller: alice, Call: time.Duration(call) * time.Millisecond, Return: time.Duration(ret) * time.Millisecond}
}

func by(who string, op history.Op) history.Op {
	op.Caller = who
	return op
}

func keyed(key string, op history.Op) history.Op {
	op.Input.Key = key
	return op
}

// gets replaces the answer.
func gets(out history.Output, op history.Op) history.Op {
	op.Output = out
	return op
}

func refused(code conversation.Code, op history.Op) history.Op {
	return gets(history.Refusal(code, 0), op)
}

func lost(op history.Op) history.Op { return gets(history.Lost(), op) }

func send(op history.Op, text string, epoch, seq int64) history.Op {
	op.Kind, op.Input.Payload, op.Input.Epoch = history.SendMessage, text, &epoch
	op.Output = history.Output{Outcome: history.Succeeded, Epoch: epoch, Seq: seq, MessageID: "id-" + text}
	return op
}

// commit is answered as over HTTP: with the epoch, without the seq.
func commit(op history.Op, text string, epoch int64) history.Op {
	op.Kind, op.Input.Payload = history.Commit, text
	op.Output = history.Output{Outcome: history.Succeeded, Epoch: epoch}
	return op
}

func expecting(epoch int64, op history.Op) history.Op {
	op.Input.Epoch = &epoch
	return op
}

func add(op history.Op, who string, epoch int64) history.Op {
	op = commit(op, "", epoch)
	op.Kind, op.Input.DIDs = history.AddMembers, []string{who}
	return op
}

func leave(op history.Op, who string, epoch int64) history.Op {
	op = add(op, who, epoch)
	op.Kind = history.LeaveConvo
	return op
}

func epoch(op history.Op, n int64) history.Op {
	op.Kind, op.Output = history.GetEpoch, history.Output{Outcome: history.Succeeded, Epoch: n}
	return op
}

func read(op history.Op, rows ...history.Row) history.Op {
	op.Kind, op.Output = history.GetMessages, history.Output{Outcome: history.Succeeded, Rows: rows}
	for _, r := range rows {
		op.Output.Seq = max(op.Output.Seq, r.Seq)
	}
	return op
}

func since(n int64, op history.Op) history.Op {
	op.Input.Since = &n
	return op
}

func limit(n int, lastSeq int64, op history.Op) history.Op {
	op.Input.Limit, op.Output.Seq = n, lastSeq
	return op
}

func message(seq int64, text string, epoch int64) history.Row {
	return history.Row{ID: "id-" + text, Kind: conversation.KindApp, Sender: alice, Epoch: epoch, Seq: seq, Payload: text}
}

func commitRow(seq int64, text string, epoch int64) history.Row {
	r := message(seq, text, epoch)
	r.Kind = conversation.KindCommit
	return r
}

// of numbers operations, each by a client of its own.
func of(ops ...history.Op) history.History {
	for i := range ops {
		ops[i].ID, ops[i].Client = int64(i+1), i
	}
	return history.History{Convos: []history.Convo{{ID: "c", Creator: alice, Members: []string{alice, bob}}}, Ops: ops}
}

func check(t *testing.T, h history.History, cfg history.CheckConfig) history.Report {
	t.Helper()
	r, err := history.Check(t.Context(), h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// right are histories that a correct service may give.
var right = map[string][]history.Op{
	"nothing happens": {epoch(from(0, 1), 0), read(from(2, 3))},
	"one after another": {
		send(from(0, 1), "a", 0, 1), commit(from(2, 3), "k", 1), send(from(4, 5), "b", 1, 3),
		epoch(by(bob, from(6, 7)), 1), read(by(bob, from(6, 7)), message(1, "a", 0), commitRow(2, "k", 1), message(3, "b", 1)),
	},
	"two at once, in either order": {send(from(0, 9), "a", 0, 2), send(from(0, 9), "b", 0, 1)},
	"a read while a commit is under way sees it or not": {
		commit(from(0, 9), "k", 1), epoch(from(1, 2), 0), epoch(from(3, 4), 1), epoch(from(5, 6), 1),
	},
	"a request that was not answered took effect later": {
		lost(send(from(0, 1), "a", 0, 0)), read(from(2, 3)), send(from(4, 5), "b", 0, 1), read(from(6, 7), message(1, "b", 0), message(2, "a", 0)),
	},
	"a commit that was not answered took effect when nothing was read": {
		lost(commit(from(0, 1), "k", 0)), epoch(from(2, 3), 0), epoch(from(4, 5), 1),
	},
	"a request that was not answered never took effect": {lost(send(from(0, 1), "a", 0, 0)), send(from(2, 3), "b", 0, 1), read(from(4, 5), message(1, "b", 0))},
	"a request that was not answered came too late to be allowed": {
		lost(send(from(0, 1), "a", 0, 0)), commit(from(2, 3), "k", 1), read(from(4, 5), commitRow(1, "k", 1)),
	},
	"a retry gets the first answer": {
		keyed("x", lost(send(from(0, 1), "a", 0, 0))), commit(from(2, 3), "k", 1), keyed("x", send(from(4, 5), "a", 0, 1)),
		read(from(6, 7), message(1, "a", 0), commitRow(2, "k", 1)),
	},
	"a retry does it, and the first comes too late": {
		keyed("x", lost(send(from(0, 1), "a", 0, 0))), read(from(2, 3)), keyed("x", send(from(4, 5), "a", 0, 1)), read(from(6, 7), message(1, "a", 0)),
	},
	"a key for something else": {keyed("x", send(from(0, 1), "a", 0, 1)), keyed("x", refused(conversation.IdempotencyConflict, send(from(2, 3), "b", 0, 0)))},
	"a key of somebody else":   {keyed("x", send(from(0, 1), "a", 0, 1)), keyed("x", by(bob, send(from(2, 3), "b", 0, 2)))},
	"what is refused has no effect": {
		commit(from(0, 1), "k", 1), gets(history.Refusal(conversation.EpochMismatch, 1), send(from(2, 3), "a", 0, 0)),
		gets(history.Refusal(conversation.EpochMismatch, 1), expecting(0, commit(from(2, 3), "l", 0))),
		refused(conversation.AlreadyMember, add(from(2, 3), bob, 0)), refused(conversation.TargetNotMember, leave(from(2, 3), carol, 0)),
		refused(conversation.NotAuthorized, by(bob, leave(from(2, 3), alice, 0))), refused(conversation.NotMember, by(carol, epoch(from(2, 3), 0))),
		read(from(4, 5), commitRow(1, "k", 1)),
	},
	"members come and go": {
		add(from(0, 1), carol, 1), by(carol, send(from(2, 3), "a", 1, 2)), leave(from(4, 5), carol, 2),
		refused(conversation.NotMember, by(carol, epoch(from(6, 7), 0))), add(from(8, 9), carol, 3), epoch(by(carol, from(10, 11)), 3),
	},
	"the last one stays": {leave(from(0, 1), bob, 1), refused(conversation.LastMember, leave(from(2, 3), alice, 0))},
	"who has left reads up to then": {
		by(bob, leave(from(0, 1), bob, 1)), send(from(2, 3), "a", 1, 2),
		read(by(bob, from(4, 5)), history.Row{ID: "l", Kind: conversation.KindCommit, Sender: bob, Epoch: 1, Seq: 1}),
	},
	"pages": {
		send(from(0, 1), "a", 0, 1), send(from(2, 3), "b", 0, 2), send(from(4, 5), "c", 0, 3),
		limit(2, 3, read(from(6, 7), message(2, "b", 0), message(3, "c", 0))), limit(1, 3, since(1, read(from(6, 7), message(2, "b", 0)))),
		limit(0, 3, since(3, read(from(6, 7)))), limit(0, 3, since(9, read(from(6, 7)))),
	},
	"what failed says nothing": {refused(conversation.Unavailable, send(from(0, 1), "a", 7, 0)), refused(conversation.MailboxFull, add(from(0, 1), bob, 0)), epoch(from(2, 3), 0)},
}

func TestRightHistories(t *testing.T) {
	for name, ops := range right {
		t.Run(name, func(t *testing.T) {
			if r := check(t, of(ops...), history.CheckConfig{}); !r.OK() {
				t.Errorf("%v\n%v", r.Results, r.Violations)
			}
		})
	}
}

// wrong are histories that show a fault, each amid much that is right, and the
// operations that are enough to show it.
var wrong = map[string]struct {
	ops      []history.Op
	smallest int
}{
	"a message is lost":                       {[]history.Op{send(from(0, 1), "a", 0, 1), read(from(2, 3))}, 2},
	"a message is lost from between":          {[]history.Op{send(from(0, 1), "a", 0, 1), send(from(2, 3), "b", 0, 2), read(from(4, 5), message(2, "b", 0))}, 2},
	"an old epoch is read":                    {[]history.Op{commit(from(0, 1), "k", 1), epoch(from(2, 3), 0)}, 2},
	"an old epoch is read, within two reads":  {[]history.Op{commit(from(0, 9), "k", 1), epoch(from(1, 2), 1), epoch(from(3, 4), 0)}, 3},
	"an epoch has two commits":                {[]history.Op{commit(from(0, 1), "k", 1), commit(from(0, 1), "l", 1)}, 2},
	"an epoch is left out":                    {[]history.Op{commit(from(0, 1), "k", 2)}, 1},
	"a seq is given twice":                    {[]history.Op{send(from(0, 9), "a", 0, 1), by(bob, send(from(0, 9), "b", 0, 1))}, 2},
	"a retry is done again":                   {[]history.Op{keyed("x", send(from(0, 1), "a", 0, 1)), keyed("x", send(from(2, 3), "a", 0, 2))}, 2},
	"a retry is done again, and only read":    {[]history.Op{keyed("x", lost(send(from(0, 1), "a", 0, 0))), keyed("x", send(from(2, 3), "a", 0, 1)), read(from(4, 5), message(1, "a", 0), message(2, "a", 0))}, 2},
	"an attempt is done twice":                {[]history.Op{lost(send(from(0, 1), "a", 0, 0)), read(from(2, 3), message(1, "a", 0), message(2, "a", 0))}, 2},
	"what failed was done":                    {[]history.Op{refused(conversation.Unavailable, send(from(0, 1), "a", 0, 0)), read(from(2, 3), message(1, "a", 0))}, 1},
	"what was refused was done":               {[]history.Op{commit(from(0, 9), "k", 1), gets(history.Refusal(conversation.EpochMismatch, 1), send(from(0, 9), "a", 0, 0)), read(from(10, 11), message(1, "a", 0), commitRow(2, "k", 1))}, 2},
	"what was refused could not be":           {[]history.Op{refused(conversation.AlreadyMember, add(from(0, 1), carol, 0))}, 1},
	"the order of answers is turned round":    {[]history.Op{send(from(0, 1), "a", 0, 2), send(from(2, 3), "b", 0, 1)}, 1},
	"the order of the log is turned round":    {[]history.Op{send(from(0, 1), "a", 0, 1), read(from(2, 3), message(1, "a", 0)), send(from(4, 5), "b", 0, 2), read(from(6, 7), message(1, "b", 0), message(2, "a", 0))}, 2},
	"a page stops too early":                  {[]history.Op{send(from(0, 1), "a", 0, 1), send(from(2, 3), "b", 0, 2), limit(50, 2, since(0, read(from(4, 5), message(1, "a", 0))))}, 2},
	"lastSeq lags behind":                     {[]history.Op{send(from(0, 1), "a", 0, 1), limit(50, 0, since(1, read(from(2, 3))))}, 2},
	"who was removed is served":               {[]history.Op{leave(from(0, 1), bob, 1), epoch(by(bob, from(2, 3)), 1)}, 2},
	"who was added is refused":                {[]history.Op{add(from(0, 1), carol, 1), refused(conversation.NotMember, by(carol, epoch(from(2, 3), 0)))}, 2},
	"who was removed reads on":                {[]history.Op{leave(from(0, 1), bob, 1), send(from(2, 3), "a", 1, 2), limit(50, 2, since(1, read(by(bob, from(4, 5)), message(2, "a", 1))))}, 3},
	"two are added at once":                   {[]history.Op{add(from(0, 9), carol, 1), add(from(0, 9), carol, 2)}, 2},
	"a member removes another":                {[]history.Op{by(bob, leave(from(0, 1), alice, 1))}, 1},
	"a conversation is gone":                  {[]history.Op{refused(conversation.ConvoNotFound, epoch(from(0, 1), 0))}, 1},
	"a late request undoes what was read":     {[]history.Op{lost(commit(from(0, 1), "k", 0)), epoch(from(2, 3), 1), epoch(from(4, 5), 0)}, 3},
	"a row has another id than was told":      {[]history.Op{send(from(0, 1), "a", 0, 1), read(from(2, 3), history.Row{ID: "other", Kind: conversation.KindApp, Sender: alice, Seq: 1, Payload: "a"})}, 2},
	"a row that nobody was told of turns":     {[]history.Op{add(from(0, 1), carol, 1), read(from(2, 3), commitRow(1, "", 1)), read(from(4, 5), history.Row{ID: "other", Kind: conversation.KindCommit, Sender: alice, Epoch: 1, Seq: 1})}, 2},
	"the log in the end lacks what was told":  {[]history.Op{send(from(0, 1), "a", 0, 1), final(from(2, 3))}, 2},
	"the log in the end holds what was not":   {[]history.Op{refused(conversation.NotMember, by(carol, send(from(0, 1), "a", 0, 0))), final(from(2, 3), message(1, "a", 0))}, 1},
	"an idempotency key forgets what it was":  {[]history.Op{keyed("x", send(from(0, 1), "a", 0, 1)), keyed("x", gets(history.Refusal(conversation.EpochMismatch, 1), send(from(4, 5), "a", 0, 0))), commit(from(2, 3), "k", 1)}, 3},
	"a refusal that the past explains is old": {[]history.Op{add(from(0, 1), carol, 1), leave(from(2, 3), carol, 2), refused(conversation.AlreadyMember, add(from(4, 5), carol, 0))}, 3},
}

func final(op history.Op, rows ...history.Row) history.Op {
	op = read(op, rows...)
	op.Kind, op.Caller = history.ReadLog, ""
	return op
}

func TestWrongHistories(t *testing.T) {
	for name, tt := range wrong {
		t.Run(name, func(t *testing.T) {
			for place, h := range map[string]history.History{"alone": of(tt.ops...), "amid others": amid(tt.ops)} {
				r := check(t, h, history.CheckConfig{PerConvo: 10 * time.Second})
				if len(r.Violations) == 0 || r.Results[0].Verdict != history.Violated || r.OK() {
					t.Fatalf("%s: %v", place, r.Results)
				}
				if v := r.Violations[0]; len(v.Ops) > tt.smallest {
					t.Errorf("%s: reduced to %d operations, want %d:\n%s", place, len(v.Ops), tt.smallest, v)
				}
			}
		})
	}
}

// amid lets much else happen before a fault, and some after it.
func amid(ops []history.Op) history.History {
	var before []history.Op
	var seq, now int64
	for i := range 20 {
		at := from(10*i, 10*i+9)
		seq++
		before = append(before, send(at, "before"+string(rune('a'+i)), 0, seq), epoch(by(bob, at), 0), lost(by(bob, send(at, "never"+string(rune('a'+i)), 0, 0))))
	}
	now = 200
	shift := time.Duration(now) * time.Millisecond
	for _, op := range ops {
		op.Call, op.Return = op.Call+shift, op.Return+shift
		if op.Output.Seq != 0 || op.Kind == history.GetMessages || op.Kind == history.ReadLog {
			op.Output.Seq += seq
		}
		rows := op.Output.Rows
		op.Output.Rows = nil
		if op.Kind == history.ReadLog {
			for i := range seq {
				op.Output.Rows = append(op.Output.Rows, message(i+1, before[3*i].Input.Payload, 0))
			}
		}
		for _, r := range rows {
			r.Seq += seq
			op.Output.Rows = append(op.Output.Rows, r)
		}
		if op.Kind == history.GetMessages {
			n := seq
			if op.Input.Since != nil {
				n += *op.Input.Since
			}
			op.Input.Since = &n
		}
		before = append(before, op)
	}
	return of(append(before, epoch(from(300, 301), 77))...)
}

func TestUndecidedIsNotOK(t *testing.T) {
	h := of(send(from(0, 1), "a", 0, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := history.Check(ctx, h, history.CheckConfig{})
	if err != nil || r.OK() || r.Results[0].Verdict != history.Undecided || len(r.Violations) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	// Twenty unanswered commits may be in any order, and no order explains what
	// was read: more than anybody can try.
	var ops []history.Op
	for range 20 {
		ops = append(ops, lost(add(from(0, 1), carol, 0)), lost(leave(from(0, 1), carol, 0)), lost(commit(from(0, 1), "", 0)))
	}
	h = of(append(ops, epoch(from(2, 3), 60), refused(conversation.NotMember, by(carol, epoch(from(4, 5), 0))), epoch(by(carol, from(6, 7)), 61))...)
	r = check(t, h, history.CheckConfig{PerConvo: 50 * time.Millisecond})
	if r.OK() || r.Results[0].Verdict != history.Undecided {
		t.Errorf("%+v", r)
	}
}

func TestMalformedHistoriesAreRefused(t *testing.T) {
	for want, op := range map[string]history.Op{
		"not started":             func() history.Op { op := epoch(from(0, 1), 0); op.Convo = "d"; return op }(),
		"unknown kind":            gets(history.Output{Outcome: history.Succeeded}, from(0, 1)),
		"unknown outcome":         gets(history.Output{}, epoch(from(0, 1), 0)),
		"before it was called":    epoch(from(1, 0), 0),
		"without an epoch":        func() history.Op { op := send(from(0, 1), "a", 0, 1); op.Input.Epoch = nil; return op }(),
		"nobody is added":         func() history.Op { op := add(from(0, 1), bob, 1); op.Input.DIDs = nil; return op }(),
		"more than one":           func() history.Op { op := leave(from(0, 1), bob, 1); op.Input.DIDs = []string{alice, bob}; return op }(),
		`with code "NotMember"`:   gets(history.Output{Outcome: history.Succeeded, Code: conversation.NotMember}, epoch(from(0, 1), 0)),
		`outcome "refused" with`:  gets(history.Output{Outcome: history.Refused}, epoch(from(0, 1), 0)),
		"EpochMismatch without a": gets(history.Refusal(conversation.EpochMismatch, 1), commit(from(0, 1), "k", 0)),
	} {
		if _, err := history.Check(t.Context(), of(op), history.CheckConfig{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %q", err, want)
		}
	}
	h := of()
	h.Convos = append(h.Convos, h.Convos[0])
	if _, err := history.Check(t.Context(), h, history.CheckConfig{}); err == nil {
		t.Error("a conversation was started twice")
	}
}

func TestAViolationIsLeftInFiles(t *testing.T) {
	dir := t.TempDir()
	r := check(t, amid([]history.Op{commit(from(0, 1), "k", 1), epoch(from(2, 3), 0)}), history.CheckConfig{Dir: dir})
	v := r.Violations[0]
	if len(v.Files) != 3 {
		t.Fatalf("files %v", v.Files)
	}
	text, err := os.ReadFile(filepath.Join(dir, "violation-c.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`commit("k") by did:plc:alice -> epoch 1`, "getEpoch() by did:plc:alice -> epoch 0", "the best order is #61"} {
		if !strings.Contains(string(text), want) || !strings.Contains(v.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	f, err := os.Open(filepath.Join(dir, "violation-c.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := history.Read(f)
	if err != nil || len(h.Ops) != len(v.Ops) || check(t, h, history.CheckConfig{}).OK() {
		t.Errorf("%d operations, %v", len(h.Ops), err)
	}
	picture, err := os.ReadFile(filepath.Join(dir, "violation-c.html"))
	if err != nil || !strings.Contains(string(picture), "getEpoch()") {
		t.Errorf("no picture: %v", err)
	}
}
