package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"catbird/internal/chaos"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatCannotBeUsedIsTold(t *testing.T) {
	for _, test := range []struct{ flag, want string }{
		{"--seed=seven", `"seven" is no number`},
		{"--seconds=-1", "seconds"},
		{"--topics=0", "topics"},
		{"--only=freeze,earthquake", `"earthquake" is no kind of fault`},
		{"--no-such-flag", "unknown flag"},
	} {
		var out, errOut bytes.Buffer
		if code := run([]string{test.flag, "--dir=" + t.TempDir()}, &out, &errOut); code != 2 || !strings.Contains(errOut.String(), test.want) {
			t.Errorf("%s: exit %d, said %q, want 2 and %q", test.flag, code, errOut.String(), test.want)
		}
	}
}

func TestSettings(t *testing.T) {
	f := flags{Seconds: 30, Seed: "7", Only: []chaos.Kind{chaos.Freeze}, Topics: 3, Clients: 4, Pace: time.Second, Lease: time.Second}
	opt, err := f.options(nil)
	if err != nil || opt.Seed != 7 || opt.For != 30*time.Second || opt.Topics != 3 || opt.Clients != 4 || len(opt.Kinds) != 1 {
		t.Errorf("options %+v, %v", opt, err)
	}
	if !strings.HasSuffix(filepath.Base(opt.Dir), "-7") {
		t.Errorf("the report goes to %s, which does not name the seed", opt.Dir)
	}
	f.Seed = ""
	first, err1 := f.options(nil)
	second, err2 := f.options(nil)
	if err1 != nil || err2 != nil || first.Seed == second.Seed {
		t.Errorf("two runs have the seeds %d and %d: %v, %v", first.Seed, second.Seed, err1, err2)
	}
}
