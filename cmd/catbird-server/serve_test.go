package main

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/ctl"
	"catbird/internal/testenv"
)

const (
	actorsOn  = "ENABLE_ACTOR_SYSTEM=true"
	actorsOff = "ENABLE_ACTOR_SYSTEM=0"
)

// everywhere runs f with actors on and off, on each database.
func everywhere(t *testing.T, f func(t *testing.T, where apptest.Change, flag string)) {
	for _, flag := range []string{actorsOn, actorsOff} {
		t.Run(flag, func(t *testing.T) {
			apptest.Databases(t, func(t *testing.T, where apptest.Change) { f(t, where, flag) })
		})
	}
}

func checkData(t *testing.T, p *process) {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	op, err := ctl.NewClient(p.Operator, "", &http.Client{Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	found, err := op.Integrity(t.Context(), "")
	if err != nil || !found.Clean() {
		t.Errorf("integrity: %+v, %v", found, err)
	}
}

// After SIGTERM every request that comes in while connections are accepted gets
// its answer, what was acknowledged is stored, and the exit code is 0.
func TestTerminatedUnderLoad(t *testing.T) {
	everywhere(t, func(t *testing.T, where apptest.Change, flag string) {
		p := start(t, where, flag, "DRAIN_DELAY=500ms")
		c := apptest.Client(t, nil, p.URL)
		groups := apptest.NewGroups(t, c, 8, 3)
		load := apptest.StartLoad(t, c, groups, apptest.LoadConfig{Workers: 8, CommitShare: 10, AddShare: 5})
		load.AwaitMore(t, 200)

		p.signal(t, syscall.SIGTERM)
		p.await(t, "leaving")
		if status, _, body := apptest.Get(t, p.URL+"/health/ready"); status != 503 {
			t.Errorf("/health/ready answers %d while leaving: %s", status, body)
		}
		load.AwaitMore(t, 20) // served as before
		if code := p.wait(t); code != 0 {
			t.Errorf("exit code %d, want 0; the server said:\n%s", code, p)
		}
		load.Stop()
		load.Only(t, "unreachable", conversation.Draining)

		again := start(t, where, flag)
		load.Verify(t, apptest.Client(t, nil, again.URL), groups...)
		checkData(t, again)
	})
}

// A crash loses nothing that was acknowledged, and leaves the data whole.
func TestKilledUnderLoad(t *testing.T) {
	everywhere(t, func(t *testing.T, where apptest.Change, flag string) {
		p := start(t, where, flag)
		var load *apptest.Load
		var groups []*apptest.Group
		for round := range 2 {
			c := apptest.Client(t, nil, p.URL)
			if round == 0 {
				groups = apptest.NewGroups(t, c, 8, 3)
			}
			load = apptest.StartLoad(t, c, groups, apptest.LoadConfig{Workers: 8, CommitShare: 10, AddShare: 5})
			load.AwaitMore(t, 200)
			p.signal(t, syscall.SIGKILL)
			p.wait(t)
			load.Stop()

			p = start(t, where, flag)
			load.Verify(t, apptest.Client(t, nil, p.URL), groups...)
			checkData(t, p)
		}
	})
}

// A request with an idempotency key, asked again of the server's next life,
// gets its first answer.
func TestRetryAcrossACrash(t *testing.T) {
	everywhere(t, func(t *testing.T, where apptest.Change, flag string) {
		p := start(t, where, flag)
		c := apptest.Client(t, nil, p.URL)
		g := apptest.NewGroup(t, c, 2)
		message := client.SendMessage{ConvoID: g.ID, Ciphertext: []byte("once"), IdempotencyKey: "k"}
		first, err := c.As(g.Members[0]).SendMessage(t.Context(), message)
		if err != nil {
			t.Fatal(err)
		}
		p.signal(t, syscall.SIGKILL)
		p.wait(t)
		p = start(t, where, flag)
		c = apptest.Client(t, nil, p.URL)
		second, err := c.As(g.Members[0]).SendMessage(t.Context(), message)
		if err != nil || second.MessageID != first.MessageID || second.Seq != first.Seq || !second.ReceivedAt.Equal(first.ReceivedAt) {
			t.Errorf("the repeat got %+v, %v, want %+v", second, err, first)
		}
		if log := apptest.ReadLog(t, c, g.ID, g.Members[0]); len(log) != 1 {
			t.Errorf("%d messages are stored, want 1", len(log))
		}
	})
}

// Who cannot wait says so twice.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := start(t, apptest.SQLite(t.TempDir()), actorsOn, "DRAIN_DELAY=10m")
	p.signal(t, syscall.SIGTERM)
	p.await(t, "leaving")
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != exitFailure {
		t.Errorf("exit code %d, want %d", code, exitFailure)
	}
}

// A request that hangs does not hold up the end for longer than DRAIN_TIMEOUT.
func TestDrainIsBounded(t *testing.T) {
	proxy, url := testenv.ProxyURL(t, testenv.Postgres(t))
	p := start(t, apptest.Postgres(url), actorsOn, "DRAIN_TIMEOUT=2s")
	c := apptest.Client(t, nil, p.URL)
	g := apptest.NewGroup(t, c, 2)
	books := apptest.NewLedger()
	if _, err := books.Send(t.Context(), c, g, g.Members[0], 0); err != nil {
		t.Fatal(err)
	}
	proxy.Stall()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = books.Send(t.Context(), c, g, g.Members[0], 0)
	}()
	began := time.Now()
	p.signal(t, syscall.SIGTERM)
	p.wait(t)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %v with DRAIN_TIMEOUT=2s", took)
	}
	<-done
	proxy.Restore()
	again := start(t, apptest.Postgres(url), actorsOn)
	books.Verify(t, apptest.Client(t, nil, again.URL), g)
}

