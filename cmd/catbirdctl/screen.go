package main

import (
	"context"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"catbird/internal/ctl"
)

// What a terminal is told.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // another screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	endOfLine   = "\x1b[K"
	endOfScreen = "\x1b[J"
)

// The size taken for a terminal that does not tell its own.
const usualWidth, usualHeight = 80, 24

// screen is a terminal that shows one picture after another until a key ends
// that. close restores it.
type screen struct {
	out     io.Writer
	size    func() (width, height int)
	colours bool

	tty    *os.File // nil: no keys
	before *term.State
	keys   chan struct{} // closed when no more are read
}

// openScreen takes the terminal, where what is written goes to one.
func openScreen(s streams) (*screen, bool) {
	f, ok := s.out.(*os.File)
	if !ok || !isTerminal(f) {
		return nil, false
	}
	sc := &screen{out: f, colours: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", size: func() (width, height int) {
		_ = control(f, func(fd int) (err error) { width, height, err = term.GetSize(fd); return err })
		if width < 1 || height < 1 {
			return usualWidth, usualHeight
		}
		return width, height
	}}
	// A descriptor of our own, whose reads can be ended; the shell's go on.
	if tty, err := os.OpenFile(s.tty, os.O_RDWR|syscall.O_NOCTTY, 0); err == nil {
		sc.tty = tty
		if control(tty, func(fd int) (err error) { sc.before, err = term.MakeRaw(fd); return err }) != nil {
			sc.before = nil
		}
	}
	_, _ = io.WriteString(sc.out, enterScreen) // show will say what is wrong
	return sc, true
}

func isTerminal(f *os.File) (is bool) {
	_ = control(f, func(fd int) error { is = term.IsTerminal(fd); return nil })
	return is
}

// control calls do with f's descriptor and leaves it in the mode it is in, which
// File.Fd would not.
func control(f *os.File, do func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := c.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// untilQuit returns a context that ends with ctx, or when q, Ctrl-C or Ctrl-D is
// pressed.
func (s *screen) untilQuit(ctx context.Context) context.Context {
	if s.tty == nil {
		return ctx
	}
	ctx, quit := context.WithCancel(ctx)
	s.keys = make(chan struct{})
	go func() {
		defer close(s.keys)
		defer quit()
		var b [64]byte
		for {
			n, err := s.tty.Read(b[:])
			if err != nil || strings.ContainsAny(string(b[:n]), "qQ\x03\x04") {
				return
			}
		}
	}()
	return ctx
}

// show replaces the picture.
func (s *screen) show(l ctl.Look) error {
	var b strings.Builder
	b.WriteString(home)
	for i, line := range l.Frame(s.sizeNow()) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line + endOfLine)
	}
	b.WriteString(endOfScreen)
	_, err := io.WriteString(s.out, b.String())
	return err
}

func (s *screen) sizeNow() (width, height int, colours bool) {
	width, height = s.size()
	return width, height, s.colours
}

// close gives the terminal back as it was.
func (s *screen) close() {
	_, _ = io.WriteString(s.out, leaveScreen) // if it is gone, so is who would care
	if s.tty == nil {
		return
	}
	if s.before != nil {
		_ = control(s.tty, func(fd int) error { return term.Restore(fd, s.before) })
	}
	// Where a read cannot be ended, the process' end ends it.
	if s.tty.SetReadDeadline(time.Now()) == nil && s.keys != nil {
		<-s.keys
	}
	_ = s.tty.Close()
}
