package dev

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails when goroutines are left over. The gossip library does not
// wait for its own after a shutdown: a probe may take a few seconds to end.
func TestMain(m *testing.M) {
	code := m.Run()
	var err error
	for range 10 { // each look takes up to half a second
		if err = goleak.Find(); err == nil {
			break
		}
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines left over:", err)
		code = 1
	}
	os.Exit(code)
}
