package ctl

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"catbird/operator"
)

func pointer[T any](v T) *T { return &v }

// three is a cluster in trouble: b leaves, c does not answer.
func three() operator.ClusterView {
	return operator.ClusterView{
		Node: "a", Ring: operator.Ring{Partitions: 200, Version: 0xabc},
		Members: []operator.Member{
			{
				Name: "a", Address: "10.0.0.1:8081", State: "ready", ActorsEnabled: true, RolloutPercent: 50, Version: "v1", Partitions: 120,
				ActiveActors: pointer(7), RingVersion: pointer[uint64](0xabc), Checks: &operator.Checks{Database: "healthy", Redis: "healthy", Cluster: "3 members"},
			},
			{
				Name: "b", Address: "10.0.0.2:8081", State: "leaving", Version: "v1",
				ActiveActors: pointer(2), RingVersion: pointer[uint64](0xdef), Checks: &operator.Checks{Database: "healthy", Redis: "unreachable"},
			},
			{Name: "c", Address: "10.0.0.3:8081", State: "ready", ActorsEnabled: true, RolloutPercent: 100, Version: "v2", Partitions: 80},
		},
	}
}

func TestClusterTables(t *testing.T) {
	held := &operator.Hold{Node: "b", Session: "s", Fence: 3}
	for _, test := range []struct {
		name  string
		write func(w *bytes.Buffer) error
		want  string
	}{
		{"nodes", func(w *bytes.Buffer) error { return Nodes(w, three()) }, `
NODE  STATE    HEALTH     FLAG     ACTORS  PARTITIONS  RING   VERSION  ADDRESS
a *   ready    healthy    on 50%   7       120         same   v1       10.0.0.1:8081
b     leaving  no redis   off      2       0           other  v1       10.0.0.2:8081
c     ready    no answer  on 100%  -       80          -      v2       10.0.0.3:8081
`},
		{"ring", func(w *bytes.Buffer) error { return Ring(w, RingOf(three())) }, `
partitions  200
version     abc
agreed by   1 of 3 nodes

NODE  STATE    PARTITIONS  SHARE  OF MEAN  RING
a     ready    120         60.0%  1.20     abc
b     leaving  0           0.0%   0.00     def
c     ready    80          40.0%  0.80     -
`},
		{"empty ring", func(w *bytes.Buffer) error { return Ring(w, RingOf(operator.ClusterView{})) }, `
partitions  0
version     0
agreed by   0 of 0 nodes

NODE  STATE  PARTITIONS  SHARE  OF MEAN  RING
`},
		{"owner", func(w *bytes.Buffer) error {
			return Owner(w, operator.Ownership{Convo: "ab", Partition: 5, ShouldOwn: "b", Lease: held, Claim: held})
		}, `
conversation  ab
partition     5
ring          b
lease         b, fence 3, session s
claim         b, fence 3, session s

b holds it, as the ring says.
`},
		{"owner without Redis", func(w *bytes.Buffer) error {
			return Owner(w, operator.Ownership{Convo: "ab", LeaseUnknown: true})
		}, `
conversation  ab
partition     0
ring          nobody
lease         unknown: Redis did not answer
claim         nobody

Nobody holds it, and the ring is empty.
`},
		{"flags of all", func(w *bytes.Buffer) error {
			return FlagsOfAll(w, []NodeFlags{{"a", operator.Flags{ActorSystem: true, RolloutPercent: 5}}, {"b", operator.Flags{}}})
		}, `
NODE  ACTOR SYSTEM  ROLLOUT
a     on            5%
b     off           0%
`},
		{"what a terminal would obey", func(w *bytes.Buffer) error {
			return Nodes(w, operator.ClusterView{Members: []operator.Member{{Name: "a\x1b[2J\nb\u009b", State: "ready"}}})
		}, `
NODE      STATE  HEALTH     FLAG  ACTORS  PARTITIONS  RING  VERSION  ADDRESS
a�[2J�b�  ready  no answer  off   -       0           -              
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := test.write(&out); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + out.String(); got != test.want {
				t.Errorf("wrote%s\nwant%s", got, test.want)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	b, other := &operator.Hold{Node: "b", Session: "s"}, &operator.Hold{Node: "b", Session: "older"}
	for _, test := range []struct {
		o    operator.Ownership
		want string
	}{
		{operator.Ownership{ShouldOwn: "a"}, "Nobody holds it. The ring gives it to a."},
		{operator.Ownership{ShouldOwn: "a", Lease: b}, "Nobody holds it. The ring gives it to a."},
		{operator.Ownership{ShouldOwn: "b", Claim: b}, "b holds it, as the ring says."},
		{operator.Ownership{ShouldOwn: "a", Claim: b, Lease: b}, "b holds it although the ring names a: it is on the move, or a does not serve it by actors."},
		{operator.Ownership{ShouldOwn: "b", Claim: b, Lease: other}, "b holds it. The lease is behind: it costs a detour, the claim counts."},
		{operator.Ownership{Claim: b}, "b holds it. The ring is empty."},
	} {
		if got := verdict(test.o); got != test.want {
			t.Errorf("%+v: %q, want %q", test.o, got, test.want)
		}
	}
}

func TestFrame(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := Look{At: at, Seen: at, Base: "http://a:8081", View: three()}
	for _, test := range []struct {
		name          string
		width, height int
		err           error
		want          string
	}{
		{"all", 120, 30, nil, `
catbird  3 members: 2 ready, 1 leaving, 1 without an answer
ring abc of 200 partitions, agreed by 1 of 3; 9 active actors

NODE  STATE    HEALTH     ACTORS  PARTITIONS                FLAG     VERSION  ADDRESS
a *   ready    healthy    7       120         ████████████  on 50%   v1       10.0.0.1:8081
b     leaving  no redis   2       0                         off      v1       10.0.0.2:8081
c     ready    no answer  -       80          ████████      on 100%  v2       10.0.0.3:8081

asked a at http://a:8081, 03:04:05    q quits
`},
		{"narrow", 30, 30, nil, `
catbird  3 members: 2 ready, 1
ring abc of 200 partitions, ag

NODE  STATE    HEALTH     ACTO
a *   ready    healthy    7   
b     leaving  no redis   2   
c     ready    no answer  -   

asked a at http://a:8081, 03:0
`},
		{"low and lost: trouble first", 70, 9, errors.New("gone"), `
catbird  3 members: 2 ready, 1 leaving, 1 without an answer
ring abc of 200 partitions, agreed by 1 of 3; 9 active actors

NODE  STATE    HEALTH    ACTORS  PARTITIONS    FLAG  VERSION  ADDRESS
b     leaving  no redis  2       0             off   v1       10.0.0.2
… and 2 more

asked a at http://a:8081, 03:04:05    q quits
seen at 03:04:05; since then: gone
`},
		{"hardly a screen", 10, 2, nil, `
catbird  3
ring abc o
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := l
			l.Err = test.err
			if got := "\n" + strings.Join(l.Frame(test.width, test.height, false), "\n") + "\n"; got != test.want {
				t.Errorf("shows%s\nwant%s", got, test.want)
			}
		})
	}
}

