package chaos

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/internal/history"
)

// rulesOf returns the rules that findings say were broken, each once, sorted.
func rulesOf(found []Finding) string {
	var rules []string
	for _, f := range found {
		rules = append(rules, f.Rule)
	}
	slices.Sort(rules)
	return strings.Join(slices.Compact(rules), "; ")
}

func TestTrail(t *testing.T) {
	claimed := step{Convo: "c", NewClaim: "s1", NewFence: 1, OldOver: true}
	for _, test := range []struct {
		name string
		next step
		want string
	}{
		{"given back", step{OldClaim: "s1", OldFence: 1, NewFence: 1}, ""},
		{"claimed again by its holder", step{OldClaim: "s1", OldFence: 1, NewClaim: "s1", NewFence: 2}, ""},
		{"taken from a session that is over", step{OldClaim: "s1", OldFence: 1, NewClaim: "s2", NewFence: 2, OldOver: true}, ""},
		{"written directly where the session is over", step{OldClaim: "s1", OldFence: 1, NewFence: 2, OldOver: true}, ""},
		{"taken from a session that lives", step{OldClaim: "s1", OldFence: 1, NewClaim: "s2", NewFence: 2}, "a claim is taken from a session only when that is over"},
		{"written directly past one that lives", step{OldClaim: "s1", OldFence: 1, NewFence: 2}, "a claim is taken from a session only when that is over"},
		{"under the fence of the one before", step{OldClaim: "s1", OldFence: 1, NewClaim: "s2", NewFence: 1, OldOver: true}, "each owner of a conversation has a higher fence than the one before"},
		{"a fence that falls", step{OldClaim: "s1", OldFence: 1, NewFence: 0, OldOver: true}, "a fence never falls"},
		{"a step that is missing", step{OldClaim: "s3", OldFence: 4, NewFence: 5, OldOver: true}, "the trail of a conversation has no gap"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.next.Convo = "c"
			if got := rulesOf(checkTrail([]step{claimed, {Convo: "another", NewFence: 9, OldOver: true}, test.next})); got != test.want {
				t.Errorf("broken: %q, want %q", got, test.want)
			}
		})
	}
}

// send is one attempt to send, commit one to commit.
func send(text string, out history.Output) history.Op {
	return history.Op{Convo: "c", Caller: "alice", Kind: history.SendMessage, Input: history.Input{Payload: text}, Output: out}
}

func commit(text string, out history.Output) history.Op {
	op := send(text, out)
	op.Kind = history.Commit
	return op
}

func message(seq, epoch int64, text string) stored {
	return stored{Convo: "c", ID: "id-" + text, Kind: "app", Sender: "alice", Epoch: epoch, Seq: seq, Payload: text}
}

func commitRow(seq, epoch int64, text string) stored {
	r := message(seq, epoch, text)
	r.Kind = "commit"
	return r
}

func TestLedger(t *testing.T) {
	done := func(epoch, seq int64) history.Output {
		return history.Output{Outcome: history.Succeeded, Epoch: epoch, Seq: seq}
	}
	refused := history.Refusal(conversation.EpochMismatch, 1)
	failed := history.Refusal(conversation.Unavailable, 0)
	const (
		numbered = "a log is numbered 1, 2, 3, and each epoch begins with its one commit"
		once     = "what was asked for once is stored once"
		asked    = "nothing is stored that nobody asked for"
		no       = "what was refused is not stored"
		there    = "what was acknowledged is stored"
		told     = "what was acknowledged is stored as it was told"
	)
	for _, test := range []struct {
		name string
		ops  []history.Op
		logs []stored
		want string
	}{
		{
			"as it should be",
			[]history.Op{send("m", done(0, 1)), commit("k", done(1, 0)), send("n", history.Lost()), send("never", history.Lost())},
			[]stored{message(1, 0, "m"), commitRow(2, 1, "k"), message(3, 1, "n")},
			"",
		},
		{"refused once and then acknowledged", []history.Op{send("m", failed), send("m", done(0, 1))}, []stored{message(1, 0, "m")}, ""},
		{"a commit without bytes", []history.Op{commit("", done(1, 0))}, []stored{commitRow(1, 1, "")}, ""},
		{"lost", []history.Op{send("m", done(0, 1))}, nil, there},
		{"a commit without bytes that is lost", []history.Op{commit("", done(1, 0))}, nil, there},
		{"stored twice", []history.Op{send("m", done(0, 1))}, []stored{message(1, 0, "m"), message(2, 0, "m")}, once},
		{"stored all the same", []history.Op{send("m", refused), send("m", failed)}, []stored{message(1, 0, "m")}, no},
		{"from nowhere", nil, []stored{message(1, 0, "m")}, asked},
		{"at another seq", []history.Op{send("m", done(0, 2))}, []stored{message(1, 0, "m")}, told},
		{"at another epoch", []history.Op{commit("k", done(2, 0))}, []stored{commitRow(1, 1, "k")}, told},
		{"as something else", []history.Op{commit("m", done(0, 1))}, []stored{message(1, 0, "m")}, told},
		{"a gap", []history.Op{send("m", done(0, 2))}, []stored{message(2, 0, "m")}, numbered},
		{
			"two commits of one epoch",
			[]history.Op{commit("k", history.Lost()), commit("l", history.Lost())},
			[]stored{commitRow(1, 1, "k"), commitRow(2, 1, "l")},
			numbered,
		},
		{"an epoch without its commit", []history.Op{send("m", done(1, 1))}, []stored{message(1, 1, "m")}, numbered},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := rulesOf(checkLedger(test.ops, test.logs)); got != test.want {
				t.Errorf("broken: %q, want %q", got, test.want)
			}
		})
	}
}

