package history_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"catbird/conversation"
	"catbird/internal/history"
)

func TestRecorderTakesDownWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var disk bytes.Buffer
		r := history.NewRecorder(history.RecorderConfig{Out: &disk})
		r.Start(history.Convo{ID: "c", Creator: alice, Members: []string{alice}})
		<-time.After(time.Second)
		never := r.Invoke(commit(from(0, 0), "k", 7))
		done := r.Invoke(history.Op{Convo: "c", Caller: alice, Kind: history.GetEpoch, Node: "n"})
		<-time.After(time.Second)
		done.Return(history.Output{Outcome: history.Succeeded, Epoch: 3})
		done.Return(history.Lost()) // too late
		r.Serving(history.Tenure{Convo: "c", Node: "n", Fence: 1, From: 1, To: r.Now()})
		if h := r.History(); len(h.Ops) != 1 {
			t.Errorf("%d operations while one is pending", len(h.Ops))
		}
		<-time.After(time.Second)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		never.Return(history.Output{Outcome: history.Succeeded})
		h := r.History()
		if len(h.Convos) != 1 || len(h.Ops) != 2 || len(h.Tenures) != 1 || h.Tenures[0].To != 2*time.Second {
			t.Fatalf("recorded %+v", h)
		}
		if op := h.Ops[0]; op.ID != 2 || op.Call != time.Second || op.Return != 2*time.Second || op.Output.Epoch != 3 {
			t.Errorf("recorded %+v", op)
		}
		if op := h.Ops[1]; op.ID != 1 || op.Return != 3*time.Second || op.Output.Outcome != history.Unknown || op.Output.Epoch != 0 {
			t.Errorf("recorded %+v", op)
		}
		read, err := history.Read(&disk)
		if err != nil || !reflect.DeepEqual(read, h) {
			t.Errorf("on disk is %+v, %v; want %+v", read, err, h)
		}
	})
}

// Whatever clients do at once, each operation is there once, with an interval
// that holds what really happened in it.
func TestRecorderMayBeUsedAtOnce(t *testing.T) {
	var disk bytes.Buffer
	r := history.NewRecorder(history.RecorderConfig{Out: &disk})
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for range 50 {
				before := r.Now()
				p := r.Invoke(history.Op{Client: c, Kind: history.GetEpoch})
				invoked := r.Now()
				p.Return(history.Output{Outcome: history.Succeeded, Epoch: int64(before), Seq: int64(invoked)})
				_ = r.History()
			}
		})
	}
	wg.Wait()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := history.Read(&disk)
	if err != nil || len(h.Ops) != 400 {
		t.Fatalf("%d operations, %v", len(h.Ops), err)
	}
	ids := map[int64]bool{}
	for _, op := range h.Ops {
		ids[op.ID] = true
		if op.Call < time.Duration(op.Output.Epoch) || op.Call > time.Duration(op.Output.Seq) || op.Return < time.Duration(op.Output.Seq) {
			t.Errorf("called at %d, returned at %d, between %d and %d", op.Call, op.Return, op.Output.Epoch, op.Output.Seq)
		}
	}
	if len(ids) != 400 {
		t.Errorf("%d ids", len(ids))
	}
}

type brokenDisk struct{}

