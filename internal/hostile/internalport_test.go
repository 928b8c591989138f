package hostile

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"catbird/conversation"
	"catbird/internal/app/apptest"
	"catbird/internal/testenv"
	"catbird/operator"
	"catbird/peer"
)

// Whoever reaches the internal port without the cluster's secret gets 401 from
// every path, by whatever they bring, and changes nothing.
func TestInternalPortIsClosedToStrangers(t *testing.T) {
	n := apptest.Start(t, apptest.Postgres(testenv.Postgres(t)), apptest.Actors(true), apptest.Fellow("a", testenv.Redis(t)))
	keys := map[string]string{
		"nothing":                 "",
		"a client's token":        "Bearer " + token(t, alice, "commit"),
		"a guess":                 "Bearer a guess",
		"the secret, cut":         "Bearer " + apptest.ClusterSecret[:len(apptest.ClusterSecret)-1],
		"the secret as a basic":   "Basic " + apptest.ClusterSecret,
		"two":                     "Bearer x, Bearer " + apptest.ClusterSecret,
		"the token for /node":     "Bearer " + operator.StatusToken(apptest.ClusterSecret),
		"the signer of tokens":    "Bearer " + apptest.Secret,
		"another cluster's /node": "Bearer " + operator.StatusToken("another cluster"),
	}
	for _, path := range []string{
		"GET /cluster", "GET /cluster/owner?convoId=ab", "GET /actors", "GET /flags", "PUT /flags", "POST /drain", "GET /node",
		"GET /conversations/ab", "GET /integrity", "GET /", "GET /nothing", "OPTIONS *",
		"GET " + peer.Prefix + "stream", "POST " + peer.Prefix + "hello", "POST " + peer.Prefix + "ask", "PUT " + peer.Prefix + "ask",
		"GET //internal/v1/../../flags", "GET /%66lags", "GET /xrpc/blue.catbird.mls.getConvos",
	} {
		for name, key := range keys {
			if path == "GET /node" && name == "the token for /node" || path == "OPTIONS *" {
				continue
			}
			raw := path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 21\r\n"
			if key != "" {
				raw += "Authorization: " + key + "\r\n"
			}
			got := exchange(t, n.InternalAddr(), raw+"\r\n"+`{"actorSystem":false}`)
			if len(got) != 1 || got[0].status != http.StatusUnauthorized && got[0].status != http.StatusMovedPermanently {
				t.Errorf("%s with %s: %v, want 401", path, name, got)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	if f, err := n.Operator(t).Flags(ctx); err != nil || !f.ActorSystem {
		t.Errorf("afterwards the flags are %+v, %v", f, err)
	}
	if status, _, body := apptest.Get(t, n.URL+"/health/ready"); status != 200 {
		t.Errorf("afterwards the node is not ready: %d %s", status, body)
	}
}

// A stranger's body is not waited for on the internal port.
func TestInternalPortWaitsForNoStranger(t *testing.T) {
	n := apptest.Start(t, apptest.Postgres(testenv.Postgres(t)), apptest.Fellow("a", testenv.Redis(t)))
	for _, path := range []string{"PUT /flags", "POST " + peer.Prefix + "hello", "POST " + peer.Prefix + "ask"} {
		c := dial(t, n.InternalAddr())
		if _, err := io.WriteString(c, path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if answer := readAll(t, c); !strings.HasPrefix(answer, "HTTP/1.1 401") {
			t.Errorf("%s: %.200q", path, answer)
		}
	}
}

// ask asks the node as another one with that secret would.
func ask(t *testing.T, n *apptest.Node, secret string, dial func(ctx context.Context, address string) (net.Conn, error)) (peer.Answer, error) {
	t.Helper()
	c, err := peer.NewClient(peer.ClientConfig{
		Secret: []byte(secret), Self: "b", Version: "v", Logger: slog.New(slog.DiscardHandler), Dial: dial, DialTimeout: apptest.Patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), apptest.Patience)
	defer cancel()
	defer func() {
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	return c.Ask(ctx, n.InternalAddr(), peer.Question{Convo: "00ff", Caller: alice, MustServe: true})
}

// A node of another cluster, and one whose whole conversation with a node was
// recorded, are nobody.
func TestInternalPortTakesNoForgedIdentity(t *testing.T) {
	n := apptest.Start(t, apptest.Postgres(testenv.Postgres(t)), apptest.Actors(true), apptest.Fellow("a", testenv.Redis(t)))
	if _, err := ask(t, n, "the secret of another cluster", nil); !errors.Is(err, peer.ErrUnreachable) {
		t.Errorf("a node of another cluster: %v", err)
	}
	var tape journal
	a, err := ask(t, n, apptest.ClusterSecret, func(ctx context.Context, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return taped{c, &tape}, err
	})
	if err != nil || a.Status != peer.Refused || a.Refusal.Code != conversation.ConvoNotFound {
		t.Fatalf("a node of this cluster: %+v, %v", a, err)
	}
	c := dial(t, n.InternalAddr())
	if _, err := io.WriteString(c, tape.String()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("what a node of this cluster said, said again: %v, %v", resp, err)
	}
	if err == nil {
		resp.Body.Close()
	}
	if strings.Contains(tape.String(), apptest.ClusterSecret) || strings.Contains(tape.String(), alice) {
		t.Error("a secret or a caller can be read off the wire")
	}
}

// taped keeps what is written.
type taped struct {
	net.Conn
	tape *journal
}

func (c taped) Write(b []byte) (int, error) {
	_, _ = c.tape.Write(b) // never fails
	return c.Conn.Write(b)
}