func TestUnreadCountsWhatOthersSent(t *testing.T) {
	logs := []stored{message(1, 0, "m"), commitRow(2, 1, "k"), message(3, 1, "n"), {Convo: "c", Kind: "app", Sender: "bob"}, {Convo: "another", Kind: "app"}}
	if got := unread(logs, "c", "bob"); got != 2 {
		t.Errorf("%d unread, want 2", got)
	}
}

// What is sure of a tenure lies between the end of the first answer and the
// beginning of the last.
func TestTenures(t *testing.T) {
	w := &watcher{seen: map[tenure]*span{}}
	held := tenure{convo: "c", node: "a", fence: 3}
	w.add(held, 10, 20)
	if got := w.tenures(); len(got) != 0 {
		t.Errorf("what was seen once is told as %v", got)
	}
	w.add(held, 30, 40)
	w.add(held, 50, 60)
	w.add(tenure{convo: "c", node: "b", fence: 4}, 70, 80)
	want := history.Tenure{Convo: "c", Node: "a", Fence: 3, From: 20, To: 50}
	if got := w.tenures(); len(got) != 1 || got[0] != want {
		t.Errorf("tenures %v, want %v", got, want)
	}
}

func TestCrashesAreFound(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.log": `{"msg":"panic: only told of"}` + "\n" + strings.Repeat("x", 100_000) + "\n",
		"b.log": `{"msg":"node ready"}` + "\npanic: index out of range\n\ngoroutine 1 [running]:\n",
		"c.log": "==================\nWARNING: DATA RACE\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := checkNodes(dir)
	if err != nil || len(found) != 2 || found[0].Text != "b.log: panic: index out of range" || found[1].Text != "c.log: WARNING: DATA RACE" {
		t.Errorf("found %v, %v", found, err)
	}
}

// attempt is one of a client between two instants, in milliseconds.
func attempt(client int, node string, from, to time.Duration, out history.Outcome) history.Op {
	return history.Op{
		Client: client, Node: node, Convo: "c", Kind: history.GetEpoch, Output: history.Output{Outcome: out},
		Call: from * time.Millisecond, Return: to * time.Millisecond,
	}
}

func TestFaultRows(t *testing.T) {
	const ms = time.Millisecond
	ops := []history.Op{
		attempt(1, "a", 0, 10, history.Succeeded),
		attempt(1, "b", 100, 200, history.Unknown),
		attempt(1, "a", 250, 260, history.Succeeded),
		attempt(2, "a", 0, 20, history.Succeeded),
		attempt(2, "c", 120, 150, history.Refused),
		attempt(2, "c", 900, 930, history.Succeeded),
	}
	spells := []Spell{{Fault: Fault{Kind: Freeze, Node: "b"}, From: 100 * ms, To: 240 * ms, Calm: 300 * ms}}
	rows := faultRows(ops, spells)
	if len(rows) != 1 {
		t.Fatalf("rows %+v", rows)
	}
	got := rows[0]
	want := FaultRow{
		Kind: Freeze, Count: 1, Requests: 3, Failed: 1, Hit: 250 * ms, Others: 780 * ms,
		Before:  Latency{Count: 2, P50: 20 * ms, P99: 20 * ms, Max: 20 * ms},
		Latency: Latency{Count: 2, P50: 30 * ms, P99: 30 * ms, Max: 30 * ms},
	}
	if got != want {
		t.Errorf("row %+v\nwant %+v", got, want)
	}
	calm, troubled := split(ops, spells)
	if len(calm) != 3 || len(troubled) != 3 {
		t.Errorf("%d calm and %d troubled, want 3 and 3", len(calm), len(troubled))
	}
}

