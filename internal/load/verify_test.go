package load

import (
	"testing"
	"testing/synctest"
	"time"

	"catbird/internal/client"
)

// The audit reads back while the load runs, so that the books stay small.
func TestAuditKeepsTheBooksSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		cfg := f.config()
		cfg.Rate, cfg.Duration = 1000, 3*second
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		most := 0
		e.cfg.Progress = func(Progress) { most = max(most, e.convos[0].books.backlog()) }
		r, err := e.Run(t.Context())
		if err != nil || !r.OK() || r.Verification.Messages != 3000 {
			t.Fatalf("%+v, %v", r, err)
		}
		if most == 0 || most > 2000 {
			t.Errorf("up to %d changes waited to be read back", most)
		}
	})
}

// What was read and found right once must read the same in the end.
func TestRowsThatChangeAfterTheyWereRead(t *testing.T) {
	for _, test := range []struct {
		name   string
		want   Kind
		change func(*client.Messages)
	}{
		{"nothing", "", func(*client.Messages) {}},
		{"bytes", Rewritten, func(p *client.Messages) {
			for i := range p.Messages {
				p.Messages[i].Ciphertext = append(client.Bytes{1}, p.Messages[i].Ciphertext[1:]...)
			}
		}},
		{"gone", Rewritten, func(p *client.Messages) { p.Messages, p.LastSeq = nil, 0 }},
		{"one gone", Rewritten, func(p *client.Messages) {
			if len(p.Messages) > 2 {
				p.Messages = p.Messages[1:]
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake()
			e, err := New(f.config())
			if err != nil {
				t.Fatal(err)
			}
			if err := e.prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			e.recorder.begin(time.Now())
			send := func() {
				for n := range int64(150) {
					e.operate(t.Context(), n, time.Now())
				}
			}
			send()
			if err := e.verifier.catchUp(t.Context(), e.convos[0]); err != nil || e.findings.total() != 0 {
				t.Fatalf("%v, %+v", err, e.findings.list)
			}
			send()
			f.after = test.change
			v := e.verify(t.Context())
			if test.want == "" != v.OK() || (test.want != "" && v.Counts[test.want] == 0) {
				t.Errorf("%+v", v)
			}
		})
	}
}
