package app_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"catbird/conversation"
	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/testenv"
)

// soon is how quickly a node says that it cannot do something.
const soon = 15 * time.Second

func TestDatabaseGoneAtStart(t *testing.T) {
	proxy, url := testenv.ProxyURL(t, testenv.Postgres(t))
	proxy.Cut()
	n := apptest.StartUnready(t, apptest.Postgres(url), apptest.Actors(true))

	for path, want := range map[string]int{"/health/live": 200, "/health/ready": 503, "/health": 503, "/metrics": 200} {
		began := time.Now()
		if status, _, body := apptest.Get(t, n.URL+path); status != want || time.Since(began) > soon {
			t.Errorf("%s answers %d after %v, want %d: %s", path, status, time.Since(began), want, body)
		}
	}
	_, err := apptest.Client(t, nil, n.URL).As("did:plc:a").GetConvos(t.Context(), 0, "")
	checkUnavailable(t, err)

	proxy.Restore()
	apptest.Await(t, "the node to become ready", func() bool {
		status, _, _ := apptest.Get(t, n.URL+"/health/ready")
		return status == http.StatusOK
	})
	c := apptest.Client(t, nil, n.URL)
	apptest.NewGroup(t, c, 2)
}

func TestNodeStopsWhileItWaitsForItsDatabase(t *testing.T) {
	proxy, url := testenv.ProxyURL(t, testenv.Postgres(t))
	proxy.Cut()
	n := apptest.StartUnready(t, apptest.Postgres(url))
	began := time.Now()
	if err := n.Stop(t.Context()); err != nil {
		t.Errorf("stopping: %v", err)
	}
	if took := time.Since(began); took > soon {
		t.Errorf("stopping took %v", took)
	}
}

// checkUnavailable checks that err is a refusal that says when to come back.
func checkUnavailable(t *testing.T, err error) {
	t.Helper()
	var refusal *client.Error
	if !asError(err, &refusal) || refusal.Status != http.StatusServiceUnavailable || refusal.RetryAfter <= 0 {
		t.Errorf("err = %v, want 503 with Retry-After", err)
	}
}

func TestDatabaseGoneWhileRunning(t *testing.T) {
	for _, v := range variants[:2] {
		t.Run(v.name, func(t *testing.T) {
			proxy, url := testenv.ProxyURL(t, testenv.Postgres(t))
			n := apptest.Start(t, apptest.Postgres(url), v.change)
			c := apptest.Client(t, nil, n.URL)
			groups := apptest.NewGroups(t, c, 8, 3)
			load := apptest.StartLoad(t, c, groups, apptest.LoadConfig{Workers: 16, CommitShare: 10})
			load.AwaitMore(t, 200)

			proxy.Cut()
			apptest.Await(t, "refusals", func() bool { return load.Count(conversation.Unavailable) >= 20 })
			began := time.Now()
			_, err := apptest.Client(t, nil, n.URL).As(groups[0].Members[0]).GetConvos(t.Context(), 0, "")
			checkUnavailable(t, err)
			if took := time.Since(began); took > soon {
				t.Errorf("a refusal took %v", took)
			}
			status, _, body := apptest.Get(t, n.URL+"/health")
			if status != 503 || !strings.Contains(body, `"database":"disconnected"`) || !strings.Contains(body, `"status":"unhealthy"`) {
				t.Errorf("/health answers %d %s", status, body)
			}
			if status, _, _ := apptest.Get(t, n.URL+"/health/live"); status != 200 {
				t.Errorf("/health/live answers %d", status)
			}

			proxy.Restore()
			load.AwaitMore(t, 200)
			apptest.Await(t, "health", func() bool {
				status, _, _ := apptest.Get(t, n.URL+"/health/ready")
				return status == http.StatusOK
			})
			load.Stop()
			load.Only(t, conversation.Unavailable, conversation.OutcomeUnknown)
			load.Verify(t, c, groups...)
			checkIntegrity(t, n)
		})
	}
}

// A database that hangs, or loses its replies, leaves doubt but never damage.
func TestDatabaseStallsAndLosesReplies(t *testing.T) {
	for _, v := range variants[:2] {
		t.Run(v.name, func(t *testing.T) {
			proxy, url := testenv.ProxyURL(t, testenv.Postgres(t))
			n := apptest.Start(t, apptest.Postgres(url), v.change)
			c := apptest.Client(t, nil, n.URL)
			groups := apptest.NewGroups(t, c, 4, 3)
			load := apptest.StartLoad(t, c, groups, apptest.LoadConfig{Workers: 8, CommitShare: 10})
			apart := apptest.NewGroup(t, c, 2)
			for range 5 {
				load.AwaitMore(t, 20)
				proxy.Break()
				text := rand.Text()
				proxy.LoseReply(text)
				_, _ = load.SendText(t.Context(), c, apart, apart.Members[0], 0, text)
			}
			proxy.Stall()
			apptest.Await(t, "what a stalled database makes of requests", func() bool {
				return load.Count(conversation.Unavailable)+load.Count(conversation.OutcomeUnknown) > 8
			})
			proxy.Restore()
			load.AwaitMore(t, 50)
			load.Stop()
			load.Only(t, conversation.Unavailable, conversation.OutcomeUnknown, conversation.Overloaded)
			load.Verify(t, c, append(groups, apart)...)
			if log := apptest.ReadLog(t, c, apart.ID, apart.Members[0]); len(log) == 0 {
				t.Error("no message is stored whose reply was lost")
			}
			checkIntegrity(t, n)
		})
	}
}

