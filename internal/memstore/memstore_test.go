package memstore_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"catbird/conversation"
	"catbird/internal/memstore"
	"catbird/persistence"
	"catbird/persistence/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is what both sides of the comparison do.
type store interface {
	persistence.Sessions
	persistence.Claims
	persistence.Appends
	Epoch(ctx context.Context, convo, caller string) (int64, error)
}

// TestDoesWhatADatabaseDoes lets this store and a real one do the same random
// things, and compares every answer.
func TestDoesWhatADatabaseDoes(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			real, err := sqlite.Open(t.Context(), sqlite.Config{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := real.Close(); err != nil {
					t.Error(err)
				}
			})
			if err := real.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			w := &twins{t: t, mem: memstore.New(), real: real, rnd: rand.New(rand.NewPCG(seed, 0))}
			w.create()
			for range 400 {
				w.step()
			}
			w.compareUnread()
		})
	}
}

var people = []string{"did:plc:alice", "did:plc:bob", "did:plc:carol", "did:plc:dave"}

const convos = 3

func convoID(n int) string { return fmt.Sprintf("%02x", n) }

// twins are the two stores, and what was learned from them.
type twins struct {
	t    *testing.T
	mem  *memstore.Store
	real *sqlite.Store
	rnd  *rand.Rand

	sessions []string
	claims   [convos][]persistence.Claimed // granted, newest last
	requests []*conversation.Request
	packages int
	n        int
}

func (w *twins) id() string {
	w.n++
	return fmt.Sprintf("id-%d", w.n)
}

// both does the same on both stores and compares what came of it.
func both[T any](w *twins, what string, do func(s store) (T, error)) T {
	w.t.Helper()
	m, merr := do(w.mem)
	r, rerr := do(w.real)
	if !reflect.DeepEqual(m, r) {
		w.t.Fatalf("%s: memory gave %+v, the database %+v", what, m, r)
	}
	if kind(merr) != kind(rerr) {
		w.t.Fatalf("%s: memory gave error %v, the database %v", what, merr, rerr)
	}
	return m
}

func kind(err error) string {
	var held *persistence.HeldError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &held):
		return fmt.Sprint("held ", held.Holder)
	case errors.Is(err, persistence.ErrSessionOver):
		return "over"
	case conversation.CodeOf(err) != "":
		return string(conversation.CodeOf(err))
	default:
		return "fault " + err.Error()
	}
}

func nothing(err error) (struct{}, error) { return struct{}{}, err }

