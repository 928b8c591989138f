//go:build broken

package broken

import "sync/atomic"

var current atomic.Int32

// Is reports whether v is switched on. It may be called from any goroutine.
func Is(v Variant) bool { return Variant(current.Load()) == v }

// Set switches v on, and whatever was on off. None switches all off. It must
// not be called while a service runs.
func Set(v Variant) { current.Store(int32(v)) }
