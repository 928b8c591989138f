package rehearsal

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"catbird/internal/app/apptest"
)

// This test program is the server, too, so that what is rehearsed has the race
// detector where the tests have it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := apptest.Serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		// Rehearsals wait for most of their time: more of them fit on a machine than
		// it has processors.
		if err := flag.Set("test.parallel", "6"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// program returns this program.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}
