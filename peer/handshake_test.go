package peer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

func mustSecret(t testing.TB, s string) secret {
	t.Helper()
	out, err := newSecret([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// shake runs a handshake in memory, with what edit does to the words of either.
func shake(t *testing.T, client, server secret, edit func(role, header string) string) error {
	t.Helper()
	o, err := client.offer(hello{node: "a", purpose: purposeSmall})
	if err != nil {
		t.Fatal(err)
	}
	h, raw, err := server.readOffer(edit(roleClient, o.authorization()))
	if err != nil {
		return err
	}
	header, serverKeys, err := server.answer(hello{versions: []uint64{1}, node: "b"}, h, raw)
	if err != nil {
		return err
	}
	_, clientKeys, err := o.accept(edit(roleServer, header))
	if err != nil {
		return err
	}
	n := make([]byte, 12)
	for _, k := range []struct{ to, from keys }{{clientKeys, serverKeys}, {serverKeys, clientKeys}} {
		if _, err := k.from.toServer.Open(nil, n, k.to.toServer.Seal(nil, n, []byte("x"), nil), nil); err != nil {
			t.Error("the keys to the server differ")
		}
		if _, err := k.from.toClient.Open(nil, n, k.to.toServer.Seal(nil, n, []byte("x"), nil), nil); err == nil {
			t.Error("both directions have the same key")
		}
	}
	return nil
}

func TestHandshake(t *testing.T) {
	same := func(_, header string) string { return header }
	a, b := mustSecret(t, "one"), mustSecret(t, "another")
	flip := func(role string) func(string, string) string {
		return func(r, header string) string {
			if r != role {
				return header
			}
			at := len(header) / 2
			c := byte('A')
			if header[at] == c {
				c = 'B'
			}
			return header[:at] + string(c) + header[at+1:]
		}
	}
	if err := shake(t, a, a, same); err != nil {
		t.Errorf("with one secret: %v", err)
	}
	for name, err := range map[string]error{
		"another secret":      shake(t, a, b, same),
		"the client's words":  shake(t, a, a, flip(roleClient)),
		"the server's words":  shake(t, a, a, flip(roleServer)),
		"the words cut short": shake(t, a, a, func(_, header string) string { return header[:len(header)-8] }),
		"no words":            shake(t, a, a, func(string, string) string { return "" }),
		"another scheme":      shake(t, a, a, func(_, h string) string { return strings.Replace(h, authScheme, "Bearer", 1) }),
		"no base64":           shake(t, a, a, func(_, h string) string { return h + "%" }),
		"far too long":        shake(t, a, a, func(_, h string) string { return h + strings.Repeat("A", 4*maxHello) }),
	} {
		if !errors.Is(err, errUnauthorized) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the client said cannot be sent back to it as the server's words.
func TestReflectedHelloIsRefused(t *testing.T) {
	s := mustSecret(t, "one")
	o, err := s.offer(hello{node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.accept(strings.TrimPrefix(o.authorization(), authScheme+" ")); !errors.Is(err, errUnauthorized) {
		t.Errorf("got %v", err)
	}
}

// Keys that make the exchange come out the same for everybody are refused.
func TestWeakPublicKeyIsRefused(t *testing.T) {
	s := mustSecret(t, "one")
	for name, key := range map[string][]byte{"zero": make([]byte, 32), "short": {1}, "none": nil} {
		h := hello{node: "a", versions: []uint64{1}, key: key}
		raw := s.sign(roleClient, nil, h.append(nil))
		if _, _, err := s.answer(hello{node: "b"}, h, raw); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestHelloOfLongNamesIsRefused(t *testing.T) {
	h := hello{node: strings.Repeat("n", maxName+1)}
	if _, err := decodeHello(h.append(nil)); err == nil {
		t.Error("accepted")
	}
}

func TestHelloGuardForgetsTheOldest(t *testing.T) {
	var g helloGuard
	key := func(i int) string { return string([]byte{byte(i), byte(i >> 8)}) }
	for i := range rememberedHellos + 1 {
		if !g.first(key(i)) {
			t.Fatalf("key %d taken for a copy", i)
		}
	}
	if g.first(key(1)) || g.first(key(rememberedHellos)) {
		t.Error("a copy was taken for new")
	}
	if !g.first(key(0)) || len(g.seen) != rememberedHellos {
		t.Errorf("the oldest is not forgotten: %d remembered", len(g.seen))
	}
}

// Whoever does not know the secret gets the same from every path: 401 and
// nothing else.
func TestStrangersLearnNothing(t *testing.T) {
	n := startNode(t, &fakeHandler{}, nil)
	stranger, err := mustSecret(t, "a guess").offer(hello{node: "x", purpose: purposeSmall})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, path := range []string{streamPath, helloPath, askPath, Prefix, Prefix + "elsewhere"} {
			for _, auth := range []string{"", "Bearer x", stranger.authorization(), sessionScheme + " AAAA", sessionScheme + " %"} {
				req, err := http.NewRequestWithContext(testContext(t), method, "http://"+n.address+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", auth)
				req.Header.Set("Connection", "Upgrade")
				req.Header.Set("Upgrade", upgradeName)
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusUnauthorized || len(body) > 0 || resp.Header.Get(helloHeader) != "" {
					t.Errorf("%s %s with %q: status %d, %d bytes, %v", method, path, auth, resp.StatusCode, len(body), err)
				}
			}
		}
	}
}

func TestUnknownPathOfAPeer(t *testing.T) {
	n := startNode(t, &fakeHandler{}, nil)
	o, err := mustSecret(t, string(testSecret)).offer(hello{node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(testContext(t), http.MethodPost, "http://"+n.address+Prefix+"elsewhere", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", o.authorization())
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestWrongSecretIsUnreachable(t *testing.T) {
	n := startNode(t, &fakeHandler{serve: func(context.Context, Question) Answer { panic("must not be asked") }}, nil)
	c := newTestClient(t, func(cfg *ClientConfig) { cfg.Secret = []byte("another") })
	for range 2 {
		_, err := c.Ask(testContext(t), n.address, sendOf("1", 1))
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, errUnauthorized) {
			t.Errorf("got %v", err)
		}
	}
}

// A server that does not know the secret is told nothing.
func TestImpostorIsToldNothing(t *testing.T) {
	guess, key := mustSecret(t, "a guess"), mustKey(t)
	impostor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		// It lets everybody in, and answers as best it can.
		header, _, err := guess.answer(hello{versions: []uint64{1}, node: "b"}, hello{key: key}, []byte("whatever"))
		if err != nil {
			t.Error(err)
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: catbird-peer\r\n"+
			helloHeader+": "+header+"\r\n\r\n") // the client's refusal is what is looked at
		if rest, _ := io.ReadAll(conn); len(rest) > 0 {
			t.Errorf("the impostor was sent %d bytes", len(rest))
		}
	}))
	defer impostor.Close()
	c := newTestClient(t, nil)
	_, err := c.Ask(testContext(t), impostor.Listener.Addr().String(), sendOf("1", 1))
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, errUnauthorized) {
		t.Errorf("got %v", err)
	}
}

func mustKey(t testing.TB) []byte {
	t.Helper()
	k, err := newKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	return k.PublicKey().Bytes()
}

// recorder keeps what a client writes.
type recorder struct {
	net.Conn
	mu  *sync.Mutex
	buf *bytes.Buffer
}

func (r recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.buf.Write(b)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

// A stranger who has recorded a whole connection sends the same bytes again.
func TestReplayedConnection(t *testing.T) {
	var served1, served2 sync.Map
	handler := func(seen *sync.Map) *fakeHandler {
		return &fakeHandler{serve: func(_ context.Context, q Question) Answer {
			seen.Store(q.Change.ID, true)
			return served(q)
		}}
	}
	first, second := startNode(t, handler(&served1), nil), startNode(t, handler(&served2), nil)
	var mu sync.Mutex
	var recorded bytes.Buffer
	c := newTestClient(t, func(cfg *ClientConfig) {
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			return recorder{conn, &mu, &recorded}, err
		}
	})
	if _, err := c.Ask(testContext(t), first.address, sendOf("1", 1)); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	bytesSent := bytes.Clone(recorded.Bytes())
	mu.Unlock()
	if _, ok := served1.LoadAndDelete("1"); !ok {
		t.Fatal("the original was not served")
	}

	replay := func(address string) int {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(bytesSent); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusSwitchingProtocols {
			_, _ = io.Copy(io.Discard, r) // until the node has had enough
		}
		return resp.StatusCode
	}
	if status := replay(first.address); status != http.StatusUnauthorized {
		t.Errorf("to the same node: status %d", status)
	}
	// Another node has not seen the hello; the records are of no use there.
	if status := replay(second.address); status != http.StatusSwitchingProtocols {
		t.Errorf("to another node: status %d", status)
	}
	for name, seen := range map[string]*sync.Map{"the same": &served1, "another": &served2} {
		if _, ok := seen.Load("1"); ok {
			t.Errorf("%s node has served the replayed question", name)
		}
	}
}

// tamperer changes a byte of what a client writes, from the n-th write on.
type tamperer struct {
	net.Conn
	writes *int
}

func (c tamperer) Write(b []byte) (int, error) {
	*c.writes++
	if *c.writes > 1 { // the first is the request
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
	}
	return c.Conn.Write(b)
}

func TestTamperedQuestionIsNotServed(t *testing.T) {
	n := startNode(t, &fakeHandler{serve: func(context.Context, Question) Answer { panic("must not be asked") }}, nil)
	writes := 0
	c := newTestClient(t, func(cfg *ClientConfig) {
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			return tamperer{conn, &writes}, err
		}
	})
	if _, err := c.Ask(testContext(t), n.address, sendOf("1", 1000)); !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
}
