package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal: what the tool writes to it is collected, and
// keys can be pressed.
type terminal struct {
	t     *testing.T
	outer *os.File // the side of who looks at it
	tty   *os.File // the tool's side
	seen  bytes.Buffer
}

func newTerminal(t *testing.T, width, height uint16) *terminal {
	t.Helper()
	outer, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = outer.Close() })
	var n int
	err = control(outer, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return errors.Join(err, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}))
	})
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return &terminal{t: t, outer: outer, tty: tty}
}

// mode returns the terminal's settings.
func (p *terminal) mode() (m unix.Termios) {
	p.t.Helper()
	err := control(p.tty, func(fd int) error {
		got, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			m = *got
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// await reads on until text was written since the last await.
func (p *terminal) await(text string) (before string) {
	p.t.Helper()
	if err := p.outer.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	var b [4096]byte
	for {
		if i := strings.Index(p.seen.String(), text); i >= 0 {
			return string(p.seen.Next(i + len(text)))
		}
		n, err := p.outer.Read(b[:])
		if err != nil {
			p.t.Fatalf("waiting for %q: %v; seen: %q", text, err, p.seen.String())
		}
		p.seen.Write(b[:n])
	}
}

func (p *terminal) press(keys string) {
	p.t.Helper()
	if _, err := p.outer.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// watch runs the tool on the terminal.
func (p *terminal) watch(args ...string) <-chan int {
	code := make(chan int, 1)
	go func() {
		code <- run(append([]string{"watch", "--every=100ms"}, args...), streams{out: p.tty, err: p.tty, tty: p.tty.Name()}, func(int) {})
	}()
	return code
}

// On a terminal there is a picture; keys end it, and the terminal is as before.
func TestWatchOnATerminal(t *testing.T) {
	for _, test := range []struct {
		name string
		quit func(p *terminal)
	}{
		{"q", func(p *terminal) { p.press("xq") }},
		{"Ctrl-C", func(p *terminal) { p.press("\x03") }},
		{"signal", func(*terminal) { interrupt(t) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			url, fails := fakeCluster(t)
			p := newTerminal(t, 60, 20)
			before := p.mode()
			code := p.watch("--node=" + url)
			p.await(enterScreen + home)
			if m := p.mode(); m == before {
				t.Error("keys are still echoed and gathered into lines")
			}
			p.await("\x1b[32mready")
			picture := p.await(endOfScreen)
			if lines := strings.Split(picture, "\r\n"); len(lines) < 3 || strings.Contains(strings.ReplaceAll(picture, "\r\n", ""), "\n") {
				t.Errorf("lines do not begin at the left: %q", picture)
			}
			fails.Store(true)
			p.await("since then: Unavailable")
			fails.Store(false)
			test.quit(p)
			p.await(leaveScreen)
			if c := <-code; c != exitOK {
				t.Errorf("exit code %d", c)
			}
			if after := p.mode(); after != before {
				t.Errorf("the terminal is left in another mode:\n%+v, was\n%+v", after, before)
			}
		})
	}
}

func TestWatchWithoutColours(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	url, _ := fakeCluster(t)
	p := newTerminal(t, 60, 20)
	code := p.watch("--node=" + url)
	p.await(enterScreen)
	if picture := p.await(endOfScreen); strings.Contains(picture, "\x1b[3") || strings.Contains(picture, "\x1b[1m") {
		t.Errorf("colours: %q", picture)
	}
	p.press("q")
	p.await(leaveScreen)
	<-code
}

// A first look that fails is an error like any other, on an untouched terminal.
func TestWatchOfNothingOnATerminal(t *testing.T) {
	p := newTerminal(t, 60, 20)
	code := p.watch("--node=http://127.0.0.1:1")
	if said := p.await("refused"); strings.Contains(said, "\x1b") {
		t.Errorf("said %q", said)
	}
	if c := <-code; c != exitUnreachable {
		t.Errorf("exit code %d", c)
	}
}