func TestPlannedChangesMayFailNothing(t *testing.T) {
	fine := []history.Op{attempt(1, "a", 0, 1, history.Succeeded), attempt(1, "a", 2, 3, history.Refused)}
	if found := failures(fine, missed(fine, nil)); len(found) != 0 {
		t.Errorf("found %v", found)
	}
	if found := failures(append(fine, attempt(1, "a", 4, 5, history.Failed), attempt(1, "a", 6, 7, history.Unknown)), missed(fine, nil)); len(found) != 1 ||
		!strings.HasPrefix(found[0].Text, "2 of 4 failed") {
		t.Errorf("found %v", found)
	}
}

// A node that leaves may miss what comes to it directly, once it has stopped
// listening: here between 120 and 150.
func TestNodesAddressedDirectlyMissOnlyWhatComesTooLate(t *testing.T) {
	const ms = time.Millisecond
	told := func(node string, from, to time.Duration, code conversation.Code) history.Op {
		op := attempt(1, node, from, to, history.Failed)
		op.Output.Code = code
		return op
	}
	leaves := []leave{{node: "a", told: 100 * ms, gone: 200 * ms, back: 300 * ms}, {node: "c", told: 400 * ms, gone: 500 * ms}}
	answers := []history.Op{attempt(2, "a", 120, 130, history.Succeeded), attempt(2, "a", 310, 320, history.Succeeded)}
	for _, test := range []struct {
		name string
		op   history.Op
		fine bool
	}{
		{"nobody there after it left", told("a", 210, 211, unreachable), true},
		{"the connection broke when it stopped listening", attempt(1, "a", 150, 160, history.Unknown), true},
		{"nobody there when it had left for good", told("c", 900, 901, unreachable), true},
		{"nobody there while it still answered others", told("a", 105, 106, unreachable), false},
		{"the connection broke while it still answered others", attempt(1, "a", 105, 115, history.Unknown), false},
		{"nobody there before it was told to leave", told("a", 50, 51, unreachable), false},
		{"nobody there when it was back", told("a", 305, 306, unreachable), false},
		{"turned away while it left", told("a", 150, 160, conversation.Unavailable), false},
		{"nobody there at a node that stays", told("b", 210, 211, unreachable), false},
		{"nobody behind the load balancer", told(frontDoor, 210, 211, unreachable), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			ops := append(slices.Clone(answers), test.op)
			if found := failures(ops, missed(ops, leaves)); (len(found) == 0) != test.fine {
				t.Errorf("found %v", found)
			}
		})
	}
}

func TestVerdictIsTold(t *testing.T) {
	v := Verdict{
		Seed: 7, Faults: []FaultRow{{Kind: Freeze, Count: 2, Hit: 1500 * time.Millisecond}}, Answers: []Answer{{"", 3}, {noAnswer, 1}},
		Findings: []Finding{
			{Rule: "a rule", Convo: "e", Text: "what was seen, and much more of it", Files: []string{"y.html"}},
			{Rule: "a rule", Convo: "c", Text: "what was seen", Files: []string{"x.html"}},
		},
		Undecided: []string{"d"},
	}
	text := v.String()
	for _, want := range []string{"seed 7", "freeze", "1.5s", "success", "no answer", "VIOLATION: a rule", "conversation c", "what was seen", "see x.html", "also broken, see y.html", "UNDECIDED: the history of d"} {
		if !strings.Contains(text, want) {
			t.Errorf("the verdict does not say %q:\n%s", want, text)
		}
	}
	if v.OK() || (Verdict{Undecided: []string{"d"}}).OK() || !(Verdict{}).OK() {
		t.Error("OK does not tell right from wrong")
	}
	if strings.Contains(text, "much more") {
		t.Errorf("the larger history is told, too:\n%s", text)
	}
	v.Planned = true
	if text := v.String(); !strings.Contains(text, "p99 before") {
		t.Errorf("latencies before and during are not side by side:\n%s", text)
	}
}
