package testenv

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// pair returns both ends of a connection from a to b.
func pair(t *testing.T, a, b *Host) (atA, atB net.Conn) {
	t.Helper()
	var l net.Listener
	if err := b.own.do(func() (err error) { l, err = net.Listen("tcp", b.Addr+":0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	atA, err := a.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { atA.Close() })
	if atB, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { atB.Close() })
	return atA, atB
}

// arrives reports whether what is written at one end comes out at the other
// within the time.
func arrives(t *testing.T, from, to net.Conn, within time.Duration) bool {
	t.Helper()
	if _, err := from.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := to.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	_, err := to.Read(make([]byte, 64))
	return err == nil
}

func TestHostLosesWhatItSends(t *testing.T) {
	n := newNetwork(t, 3)
	a, b, c := n.Hosts()[0], n.Hosts()[1], n.Hosts()[2]
	atA, atB := pair(t, a, b)
	if !arrives(t, atA, atB, 10*time.Second) {
		t.Fatal("nothing arrives")
	}
	if err := a.Lose(b); err != nil {
		t.Fatal(err)
	}
	if arrives(t, atA, atB, 300*time.Millisecond) {
		t.Error("what a sends arrives at b")
	}
	if !arrives(t, atB, atA, 10*time.Second) {
		t.Error("what b sends does not arrive at a")
	}
	if err := reaches(a.DialContext, listenOn(t, c)); err != nil {
		t.Errorf("a does not reach c: %v", err)
	}
	for range 2 { // the second time there is nothing to do
		if err := a.Find(b); err != nil {
			t.Fatal(err)
		}
	}
	if !arrives(t, atA, atB, 10*time.Second) {
		t.Error("what a sends is still lost")
	}
}

func TestHostIsSlow(t *testing.T) {
	n := newNetwork(t, 3)
	a, b, c := n.Hosts()[0], n.Hosts()[1], n.Hosts()[2]
	err := a.Slow(b, 8_000)
	if errors.Is(err, errNoShaping) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	atA, atB := pair(t, a, b)
	if _, err := atA.Write(make([]byte, 20_000)); err != nil { // twenty seconds
		t.Fatal(err)
	}
	if received(t, atB, 20_000, time.Second) {
		t.Error("b got in a second what should take twenty")
	}
	atA, atC := pair(t, a, c)
	if _, err := atA.Write(make([]byte, 20_000)); err != nil {
		t.Fatal(err)
	}
	if !received(t, atC, 20_000, 10*time.Second) {
		t.Error("c is slow too")
	}
	for range 2 {
		if err := a.Restore(); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Slow(b, 8_000); err != nil {
		t.Errorf("slow again: %v", err)
	}
	if err := a.Restore(); err != nil {
		t.Fatal(err)
	}
	atA, atB = pair(t, a, b)
	if _, err := atA.Write(make([]byte, 20_000)); err != nil {
		t.Fatal(err)
	}
	if !received(t, atB, 20_000, 10*time.Second) {
		t.Error("b is still slow")
	}
}

func received(t *testing.T, c net.Conn, want int, within time.Duration) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 4096); want > 0; {
		n, err := c.Read(buf)
		if err != nil {
			return false
		}
		want -= n
	}
	return true
}

// What clients of a proxy ask for arrives, and what they are told does not.
func TestProxyStallsOneWay(t *testing.T) {
	target, got := echo(t)
	p := NewProxy(t, target)
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	p.StallReplies()
	answered := make(chan error, 1)
	go func() { answered <- say(t, c, "no reply") }()
	select {
	case <-got:
	case <-ctx.Done():
		t.Fatal("the request did not arrive")
	}
	select {
	case err := <-answered:
		t.Fatalf("answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	p.Restore()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}

	p.StallRequests()
	go func() { answered <- say(t, c, "no request") }()
	select {
	case <-got:
		t.Fatal("the request arrived")
	case <-time.After(50 * time.Millisecond):
	}
	p.Restore()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	<-got
}
