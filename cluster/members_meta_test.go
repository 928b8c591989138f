package cluster

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"
)

var printable = &unicode.RangeTable{R16: []unicode.Range16{{Lo: '!', Hi: '~', Stride: 1}}, LatinOffset: 1}

var anyLife = rapid.Custom(func(t *rapid.T) life {
	text := func(label string, lo, hi int) string {
		return rapid.StringOfN(rapid.RuneFrom(nil, printable), lo, hi, hi).Draw(t, label)
	}
	return life{
		unsure: rapid.Bool().Draw(t, "unsure"),
		Member: Member{
			Name:            text("name", 1, maxName),
			Started:         lifeStart(time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "started"))),
			State:           rapid.SampledFrom(memberStates[:]).Draw(t, "state"),
			InternalAddress: text("host", 1, 200) + ":8081",
			ActorsEnabled:   rapid.Bool().Draw(t, "actors"),
			RolloutPercent:  rapid.IntRange(0, 100).Draw(t, "percent"),
			Version:         text("version", 0, maxVersion),
		},
	}
})

func TestMetadataRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := anyLife.Filter(func(l life) bool { return l.check() == nil }).Draw(t, "life")
		meta := l.encode()
		if len(meta) > metaMaxSize {
			t.Fatalf("%d bytes", len(meta))
		}
		got, err := decodeLife(meta)
		if err != nil || got != l {
			t.Fatalf("decoded %+v, %v", got, err)
		}
		// a newer node says more
		meta = append(meta, 200, 3, 1, 2, 3)
		if len(meta) <= metaMaxSize {
			if got, err = decodeLife(meta); err != nil || got != l {
				t.Fatalf("with an unknown field decoded %+v, %v", got, err)
			}
		}
	})
}

func TestMetadataFitsAtItsLongest(t *testing.T) {
	t.Parallel()
	l := life{Member: Member{
		Name: strings.Repeat("n", maxName), InternalAddress: strings.Repeat("h", maxAddress-5) + ":8081",
		Version: strings.Repeat("v", 200), Started: lifeStart(time.Now()), State: Ready, RolloutPercent: 100,
	}}
	if err := l.check(); err != nil {
		t.Fatal(err)
	}
	if n := len(l.encode()); n > metaMaxSize {
		t.Errorf("%d bytes", n)
	}
}

func FuzzDecodeLife(f *testing.F) {
	f.Add(life{Member: Member{Name: "a", Started: time.Now(), State: Ready, InternalAddress: "h:1"}}.encode())
	f.Add([]byte{metaMark, tagStarted, 8, 255, 255, 255, 255, 255, 255, 255, 255, tagName, 1, 'a', tagState, 1, 9})
	f.Add([]byte{metaMark, tagName, 255})
	f.Fuzz(func(t *testing.T, meta []byte) {
		l, err := decodeLife(meta)
		if err != nil {
			return
		}
		if err := l.check(); err != nil {
			t.Fatalf("decoded what is not valid: %v", err)
		}
		l.Version = l.Version[:min(len(l.Version), maxVersion)]
		again, err := decodeLife(l.encode())
		if err != nil || again != l {
			t.Fatalf("%+v came back as %+v, %v", l, again, err)
		}
	})
}

