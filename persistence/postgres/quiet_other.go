//go:build !unix

package postgres

import "net"

// quiet cannot look at a socket here; a stale connection shows when it is used.
func quiet(net.Conn) bool { return true }