func (brokenDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestADiskThatFailsIsReported(t *testing.T) {
	r := history.NewRecorder(history.RecorderConfig{Out: brokenDisk{}})
	r.Start(history.Convo{ID: "c"})
	if err := r.Close(); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
	if len(r.History().Convos) != 1 {
		t.Error("memory has lost it too")
	}
	if err := history.Write(brokenDisk{}, r.History()); err == nil {
		t.Error("written to a disk that fails")
	}
}

func TestLines(t *testing.T) {
	h := of(right["pages"]...)
	h.Tenures = []history.Tenure{{Convo: "c", Node: "n", Session: "s", Fence: 4, From: 1, To: 2}}
	var b bytes.Buffer
	if err := history.Write(&b, h); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if got, err := history.Read(&b); err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("read %+v, %v; want %+v", got, err, h)
	}
	for _, bad := range []string{"{", "{}", "null"} {
		if _, err := history.Read(strings.NewReader(text + bad)); err == nil || !strings.HasPrefix(err.Error(), "line 10: ") {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

func TestWhatARefusalMeans(t *testing.T) {
	for code, want := range map[conversation.Code]history.Outcome{
		conversation.NotMember: history.Refused, conversation.EpochMismatch: history.Refused, conversation.IdempotencyConflict: history.Refused,
		conversation.Unavailable: history.Failed, conversation.MailboxFull: history.Failed, conversation.InternalServerError: history.Failed,
		conversation.OutcomeUnknown: history.Unknown, "": history.Unknown,
	} {
		if got := history.Refusal(code, 3); got.Outcome != want || got.Code != code {
			t.Errorf("%s: %+v, want %s", code, got, want)
		}
	}
}

func TestTenures(t *testing.T) {
	serve := func(node string, fence int64, from, to int) history.Tenure {
		return history.Tenure{Convo: "c", Node: node, Session: node + "'s", Fence: fence, From: time.Duration(from), To: time.Duration(to)}
	}
	other := serve("x", 9, 0, 100)
	other.Convo = "d"
	tests := map[string]struct {
		tenures []history.Tenure
		rules   []string
	}{
		"one after another":                  {[]history.Tenure{serve("a", 1, 0, 5), serve("b", 2, 5, 9), serve("a", 4, 12, 20), other}, nil},
		"what is seen twice was there":       {[]history.Tenure{serve("a", 1, 0, 0), serve("a", 1, 9, 9), serve("b", 2, 10, 10)}, nil},
		"two at once":                        {[]history.Tenure{serve("a", 1, 0, 5), serve("b", 2, 4, 9)}, []string{"one at a time"}},
		"one amid what was seen twice":       {[]history.Tenure{serve("a", 1, 0, 0), serve("a", 1, 9, 9), serve("b", 2, 5, 5)}, []string{"one at a time"}},
		"a long one, and one after a third":  {[]history.Tenure{serve("a", 1, 0, 50), serve("b", 2, 51, 52), serve("c", 3, 40, 60)}, []string{"one at a time", "one at a time"}},
		"looks that overlap":                 {[]history.Tenure{serve("a", 1, 9, 2), serve("b", 2, 7, 3), serve("c", 3, 11, 8)}, nil},
		"a look within another's tenure":     {[]history.Tenure{serve("a", 1, 0, 10), serve("b", 2, 7, 3)}, []string{"one at a time"}},
		"looks of one after the other":       {[]history.Tenure{serve("a", 2, 3, 1), serve("b", 1, 7, 5)}, []string{"higher fence"}},
		"a fence given twice":                {[]history.Tenure{serve("a", 3, 0, 5), serve("b", 3, 6, 9)}, []string{"higher fence"}},
		"a fence that falls":                 {[]history.Tenure{serve("a", 3, 0, 5), serve("b", 2, 6, 9)}, []string{"higher fence"}},
		"the same node under another fence":  {[]history.Tenure{serve("a", 3, 0, 5), serve("a", 4, 4, 9)}, []string{"one at a time"}},
		"the same fence under another claim": {[]history.Tenure{serve("a", 3, 0, 5), {Convo: "c", Node: "a", Session: "later", Fence: 3, From: 6, To: 7}}, []string{"higher fence"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := of()
			h.Tenures = tt.tenures
			r := check(t, h, history.CheckConfig{})
			if len(r.Violations) != len(tt.rules) || r.OK() != (len(tt.rules) == 0) {
				t.Fatalf("%v", r.Violations)
			}
			for i, v := range r.Violations {
				if !strings.Contains(v.Rule, tt.rules[i]) || v.Convo != "c" || !strings.Contains(v.Text, "served c under fence") {
					t.Errorf("%v, want %q", v, tt.rules[i])
				}
			}
		})
	}
}