func TestDecodeLifeRefuses(t *testing.T) {
	t.Parallel()
	good := life{Member: Member{Name: "a", Started: time.Now(), State: Ready, InternalAddress: "h:1"}}
	alter := func(f func(*life)) []byte { l := good; f(&l); return l.encode() }
	for name, meta := range map[string][]byte{
		"empty":              nil,
		"another mark":       append([]byte{1}, good.encode()[1:]...),
		"too long":           append(good.encode(), bytes.Repeat([]byte{200, 0}, 300)...),
		"cut off":            good.encode()[:len(good.encode())-1],
		"no name":            alter(func(l *life) { l.Name = "" }),
		"control in name":    alter(func(l *life) { l.Name = "a\x1b[2J" }),
		"no start":           {metaMark, tagName, 1, 'a', tagState, 1, 2},
		"no state":           {metaMark, tagName, 1, 'a', tagStarted, 8, 0, 0, 1, 0, 0, 0, 0, 0},
		"short start":        {metaMark, tagStarted, 2, 0, 0},
		"empty state":        {metaMark, tagState, 0},
		"start in year 3000": alter(func(l *life) { l.Started = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"address":            alter(func(l *life) { l.InternalAddress = "h:1/../x" }),
	} {
		if l, err := decodeLife(meta); err == nil {
			t.Errorf("%s: decoded %+v", name, l)
		}
	}
	l, err := decodeLife(alter(func(l *life) { l.State = 77; l.RolloutPercent = 200 }))
	if err != nil || l.State != Joining || l.RolloutPercent != 100 {
		t.Errorf("a newer node's state: %+v, %v", l, err)
	}
}

func TestOutranks(t *testing.T) {
	t.Parallel()
	at := func(s int, unsure bool) life {
		return life{Member: Member{Started: time.Unix(int64(s), 0)}, unsure: unsure}
	}
	for _, test := range []struct {
		a, b life
		want bool
	}{
		{at(2, false), at(1, false), true},
		{at(1, false), at(2, true), true},
		{at(2, true), at(1, true), true},
		{at(1, false), at(1, false), true}, // by name
	} {
		if got := test.a.outranks("y", test.b, "x"); got != test.want {
			t.Errorf("%+v outranks %+v: %v", test.a, test.b, got)
		}
		if test.b.outranks("x", test.a, "y") {
			t.Errorf("%+v and %+v outrank each other", test.a, test.b)
		}
	}
}

func TestParseGossipKeys(t *testing.T) {
	t.Parallel()
	k16, k24, k32 := bytes.Repeat([]byte{0xfb}, 16), bytes.Repeat([]byte{0xef}, 24), bytes.Repeat([]byte{3}, 32)
	list := strings.Join([]string{
		base64.StdEncoding.EncodeToString(k16), base64.RawURLEncoding.EncodeToString(k24), " " + hex.EncodeToString(k32),
		strings.ToUpper(hex.EncodeToString(k16)), base64.RawStdEncoding.EncodeToString(k32), "",
	}, ",")
	keys, err := ParseGossipKeys(list)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]byte{k16, k24, k32, k16, k32} {
		if !bytes.Equal(keys[i], want) {
			t.Errorf("key %d is %x, not %x", i, keys[i], want)
		}
	}
	if len(keys) != 5 {
		t.Errorf("%d keys", len(keys))
	}
	if keys, err := ParseGossipKeys(""); err != nil || keys != nil {
		t.Errorf("of nothing: %v, %v", keys, err)
	}
	for _, bad := range []string{"secret", "c2VjcmV0", hex.EncodeToString(k16)[:31], "!" + list} {
		if _, err := ParseGossipKeys(bad); err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSplitAddress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in, host string
		port     int
	}{
		{"h", "h", 7},
		{"h:9", "h", 9},
		{"10.0.0.1", "10.0.0.1", 7},
		{"10.0.0.1:9", "10.0.0.1", 9},
		{"fd00::1", "fd00::1", 7},
		{"[fd00::1]", "fd00::1", 7},
		{"[fd00::1]:9", "fd00::1", 9},
	} {
		host, port, err := splitAddress(test.in, 7)
		if err != nil || host != test.host || port != test.port {
			t.Errorf("%s: %s, %d, %v", test.in, host, port, err)
		}
	}
	for _, bad := range []string{"", ":9", "h:", "h:x", "h:0", "h:70000", "a:b:c", "[::1"} {
		if host, port, err := splitAddress(bad, 7); err == nil {
			t.Errorf("%q: %s, %d", bad, host, port)
		}
	}
}

func TestLikeliestAddress(t *testing.T) {
	t.Parallel()
	addrs := func(texts ...string) []net.Addr {
		var out []net.Addr
		for _, text := range texts {
			ip, network, err := net.ParseCIDR(text)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, &net.IPNet{IP: ip, Mask: network.Mask})
		}
		return out
	}
	for _, test := range []struct {
		addrs []net.Addr
		want  string
	}{
		{addrs("127.0.0.1/8", "::1/128", "8.8.8.8/24", "10.1.2.3/16", "fd00::5/64", "fe80::1/64"), "10.1.2.3"},
		{addrs("127.0.0.1/8", "8.8.8.8/24", "fd00::5/64"), "fd00::5"},
		{addrs("127.0.0.1/8", "2001:db8::1/64", "8.8.8.8/24"), "8.8.8.8"},
		{addrs("::1/128", "127.0.0.1/8"), "127.0.0.1"},
		{addrs("fe80::1/64"), ""},
	} {
		got, ok := likeliest(test.addrs)
		if ok != (test.want != "") || ok && got.String() != test.want {
			t.Errorf("of %v: %v, %v", test.addrs, got, ok)
		}
	}
}

func TestLibraryLogLevels(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := newLibraryLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})))
	l.Printf("[DEBUG] memberlist: not shown")
	l.Printf("[INFO] memberlist: one")
	l.Printf("[WARN] memberlist: two %d", 2)
	l.Printf("[ERR] memberlist: three")
	l.Printf("four")
	for _, want := range []string{"level=INFO msg=one", `level=WARN msg="two 2"`, "level=WARN msg=three", "level=WARN msg=four"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "not shown") {
		t.Errorf("debug is shown:\n%s", out.String())
	}
}
