//go:build !linux

package app

import (
	"context"
	"net"
)

// quench does nothing: a listener that is closed resets what it has not
// accepted.
func quench(context.Context, net.Listener) {}
