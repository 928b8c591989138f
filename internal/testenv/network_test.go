package testenv

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// newNetwork skips the test on a machine that has no network to offer; one where
// TEST_NAMESPACES says required has.
func newNetwork(t *testing.T, hosts int) *Network {
	t.Helper()
	n, err := NewNetwork(t, hosts)
	if err == nil {
		return n
	}
	if os.Getenv("TEST_NAMESPACES") == "required" {
		t.Fatal(err)
	}
	t.Skip(err)
	return nil
}

// listenOn answers on a host's own address until the test ends, and returns where.
func listenOn(t *testing.T, h *Host) string {
	t.Helper()
	var l net.Listener
	err := h.own.do(func() (err error) {
		l, err = net.Listen("tcp", h.Addr+":0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func reaches(dial func(context.Context, string, string) (net.Conn, error), address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	c, err := dial(ctx, "tcp", address)
	if err == nil {
		c.Close()
	}
	return err
}

func TestNetwork(t *testing.T) {
	n := newNetwork(t, 3)
	a, b, c := n.Hosts()[0], n.Hosts()[1], n.Hosts()[2]
	atA := listenOn(t, a)
	for _, h := range n.Hosts() {
		if err := reaches(h.DialContext, atA); err != nil {
			t.Errorf("%s does not reach %s: %v", h.Addr, atA, err)
		}
	}
	if err := reaches((&net.Dialer{}).DialContext, atA); err == nil {
		t.Error("a host is reached from outside")
	}
	outside, _ := echo(t)
	if err := reaches(a.DialContext, outside); err == nil {
		t.Error("a host reaches what is outside")
	}

	if err := a.Unplug(); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if err := reaches(b.DialContext, atA); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a host that is unplugged: %v, want silence", err)
	}
	if err := reaches(n.DialContext, atA); err != nil {
		t.Errorf("a host that is unplugged does not reach itself: %v", err)
	}
	if err := reaches(b.DialContext, listenOn(t, c)); err != nil {
		t.Errorf("others do not reach each other: %v", err)
	}
	if err := a.Plug(); err != nil {
		t.Fatal(err)
	}
	if err := reaches(b.DialContext, atA); err != nil {
		t.Errorf("plugged in again: %v", err)
	}
}

func TestProxyOnAHost(t *testing.T) {
	n := newNetwork(t, 1)
	target, _ := echo(t)
	h := n.Hosts()[0]
	l, err := h.Listen()
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxyOn(t, l, target)
	c, err := h.DialContext(t.Context(), "tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := say(t, c, "through"); err != nil {
		t.Error(err)
	}
}
