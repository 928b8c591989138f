package app

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	quenchFor  = time.Second
	quenchPoll = time.Millisecond
)

// quench ends listening on ln, which is still to be closed, at a moment when no
// connection waits to be accepted, if there is one soon. A connection that the
// kernel has taken and we have not is reset by a close, with the request that
// its client may have sent already; one that was never taken is tried elsewhere.
func quench(ctx context.Context, ln net.Listener) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	// From here on the kernel takes one connection at a time; the others ask
	// again in a second, when nobody is there any more.
	if err := raw.Control(func(fd uintptr) { _ = unix.Listen(int(fd), 0) }); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, quenchFor)
	defer cancel()
	t := time.NewTicker(quenchPoll)
	defer t.Stop()
	for !endIfIdle(raw) {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// endIfIdle ends listening if no connection waits, and reports whether that is
// done. Nothing lies between the look and the end.
func endIfIdle(raw syscall.RawConn) (done bool) {
	err := raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 0); n > 0 || err != nil {
			return
		}
		done = unix.Shutdown(int(fd), unix.SHUT_RD) == nil
	})
	return done || err != nil
}
