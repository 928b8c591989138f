//go:build unix

package postgres

import (
	"errors"
	"net"
	"syscall"
)

// quiet reports whether nothing waits to be read from c: between two calls
// anything that does is the server's farewell. It does not block.
func quiet(c net.Conn) bool {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var peeked error
	var one [1]byte
	// Not raw.Read: it waits for the connection's reader, and pgx may have left
	// one behind that waits for the server's next word.
	err = raw.Control(func(fd uintptr) {
		_, _, peeked = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return err == nil && (errors.Is(peeked, syscall.EAGAIN) || errors.Is(peeked, syscall.EWOULDBLOCK))
}