func checkIntegrity(t *testing.T, n *apptest.Node) {
	t.Helper()
	found, err := n.Operator(t).Integrity(t.Context(), "")
	if err != nil {
		t.Errorf("looking through the data: %v", err)
	} else if !found.Clean() {
		t.Errorf("the data is damaged: %+v", found)
	}
}

// Somebody who holds rows locked makes requests wait or fail, but the node stays
// healthy and everything goes on afterwards.
func TestPoolExhausted(t *testing.T) {
	url := testenv.Postgres(t)
	n := apptest.Start(t, apptest.Postgres(url), apptest.Actors(false), func(c *config.Config) { c.Database.MaxConnections = 4 })
	c := apptest.Client(t, nil, n.URL)
	g := apptest.NewGroup(t, c, 2)
	books := apptest.NewLedger()

	ctx := t.Context()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "SELECT 1 FROM conversations FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() { _, _ = books.Send(ctx, c, g, g.Members[0], 0) })
	}
	apptest.Await(t, "a refusal", func() bool { return books.Count(conversation.Unavailable) > 0 })
	if status, _, body := apptest.Get(t, n.URL+"/health"); status != 200 {
		t.Errorf("/health answers %d while the pool is in use: %s", status, body)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if _, err := books.Send(ctx, c, g, g.Members[0], 0); err != nil {
		t.Errorf("after the lock is gone: %v", err)
	}
	books.Only(t, conversation.Unavailable, conversation.OutcomeUnknown)
	books.Verify(t, c, g)
}

func TestMailboxFull(t *testing.T) {
	proxy, url := testenv.ProxyURL(t, testenv.Postgres(t))
	n := apptest.Start(t, apptest.Postgres(url), apptest.Actors(true), func(c *config.Config) { c.Actors.MailboxSize = 4 })
	c := apptest.Client(t, nil, n.URL)
	g := apptest.NewGroup(t, c, 2)
	books := apptest.NewLedger()
	if _, err := books.Send(t.Context(), c, g, g.Members[0], 0); err != nil {
		t.Fatal(err)
	}
	proxy.Delay(200 * time.Millisecond)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var full *client.Error
	for range 40 {
		wg.Go(func() {
			_, err := books.Send(t.Context(), c, g, g.Members[0], 0)
			var refusal *client.Error
			if asError(err, &refusal) && refusal.Name == conversation.MailboxFull {
				mu.Lock()
				defer mu.Unlock()
				full = refusal
			}
		})
	}
	wg.Wait()
	proxy.Restore()
	if full == nil || full.Status != http.StatusServiceUnavailable || full.RetryAfter <= 0 {
		t.Errorf("40 requests for a mailbox of 4: %v; the last refusal: %v", books, full)
	}
	if _, err := books.Send(t.Context(), c, g, g.Members[0], 0); err != nil {
		t.Errorf("after the rush: %v", err)
	}
	books.Only(t, conversation.MailboxFull)
	books.Verify(t, c, g)
}

func TestBodyTooLarge(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
	c := apptest.Client(t, nil, n.URL)
	g := apptest.NewGroup(t, c, 2)
	for _, size := range []int{conversation.MaxMessage + 1, 40 << 20} {
		_, err := c.As(g.Members[0]).SendMessage(t.Context(), client.SendMessage{ConvoID: g.ID, Ciphertext: bytes.Repeat([]byte{1}, size)})
		if client.NameOf(err) != conversation.MessageTooLarge {
			t.Errorf("a message of %d bytes: %v, want MessageTooLarge", size, err)
		}
	}
	if _, err := c.As(g.Members[0]).SendMessage(t.Context(), client.SendMessage{
		ConvoID: g.ID, Ciphertext: bytes.Repeat([]byte{1}, conversation.MaxMessage),
	}); err != nil {
		t.Errorf("a message as large as may be: %v", err)
	}
}

// Clients that dribble, fall silent or vanish cost others nothing.
func TestSlowAndVanishedClients(t *testing.T) {
	n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true),
		func(c *config.Config) { c.Limits.RequestTimeout = 500 * time.Millisecond })
	c := apptest.Client(t, nil, n.URL)
	g := apptest.NewGroup(t, c, 2)
	token, err := client.HS256([]byte(apptest.Secret), "")(g.Members[0], client.Prefix+"sendMessage")
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(client.SendMessage{ConvoID: g.ID, Ciphertext: []byte("from one who vanished")})
	if err != nil {
		t.Fatal(err)
	}
	head := fmt.Sprintf("POST /xrpc/%ssendMessage HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		client.Prefix, token, len(body))

	slow := dialNode(t, n)
	write(t, slow, head+string(body[:10]))
	vanished := dialNode(t, n)
	write(t, vanished, head+string(body[:10]))
	vanished.Close()
	silent := dialNode(t, n)
	write(t, silent, "GET /heal")

	if _, err := c.As(g.Members[0]).SendMessage(t.Context(), client.SendMessage{ConvoID: g.ID, Ciphertext: []byte{1}}); err != nil {
		t.Errorf("others are not served meanwhile: %v", err)
	}
	// The slow one is told, or cut off, when its time is up.
	if err := slow.SetReadDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(slow), nil)
	var timeout net.Error
	if asError(err, &timeout) && timeout.Timeout() {
		t.Errorf("a client that dribbles still holds its connection after %v", soon)
	}
	if err == nil {
		if resp.StatusCode < 400 {
			t.Errorf("half a request was answered with %d", resp.StatusCode)
		}
		resp.Body.Close()
	}
	if log := apptest.ReadLog(t, c, g.ID, g.Members[0]); len(log) != 1 {
		t.Errorf("%d messages are stored, want 1", len(log))
	}
}

func dialNode(t *testing.T, n *apptest.Node) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}