// Whatever the size, a frame fits; colours take no room.
func TestFrameFits(t *testing.T) {
	l := Look{View: three(), Err: errors.New("gone")}
	for width := range 100 {
		for height := range 15 {
			bare, painted := l.Frame(width, height, false), l.Frame(width, height, true)
			if len(bare) > height || len(painted) != len(bare) {
				t.Fatalf("%d and %d lines on a screen of %d", len(bare), len(painted), height)
			}
			for i, line := range bare {
				if n := utf8.RuneCountInString(line); n > width || strings.Contains(line, "\x1b") {
					t.Fatalf("a line of %d on a screen of %d: %q", n, width, line)
				}
				if strip(painted[i]) != line {
					t.Fatalf("painted %q, bare %q", painted[i], line)
				}
			}
		}
	}
}

// strip takes the colours out.
func strip(s string) string {
	for {
		before, rest, ok := strings.Cut(s, "\x1b[")
		if !ok {
			return s
		}
		_, after, _ := strings.Cut(rest, "m")
		s = before + after
	}
}

func TestBar(t *testing.T) {
	for n, want := range map[int]string{0: "", 1: "▏", 48: "██████", 95: "███████████▉", 96: "████████████"} {
		if got := bar(n, 96); got != want {
			t.Errorf("%d of 96 is %q, want %q", n, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	answers := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	well, refuses := answers(http.StatusOK), answers(http.StatusUnauthorized)
	for _, test := range []struct {
		name   string
		bases  []string
		want   string
		reason string
	}{
		{"one is not asked", []string{gone.URL}, gone.URL, ""},
		{"the first", []string{well, refuses}, well, ""},
		{"the first that answers", []string{gone.URL, " " + well + " ", refuses}, well, ""},
		{"a refusal is an answer", []string{gone.URL, refuses, well}, refuses, ""},
		{"none", []string{gone.URL, gone.URL}, "", "no node answers: the node at " + gone.URL + " cannot be reached: connection refused; the node at"},
		{"nothing", []string{"", " "}, "", "no node is named"},
		{"nonsense is not passed over", []string{well, "nonsense"}, "", "http://host:8081"},
	} {
		t.Run(test.name, func(t *testing.T) {
			transport := &http.Transport{DisableKeepAlives: true}
			c, err := Choose(t.Context(), test.bases, "", &http.Client{Transport: transport})
			if test.want != "" && (err != nil || c.Base() != test.want) {
				t.Errorf("chose %v, %v, want %s", c, err, test.want)
			}
			if test.want == "" && (err == nil || !strings.Contains(err.Error(), test.reason) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("err = %v, want %q", err, test.reason)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hangs.Close()
	defer close(release)
	breaks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("{"))
	}))
	defer breaks.Close()
	quit, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted"))
	for _, test := range []struct {
		name, base string
		ctx        context.Context
		limit      time.Duration
		want       string
	}{
		{"hangs", hangs.URL, t.Context(), 20 * time.Millisecond, "no answer in time"},
		{"breaks off", breaks.URL, t.Context(), 0, "unexpected EOF"},
		{"nobody there", "http://127.0.0.1:1", t.Context(), 0, "connection refused"},
		{"no such host", "http://nowhere.invalid:1", t.Context(), 0, "nowhere.invalid"},
		{"given up", hangs.URL, quit, 0, "interrupted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := NewClient(test.base, "", &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: test.limit})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Node(test.ctx)
			var none *UnreachableError
			if !errors.As(err, &none) || none.Base != test.base || !strings.Contains(err.Error(), test.want) || strings.Count(err.Error(), test.base) != 1 {
				t.Errorf("err = %v, want %q", err, test.want)
			}
		})
	}
}

func TestAt(t *testing.T) {
	asked := make(chan string, 1)
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization")
		_, _ = w.Write([]byte(`{"name":"b"}`))
	}))
	defer other.Close()
	a, err := NewClient("https://a:8081", "s3cret", other.Client())
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.At(strings.TrimPrefix(other.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := b.Node(t.Context()); err != nil || s.Name != "b" || <-asked != "Bearer s3cret" {
		t.Errorf("the other node says %+v, %v", s, err)
	}
	if _, err := a.At(""); err == nil {
		t.Error("no address was taken for one")
	}
}