func (w *twins) create() {
	for i := range convos {
		creation := conversation.Creation{Creator: people[0], Initial: people[1:2], CipherSuite: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"}
		r := &conversation.Request{ID: w.id(), Convo: convoID(i), Caller: people[0], Digest: []byte("d")}
		_, u, err := creation.Create(w.env(), r)
		if err != nil {
			w.t.Fatal(err)
		}
		for range 2 { // the second repeats
			both(w, "create", func(s store) (string, error) {
				response, repeated, err := s.Create(w.t.Context(), persistence.CreateRequest{Request: r, Creation: creation, Unit: u, Response: []byte("response")})
				if !repeated { // what was asked to be stored is no news
					return "stored", err
				}
				return string(response), err
			})
		}
	}
}

func (w *twins) env() conversation.Env {
	return conversation.Env{Now: time.Unix(int64(w.n), 0).UTC(), Policy: conversation.DefaultPolicy()}
}

func (w *twins) step() {
	ctx := w.t.Context()
	i := w.rnd.IntN(convos)
	id, who := convoID(i), people[w.rnd.IntN(len(people))]
	switch w.rnd.IntN(16) {
	case 0:
		s := persistence.Session{ID: w.id(), Node: "n", Address: "a", TTL: time.Second}
		w.sessions = append(w.sessions, s.ID)
		both(w, "start session", func(st store) (struct{}, error) { return nothing(st.StartSession(ctx, s)) })
	case 1:
		if session := w.session(); w.rnd.IntN(3) > 0 {
			both(w, "renew", func(s store) (struct{}, error) { return nothing(s.RenewSession(ctx, session)) })
		} else if w.rnd.IntN(2) == 0 {
			both(w, "end", func(s store) (struct{}, error) { return nothing(s.EndSession(ctx, session)) })
		} else {
			seen := int64(w.rnd.IntN(2))
			both(w, "end stalled", func(s store) (bool, error) { return s.EndStalled(ctx, session, seen) })
		}
		both(w, "live sessions", func(s store) ([]persistence.Session, error) { return s.LiveSessions(ctx) })
	case 2, 3, 4:
		w.claim(i, w.session())
	case 5:
		session := w.session()
		if got := w.claims[i]; len(got) > 0 {
			claims := []persistence.Claim{{Convo: id, Fence: got[w.rnd.IntN(len(got))].Fence}, {Convo: "none", Fence: 1}}
			both(w, "release", func(s store) (struct{}, error) { return nothing(s.Release(ctx, session, claims)) })
		}
	case 6, 7, 8, 9:
		w.append(i)
	case 10, 11:
		r := w.request(id, who)
		both(w, "direct "+string(r.Command.Op()), func(s store) (conversation.Result, error) { return s.Direct(ctx, w.session0(), r, w.env()) })
	case 12:
		if len(w.requests) > 0 {
			r := w.requests[w.rnd.IntN(len(w.requests))]
			got := both(w, "lookup", func(s store) ([]conversation.Earlier, error) {
				found, err := s.Lookup(ctx, []string{r.Convo, id}, []persistence.Ref{persistence.RefOf(r), {ID: "none", Caller: who, Endpoint: conversation.OpSend, Key: "k1"}})
				return plain(found), err
			})
			if len(got) != 2 {
				w.t.Fatalf("%d answers", len(got))
			}
		}
	case 13:
		both(w, "epoch", func(s store) (int64, error) { return s.Epoch(ctx, id, who) })
		both(w, "epoch of nothing", func(s store) (int64, error) { return s.Epoch(ctx, "none", who) })
	case 14:
		if w.rnd.IntN(2) == 0 {
			both(w, "fold", func(s store) (struct{}, error) { return nothing(s.Fold(ctx, []string{id, "none"})) })
		} else {
			seq := int64(w.rnd.IntN(20))
			both(w, "reset", func(s store) (struct{}, error) { return nothing(s.ResetUnread(ctx, id, who, seq)) })
		}
		w.compareUnread()
	case 15:
		session := w.session()
		both(w, "want", func(s store) (struct{}, error) { return nothing(s.Want(ctx, session, id)) })
		if w.rnd.IntN(2) == 0 {
			both(w, "wanted", func(s store) ([]string, error) { return s.Wanted(ctx, session) })
		}
	}
}

// session is one of those there were, or none.
func (w *twins) session() string {
	if len(w.sessions) == 0 || w.rnd.IntN(10) == 0 {
		return "none"
	}
	return w.sessions[max(0, len(w.sessions)-1-w.rnd.IntN(3))]
}

// session0 is the same for both calls of a comparison.
func (w *twins) session0() string {
	if len(w.sessions) == 0 {
		return ""
	}
	return w.sessions[0]
}

func (w *twins) claim(i int, session string) {
	got := both(w, "claim", func(s store) ([]persistence.Claimed, error) {
		got, err := s.Claim(w.t.Context(), session, []string{convoID(i), "none"})
		return got, err
	})
	if len(got) > 0 && got[0].Outcome == persistence.ClaimGranted {
		w.claims[i] = append(w.claims[i], got[0])
	}
}

// append stores a unit built on a claim, mostly the newest.
func (w *twins) append(i int) {
	got := w.claims[i]
	if len(got) == 0 {
		return
	}
	c := &got[len(got)-1]
	if w.rnd.IntN(10) == 0 {
		c = &got[w.rnd.IntN(len(got))]
	}
	u, state := conversation.NewUnit(convoID(i), c.State, c.Fence), c.State
	for range 1 + w.rnd.IntN(3) {
		r := w.request(convoID(i), people[w.rnd.IntN(len(people))])
		ch, next, err := conversation.Decide(w.env(), state, r)
		if err != nil || len(ch.KeyPackages) > 0 && !u.Empty() || len(u.IDs) > 0 && u.IDs[0] == r.ID {
			continue
		}
		u.Add(ch, next)
		state = next
		if len(ch.KeyPackages) > 0 {
			break
		}
	}
	if u.Empty() || repeats(u) {
		return
	}
	out := both(w, fmt.Sprintf("append %+v", u), func(s store) ([]persistence.AppendOutcome, error) {
		return s.Append(w.t.Context(), []*conversation.Unit{u})
	})
	if out[0] == persistence.Appended {
		c.State = state
	}
}

// repeats reports whether a unit holds an id or a key twice, which actors never
// make.
func repeats(u *conversation.Unit) bool {
	seen := map[string]bool{}
	for _, id := range u.IDs {
		if seen[id] {
			return true
		}
		seen[id] = true
	}
	for _, r := range u.Records {
		k := r.Caller + string(r.Endpoint) + r.Key
		if r.Key != "" && seen[k] {
			return true
		}
		seen[k] = true
	}
	return false
}

// request is a change, sometimes one there was.
func (w *twins) request(convo, caller string) *conversation.Request {
	if len(w.requests) > 0 && w.rnd.IntN(10) == 0 {
		r := *w.requests[w.rnd.IntN(len(w.requests))]
		if r.Convo == convo {
			return &r
		}
	}
	epoch := w.mem.State(convo).Epoch
	who := people[w.rnd.IntN(len(people))]
	var c conversation.Command
	switch w.rnd.IntN(6) {
	case 0:
		c = conversation.AddMembers{DIDs: []string{who}, KeyPackages: w.keyPackage(who)}
	case 1:
		c = conversation.Leave{Target: who}
	case 2:
		c = conversation.Commit{Commit: []byte("c")}
	default:
		c = conversation.Send{Epoch: epoch, Ciphertext: []byte("x")}
	}
	r := &conversation.Request{ID: w.id(), Convo: convo, Caller: caller, Command: c, Digest: conversation.DigestOf(c)}
	if w.rnd.IntN(4) == 0 {
		r.Key = fmt.Sprint("k", w.rnd.IntN(4))
	}
	w.requests = append(w.requests, r)
	return r
}

// keyPackage is none, or one that was published or that never was.
func (w *twins) keyPackage(did string) []conversation.KeyPackageRef {
	switch w.rnd.IntN(3) {
	case 0:
		return nil
	case 1:
		return []conversation.KeyPackageRef{{DID: did, Hash: make([]byte, 32)}}
	}
	w.packages++
	data := fmt.Appendf(nil, "key package %d", w.packages)
	hash := sha256.Sum256(data)
	k := persistence.KeyPackage{
		DID: did, CipherSuite: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", Data: data, Hash: hash[:], Expires: time.Now().Add(time.Hour),
	}
	r := &conversation.Request{ID: w.id(), Caller: did}
	if err := w.real.PublishKeyPackage(w.t.Context(), r, k, 1000); err != nil {
		w.t.Fatal(err)
	}
	w.mem.AddKeyPackage(did, hash[:])
	return []conversation.KeyPackageRef{{DID: did, Hash: hash[:]}}
}

// compareUnread compares what is unread once all is folded.
func (w *twins) compareUnread() {
	for i := range convos {
		both(w, "fold", func(s store) (struct{}, error) { return nothing(s.Fold(w.t.Context(), []string{convoID(i)})) })
		for _, did := range w.mem.State(convoID(i)).Members.List() {
			v, err := w.real.Convo(w.t.Context(), convoID(i), did)
			if err != nil {
				w.t.Fatal(err)
			}
			if got := w.mem.Unread(convoID(i), did); got != v.Unread {
				w.t.Fatalf("%s in %s: memory has %d unread, the database %d", did, convoID(i), got, v.Unread)
			}
		}
		if err := w.mem.Check(convoID(i)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func plain(found []*conversation.Earlier) []conversation.Earlier {
	out := make([]conversation.Earlier, len(found))
	for i, e := range found {
		if e != nil {
			out[i] = *e
		}
	}
	return out
}

// TestFates says what each fate does to a statement and tells of it.
func TestFates(t *testing.T) {
	tests := []struct {
		name    string
		fault   memstore.Fault
		err     error // of a change
		ran     bool  // when the caller knows
		runs    bool  // in the end
		took    time.Duration
		panics  bool
		readErr error
	}{
		{"none", memstore.Fault{}, nil, true, true, 0, false, nil},
		{"late", memstore.Fault{Before: time.Second, After: time.Second}, nil, true, true, 2 * time.Second, false, nil},
		{"reply lost", memstore.Fault{Fate: memstore.ReplyLost}, persistence.ErrOutcomeUnknown, true, true, 0, false, persistence.ErrUnavailable},
		{"request lost", memstore.Fault{Fate: memstore.RequestLost}, persistence.ErrOutcomeUnknown, false, false, 0, false, persistence.ErrUnavailable},
		{"runs later", memstore.Fault{Fate: memstore.RunsLater, Before: time.Second}, persistence.ErrOutcomeUnknown, false, true, 0, false, persistence.ErrUnavailable},
		{"refused", memstore.Fault{Fate: memstore.Refused}, persistence.ErrUnavailable, false, false, 0, false, persistence.ErrUnavailable},
		{"caller gives up", memstore.Fault{Before: time.Minute}, persistence.ErrOutcomeUnknown, false, true, 10 * time.Second, false, persistence.ErrUnavailable},
		{"caller gives up on the reply", memstore.Fault{After: time.Minute}, persistence.ErrOutcomeUnknown, true, true, 10 * time.Second, false, persistence.ErrUnavailable},
		{"panics before", memstore.Fault{Fate: memstore.PanicsBefore}, nil, false, false, 0, true, nil},
		{"panics after", memstore.Fault{Fate: memstore.PanicsAfter}, nil, true, true, 0, true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memstore.New()
				s.Seed("01", people[0])
				told := 0
				s.OnCommit(func(id string, st conversation.State) {
					if id != "01" || st.Epoch != 1 {
						t.Errorf("told of %s, %+v", id, st)
					}
					told++
				})
				s.SetFaults(func(memstore.Call) memstore.Fault { return tt.fault })
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				begin := time.Now()
				err := catch(func() error {
					c := conversation.Commit{Commit: []byte("c")}
					r := &conversation.Request{ID: "x", Convo: "01", Caller: people[0], Command: c}
					_, err := s.Direct(ctx, "", r, conversation.Env{Policy: conversation.DefaultPolicy()})
					return err
				})
				if panicked := errors.Is(err, errPanic); panicked != tt.panics || !panicked && !errors.Is(err, tt.err) {
					t.Errorf("error %v", err)
				}
				if took := time.Since(begin); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				synctest.Wait()
				if ran := s.State("01").Epoch == 1; ran != tt.ran {
					t.Errorf("ran %v, want %v", ran, tt.ran)
				}
				s.Wait()
				if runs := s.State("01").Epoch == 1 && told == 1; runs != tt.runs {
					t.Errorf("runs in the end %v, told %d times; want %v", runs, told, tt.runs)
				}
				if tt.panics {
					return
				}
				read, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if _, err := s.Epoch(read, "01", people[0]); !errors.Is(err, tt.readErr) || errors.Is(err, persistence.ErrOutcomeUnknown) {
					t.Errorf("a read gave %v", err)
				}
				s.Wait()
			})
		})
	}
}

var errPanic = errors.New("panicked")

func catch(f func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errPanic
		}
	}()
	return f()
}
