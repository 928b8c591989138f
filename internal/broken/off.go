//go:build !broken

package broken

// Is reports whether v is switched on: never, in this build.
func Is(Variant) bool { return false }
