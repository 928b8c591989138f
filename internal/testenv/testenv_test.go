package testenv

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestPostgresGivesDatabasesOfTheirOwn(t *testing.T) {
	a, b := Postgres(t), Postgres(t)
	run(t, connect(t, a), "CREATE TABLE only_here ()")
	run(t, connect(t, b), "CREATE TABLE only_here ()")

	original := Postgres(t)
	conn := connect(t, original)
	run(t, conn, "CREATE TABLE copied ()")
	conn.Close(context.Background())
	run(t, connect(t, CopyPostgres(t, original)), "SELECT FROM copied")
}

func TestServerLifeKeepsData(t *testing.T) {
	s, err := StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	conn := connect(t, s.URL())
	run(t, conn, "CREATE TABLE kept AS SELECT 1")

	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := conn.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("ping of a frozen server: %v", err)
	}
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	run(t, connect(t, s.URL()), "SELECT * FROM kept")

	s.Kill()
	if _, err := pgx.Connect(context.Background(), s.URL()); err == nil {
		t.Fatal("a killed server answers")
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	run(t, connect(t, s.URL()), "SELECT * FROM kept")
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	run(t, connect(t, s.URL()), "SELECT * FROM kept")
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	s.Close() // of a frozen server, too
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the data is still there: %v", err)
	}
}

func TestRedisAnswersAfterKill(t *testing.T) {
	if err := answersRedis(context.Background(), Redis(t)); err != nil && os.Getenv("TEST_REDIS_URL") == "" {
		t.Fatal(err)
	}
	s, err := StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Kill()
	if err := answersRedis(context.Background(), s.URL()); err == nil {
		t.Fatal("a killed server answers")
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if err := answersRedis(context.Background(), s.URL()); err != nil {
		t.Fatal(err)
	}
}

// echo returns the address of a server that sends back what it gets, and a
// channel of what that was.
func echo(t *testing.T) (string, <-chan string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 64)
			for {
				n, err := c.Read(buf)
				if err != nil {
					break
				}
				got <- string(buf[:n])
				c.Write(buf[:n])
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String(), got
}

func say(t *testing.T, c net.Conn, text string) error {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		return err
	}
	buf := make([]byte, len(text))
	_, err := io.ReadFull(c, buf)
	if err == nil && string(buf) != text {
		t.Fatalf("got %q, want %q", buf, text)
	}
	return err
}

func TestProxy(t *testing.T) {
	target, got := echo(t)
	p := NewProxy(t, target)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c := dial()
	if err := say(t, c, "plain"); err != nil {
		t.Fatal(err)
	}
	<-got

	p.LoseReply("lose me")
	if err := say(t, c, "lose me"); err == nil {
		t.Fatal("the reply came through")
	}
	if request := <-got; request != "lose me" {
		t.Fatalf("the server got %q", request)
	}
	c = dial()
	if err := say(t, c, "lose me"); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	<-got

	p.Stall()
	answered := make(chan error, 1)
	go func() { answered <- say(t, c, "held up") }()
	select {
	case <-got:
		t.Fatal("bytes went through a stalled proxy")
	case <-time.After(50 * time.Millisecond):
	}
	p.Restore()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	<-got

	p.Delay(30 * time.Millisecond)
	start := time.Now()
	if err := say(t, c, "slow"); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 60*time.Millisecond {
		t.Fatalf("a round trip took %v with 30ms each way", d)
	}

	p.Cut()
	if err := say(t, c, "cut"); err == nil {
		t.Fatal("a cut connection works")
	}
	if err := say(t, dial(), "cut"); err == nil {
		t.Fatal("a new connection works through a cut proxy")
	}
	p.Restore()
	if err := say(t, dial(), "back"); err != nil {
		t.Fatal(err)
	}
}
