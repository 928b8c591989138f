package delivery_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"catbird/actor"
	"catbird/conversation"
	"catbird/delivery"
)

// Operators watch a migration by these lines, word for word.
func TestLogsWhichPathAnOperationTook(t *testing.T) {
	for _, f := range []delivery.Flags{on, off} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			n := w.node("a", setup{flags: f, noNetwork: true})
			n.do(request(convo, alice, add(carol)))
			n.do(request(convo, alice, send(1)))
			n.do(request(convo, alice, conversation.Leave{Target: carol}))
			n.do(request(convo, alice, commit()))
			if _, err := n.svc.Epoch(t.Context(), convo, alice); err != nil {
				t.Error(err)
			}
			n.svc.Note(t.Context(), conversation.OpGetMessages, convo)
			for _, op := range []string{"add_members", "send_message", "leave_convo", "commit", "get_epoch", "get_messages"} {
				actors, direct := "Using actor system for "+op, "Using legacy database approach for "+op
				want, other := direct, actors
				if f.ActorSystem {
					want, other = actors, direct
				}
				if n.logs.count(`level=INFO msg="`+want+`" component=delivery convo=c0ffee`) != 1 || n.logs.count(other) != 0 {
					t.Errorf("%+v, %s: logged %d times %q, %d times %q", f, op, n.logs.count(want), want, n.logs.count(other), other)
				}
			}
		})
	}
}

// However often a request is tried, its path is logged once.
func TestLogsAPathOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs bytes.Buffer
		_, actors := scriptedService(actor.ErrMoving, actor.ErrMoving, actor.ErrMoving, nil)
		s := delivery.New(delivery.Config{
			Policy: conversation.DefaultPolicy(), Flags: on, Logger: slog.New(slog.NewTextHandler(&logs, nil)),
			Session: func() string { return "" },
		})
		s.Use(actors)
		if _, err := s.Do(t.Context(), request(convo, alice, send(0))); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(logs.String(), "Using actor system for send_message"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}

// What is said in debug mode about the way of a message.
func TestDebugLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs bytes.Buffer
		_, actors := scriptedService(nil)
		s := delivery.New(delivery.Config{
			Policy: conversation.DefaultPolicy(), Flags: on,
			Logger:  slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Session: func() string { return "" },
		})
		s.Use(actors)
		for _, c := range []conversation.Command{add(carol), conversation.Leave{}, commit(), send(0)} {
			if _, err := s.Do(t.Context(), request(convo, alice, c)); err != nil {
				t.Fatal(err)
			}
		}
		for _, line := range []string{
			"Sending AddMembers message to actor", "Sending LeaveConvo message to actor",
			"Sending Commit message to actor", "Sending SendMessage message to actor",
			"Members added, new epoch: 1", "Member left, new epoch: 1", "Commit stored, new epoch: 1", "Message stored, seq: 1",
		} {
			if strings.Count(logs.String(), line) != 1 {
				t.Errorf("%q is not logged once:\n%s", line, logs.String())
			}
		}
	})
}