// Log lines are a contract with those who search for them.
func TestLogLines(t *testing.T) {
	for flag, wants := range map[string][]string{
		actorsOn: {
			"Using actor system for send_message", "Using actor system for add_members", "Using actor system for get_epoch",
			"Sending AddMembers message to actor", "Members added, new epoch: 1", "ConversationActor ", " starting at epoch 0",
			"Removing actor for conversation ", "working on a batch",
		},
		actorsOff: {
			"Using legacy database approach for send_message", "Using legacy database approach for leave_convo",
			"Using legacy database approach for get_messages",
		},
	} {
		cmd := command(t, []string{
			"SERVER_HOST=127.0.0.1", "SERVER_PORT=0", "INTERNAL_PORT=0", "JWT_SECRET=" + apptest.Secret, flag, "DATA_DIR=" + t.TempDir(),
			"LOG_LEVEL=trace",
		})
		lines := &process{cmd: cmd, read: make(chan struct{}), seen: make(chan struct{}, 1)}
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		log := &tee{r: stderr}
		go lines.follow(log)
		defer lines.kill()
		c := apptest.Client(t, nil, "http://"+lines.await(t, "node started")["clients"].(string))
		lines.await(t, "node ready")
		useEverything(t, c)
		lines.signal(t, syscall.SIGINT)
		if code := lines.wait(t); code != 0 {
			t.Errorf("exit code %d after an interrupt", code)
		}
		for _, want := range wants {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%s: %q was not logged", flag, want)
			}
		}
		if strings.Contains(log.String(), apptest.Secret) || strings.Contains(log.String(), "Bearer ") {
			t.Error("a secret was logged")
		}
	}
}

func useEverything(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	g := apptest.NewGroup(t, c, 2)
	me := c.As(g.Members[0])
	if _, err := me.SendMessage(ctx, client.SendMessage{ConvoID: g.ID, Ciphertext: []byte("x")}); err != nil {
		t.Error(err)
	}
	if _, err := me.AddMembers(ctx, client.AddMembers{ConvoID: g.ID, DIDs: []string{"did:plc:another"}}); err != nil {
		t.Error(err)
	}
	if _, err := me.LeaveConvo(ctx, client.LeaveConvo{ConvoID: g.ID, TargetDID: g.Members[1]}); err != nil {
		t.Error(err)
	}
	if _, err := me.GetEpoch(ctx, g.ID); err != nil {
		t.Error(err)
	}
	if _, err := me.GetMessages(ctx, client.GetMessages{ConvoID: g.ID}); err != nil {
		t.Error(err)
	}
}
