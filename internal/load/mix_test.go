package load

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"catbird/internal/client"
)

func TestMixIsReadAsItIsWritten(t *testing.T) {
	m, err := ParseMix(" getEpoch=3, sendMessage=70")
	if err != nil || m.String() != "sendMessage=70,getEpoch=3" {
		t.Errorf("%v, %v", m, err)
	}
	if again, err := ParseMix(DefaultMix().String()); err != nil || again.String() != DefaultMix().String() {
		t.Errorf("%v, %v", again, err)
	}
	for _, bad := range []string{"", "sendMessage", "sendMessage=x", "sendMessage=-1", "sendMessage=1,sendMessage=2", "sendMessages=1", "sendMessage=0", "getEpoch=2000000"} {
		if m, err := ParseMix(bad); err == nil {
			t.Errorf("%q is taken for %v", bad, m)
		}
	}
}

func TestMixPicksByWeight(t *testing.T) {
	m := Mix{SendMessage: 3, GetEpoch: 1, Commit: 0}
	rng := rand.New(rand.NewPCG(1, 2))
	counts := map[Op]int{}
	for range 4000 {
		counts[m.pick(rng)]++
	}
	if n := counts[GetEpoch]; n < 900 || n > 1100 || n+counts[SendMessage] != 4000 {
		t.Errorf("%v", counts)
	}
}

func TestConfigIsChecked(t *testing.T) {
	ok := Config{BaseURLs: []string{"http://a.test"}, Token: func(string, string) (string, error) { return "", nil }, Duration: time.Second}
	if _, err := New(ok); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		field  string
		change func(*Config)
	}{
		{"Duration", func(c *Config) { c.Duration = 0 }},
		{"Duration", func(c *Config) { c.Duration = MaxDuration + 1 }},
		{"Rate", func(c *Config) { c.Rate = -1 }},
		{"Rate", func(c *Config) { c.Rate, c.Duration = 1000, MaxDuration }},
		{"Mix", func(c *Config) { c.Mix = Mix{"sing": 1} }},
		{"Conversations", func(c *Config) { c.Conversations = -1 }},
		{"Members", func(c *Config) { c.Members = MaxMembers + 1 }},
		{"Clients", func(c *Config) { c.Clients = MaxClients + 1 }},
		{"Payload", func(c *Config) { c.Payload = "poems" }},
		{"MessageBytes", func(c *Config) { c.MessageBytes = MinMessageBytes - 1 }},
		{"MessageBytes", func(c *Config) { c.MessageBytes = 11 << 20 }},
		{"MessageBytes", func(c *Config) { c.Payload, c.MessageBytes = MLS, 100 }},
		{"Timeout", func(c *Config) { c.Timeout = -1 }},
		{"People", func(c *Config) { c.People = []string{"did:plc:a"} }},
		{"People", func(c *Config) { c.People, c.Members = []string{"did:plc:a", "did:plc:a"}, 1 }},
	} {
		cfg := ok
		test.change(&cfg)
		_, err := New(cfg)
		var bad *ConfigError
		if !errors.As(err, &bad) || bad.Field != test.field || !strings.Contains(err.Error(), bad.Reason) {
			t.Errorf("%s: %v", test.field, err)
		}
	}
	for _, change := range []func(*Config){func(c *Config) { c.BaseURLs = nil }, func(c *Config) { c.BaseURLs = []string{"a.test"} }, func(c *Config) { c.Token = nil }} {
		cfg := ok
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Error("a client that cannot be made is taken")
		}
	}
}

// The same seed makes the same operations, another one others.
func TestSeedDecides(t *testing.T) {
	sequence := func(seed uint64) string {
		f := newFake()
		cfg := f.config()
		cfg.Seed, cfg.Conversations, cfg.Mix = seed, 5, Mix{SendMessage: 1, GetMessages: 1}
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.recorder.begin(time.Now())
		var b strings.Builder
		e.cfg.Observe = func(o Operation) { b.WriteString(string(o.Op) + o.Convo[16:] + " ") }
		for n := range int64(40) {
			e.operate(t.Context(), n, time.Now())
		}
		return b.String()
	}
	if a, b := sequence(7), sequence(7); a != b {
		t.Errorf("one seed made\n%s\nand\n%s", a, b)
	}
	if sequence(7) == sequence(8) {
		t.Error("two seeds made the same")
	}
}

func TestErrorsAreNamed(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&client.Error{Status: 503, Name: "MailboxFull"}, "api 503 MailboxFull"},
		{&client.Error{Status: 502}, "status 502 Bad Gateway"},
		{&client.Error{Status: 500, Name: "\x1b[2J"}, "status 500 Internal Server Error"},
		{&client.UncertainError{Err: &client.ConnectionError{Sent: true, Err: errors.New("?")}}, "transport connection failed, outcome unknown"},
		{errors.New("?"), "client request not made"},
	} {
		if n := NameError(test.err); string(n.Origin)+" "+n.String() != test.want {
			t.Errorf("%v is named %s %s, want %s", test.err, n.Origin, n, test.want)
		}
	}
}
